/** Sends what an outbox has to tell, and sees to what became of it. */
import { Code, ConnectError, type CallOptions, type Client } from '@connectrpc/connect';
import type { TaskService } from '../proto/gen/taskdash/task/v1/task_service_pb.js';
import { isPassing, reasonOf } from './failures.js';
import type { Outbox, Parcel, TaskReport } from './outbox.js';

/** What reports need. */
export interface ReportsOptions {
  readonly outbox: Outbox;
  readonly tasks: Client<typeof TaskService>;
  /** Deadline and end of each call. */
  readonly callOptions: () => CallOptions;
  /** Told of a task that is refused while nobody waits for it. */
  readonly onRefused: (id: string, error: ConnectError) => void;
}

const BATCH_SIZE = 500;
const FIELDS = ['name', 'url', 'user', 'groupId', 'description', 'status', 'startTime', 'stopTime'] as const;

export class Reports {
  constructor(private readonly options: ReportsOptions) {}

  /** Sends some of what is due under a lease. Throws where any of it is to be sent again. */
  async sendDue(leaseId: string): Promise<void> {
    const parcels = this.options.outbox.take(BATCH_SIZE);
    const begun = parcels.filter(({ before }) => !before);
    await all([
      this.#register(begun, leaseId),
      ...parcels.flatMap((parcel) => (parcel.before ? [this.#update(parcel, parcel.before, leaseId)] : [])),
    ]);
  }

  async #register(parcels: readonly Parcel[], leaseId: string): Promise<void> {
    const { tasks, callOptions } = this.options;
    const [only] = parcels;
    if (only && parcels.length > 1) return this.#registerBatch(parcels, leaseId);
    if (only) await this.#settle(only, tasks.registerTask({ task: only.report, leaseId }, callOptions()));
  }

  async #registerBatch(parcels: readonly Parcel[], leaseId: string): Promise<void> {
    const { outbox, tasks, callOptions } = this.options;
    const reports = parcels.map(({ report }) => report);
    const answer = await tasks
      .batchRegisterTasks({ tasks: reports, leaseId }, callOptions())
      .catch((thrown: unknown) => ConnectError.from(thrown));
    if (answer instanceof ConnectError) {
      if (isTooLong(answer)) return this.#registerHalves(parcels, leaseId);
      for (const parcel of parcels) outbox.return(parcel);
      throw answer;
    }
    const refused = parcels.filter((_, index) => answer.results[index]?.outcome.case !== 'task');
    for (const parcel of parcels) if (!refused.includes(parcel)) outbox.confirm(parcel);
    // Sent alone they are refused with everything that is to be said about them.
    return all(refused.map((parcel) => this.#register([parcel], leaseId)));
  }

  #registerHalves(parcels: readonly Parcel[], leaseId: string): Promise<void> {
    const middle = Math.ceil(parcels.length / 2);
    return all([parcels.slice(0, middle), parcels.slice(middle)].map((half) => this.#register(half, leaseId)));
  }

  #update(parcel: Parcel, before: TaskReport, leaseId: string): Promise<void> {
    const { report } = parcel;
    const changed = FIELDS.filter((field) => (report[field] ?? '') !== (before[field] ?? ''));
    const paths = changed.map((field) => field.replace(/[A-Z]/, (letter) => `_${letter.toLowerCase()}`));
    const { tasks, callOptions } = this.options;
    return this.#settle(parcel, tasks.updateTask({ task: report, updateMask: { paths }, leaseId }, callOptions()));
  }

  /** Sees to the outcome of one report. Throws where it is to be sent again. */
  async #settle(parcel: Parcel, call: Promise<unknown>): Promise<void> {
    const { outbox, onRefused } = this.options;
    try {
      await call;
      outbox.confirm(parcel);
    } catch (thrown) {
      const error = ConnectError.from(thrown);
      const reason = reasonOf(error);
      // Somebody removed it: it is registered again in the next turn.
      if (parcel.before && reason === 'TASK_NOT_FOUND') return outbox.return(parcel, true);
      if (reason === 'LEASE_NOT_FOUND' || isPassing(error) || error.code === Code.Unauthenticated) {
        outbox.return(parcel);
        throw error;
      }
      if (!outbox.refuse(parcel, error)) onRefused(parcel.report.id, error);
    }
  }
}

/** Whether a batch was refused as a whole: its question or its answer does not fit into a message. */
function isTooLong(error: ConnectError): boolean {
  if (error.code === Code.InvalidArgument) return true;
  const reason = reasonOf(error);
  // What refuses it on the way, or was there before the code, has none.
  return error.code === Code.ResourceExhausted && (reason === undefined || reason === 'MESSAGE_TOO_LARGE');
}

/** Waits for all, then throws the first failure. */
async function all(work: readonly Promise<void>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(work)) if (outcome.status === 'rejected') throw outcome.reason;
}
