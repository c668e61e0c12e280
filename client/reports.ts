/**
 * Sends what an outbox has to tell, and sees to what became of it.
 *
 * What is due is sent together, and waited for only for a moment, so that what is slow holds up nothing that is reported
 * later. A task that somebody keeps locked in the database makes its report slow: the server tries for some seconds, then
 * answers STORAGE_LOCKED. Such a report goes apart, and is sent alone with a time of its own, long enough for that answer.
 * Of a batch whose time is over it is not known which report was the slow one: all of it go apart, and are sent alone at
 * once. What fails when nobody waits for it goes apart as well, so that nothing is repeated without a pause. Calls that are
 * not answered yet are few, since a connection has room for some only: where more are to be sent, the oldest are given up.
 */
import { Code, ConnectError, type CallOptions, type Client } from '@connectrpc/connect';
import type { BatchRegisterTasksResponse, TaskService } from '../proto/gen/taskdash/task/v1/task_service_pb.js';
import { isPassing, reasonOf } from './failures.js';
import type { Outbox, Parcel, TaskReport } from './outbox.js';

/** What reports need. */
export interface ReportsOptions {
  readonly outbox: Outbox;
  readonly tasks: Client<typeof TaskService>;
  /** How long a call may take. */
  readonly timeoutMs: () => number;
  /** The same for reports that are sent alone, which keep nobody waiting. */
  readonly aloneTimeoutMs: number;
  /** Told when it is known what became of a report that nobody waited for. */
  readonly onLate: () => void;
  /** Told of a task that is refused while nobody waits for it. */
  readonly onRefused: (id: string, error: ConnectError) => void;
}

/** Reports that are sent at the same time. */
interface Sending {
  readonly leaseId: string;
  readonly timeoutMs: number;
  readonly beganAtMs: number;
  readonly isAlone: boolean;
  /** Whoever had them sent waits, and hears of failures. */
  isAwaited: boolean;
}

const LOCKED = 'STORAGE_LOCKED';
const BATCH_SIZE = 500;
/** Calls of a turn, and those of earlier turns; with those of reports that are sent alone fewer than a connection may have. */
const MAX_UPDATES = 48;
const MAX_LATE_CALLS = 24;
/** How long the loop waits for what it sends. */
const PATIENCE_MS = 500;
const ALL_FIELDS = ['*'];
const FIELDS = ['name', 'url', 'user', 'groupId', 'description', 'status', 'startTime', 'stopTime'] as const;

export class Reports {
  #answeredAtMs = -Infinity;
  /** The call that was not answered in time, and no other one since it began. */
  #suspicion: ConnectError | undefined;
  /** What ends the calls that are under way, oldest first, and whether theirs are reports that are sent alone. */
  readonly #calls = new Map<AbortController, boolean>();

  constructor(private readonly options: ReportsOptions) {}

  /** The server has answered something: the connection lives. */
  onAnswer(): void {
    this.#answeredAtMs = performance.now();
    this.#suspicion = undefined;
  }

  /**
   * Sends some of what is due under a lease, and what is apart and has rested. Throws where any of it is to be sent again,
   * and where the connection may be dead.
   */
  async sendDue(leaseId: string): Promise<void> {
    const { outbox, timeoutMs, aloneTimeoutMs } = this.options;
    const beganAtMs = performance.now();
    this.#requireTrust();
    const alone = { leaseId, timeoutMs: aloneTimeoutMs, beganAtMs, isAlone: true, isAwaited: false };
    for (const parcel of outbox.takeAlone(beganAtMs)) void this.#send([parcel], alone);
    if (outbox.hasDue) this.#makeRoom();
    const sending = { leaseId, timeoutMs: timeoutMs(), beganAtMs, isAlone: false, isAwaited: true };
    try {
      await whilePatient(this.#send(outbox.take(BATCH_SIZE, MAX_UPDATES), sending));
    } finally {
      sending.isAwaited = false;
    }
    this.#requireTrust();
  }

  /** Ends all calls. */
  stop(reason: Error): void {
    for (const end of this.#calls.keys()) end.abort(reason);
  }

  #makeRoom(): void {
    const late = [...this.#calls].filter(([, isAlone]) => !isAlone);
    for (const [end] of late.slice(0, Math.max(0, late.length - MAX_LATE_CALLS))) end.abort();
  }

  async #call<T>({ timeoutMs, isAlone }: Sending, ask: (options: CallOptions) => Promise<T>): Promise<T> {
    const end = new AbortController();
    this.#calls.set(end, isAlone);
    try {
      return await ask({ timeoutMs, signal: end.signal });
    } finally {
      this.#calls.delete(end);
    }
  }

  #requireTrust(): void {
    const suspicion = this.#suspicion;
    this.#suspicion = undefined;
    if (suspicion) throw suspicion;
  }

  #send(parcels: readonly Parcel[], sending: Sending): Promise<void> {
    const begun = parcels.filter(({ before }) => !before);
    return all([
      this.#register(begun, sending),
      ...parcels.flatMap((parcel) => (parcel.before ? [this.#update(parcel, parcel.before, sending)] : [])),
    ]);
  }

  async #register(parcels: readonly Parcel[], sending: Sending): Promise<void> {
    const [only] = parcels;
    if (only && parcels.length > 1) return this.#registerBatch(parcels, sending);
    const request = { task: only?.report, leaseId: sending.leaseId };
    if (only) await this.#settle(only, (options) => this.options.tasks.registerTask(request, options), sending);
  }

  async #registerBatch(parcels: readonly Parcel[], sending: Sending): Promise<void> {
    const request = { tasks: parcels.map(({ report }) => report), leaseId: sending.leaseId };
    const answer = await this.#call(sending, (options) =>
      this.options.tasks.batchRegisterTasks(request, options).catch((thrown: unknown) => ConnectError.from(thrown)),
    );
    if (!(answer instanceof ConnectError)) return this.#settleBatch(parcels, answer, sending);
    if (isTooLong(answer)) return this.#registerHalves(parcels, sending);
    this.#tryAgain(parcels, answer, sending);
  }

  #settleBatch(parcels: readonly Parcel[], answer: BatchRegisterTasksResponse, sending: Sending): Promise<void> {
    const { outbox } = this.options;
    this.onAnswer();
    const refused: Parcel[] = [];
    for (const [index, parcel] of parcels.entries()) {
      const outcome = answer.results[index]?.outcome;
      if (outcome?.case === 'task') outbox.confirm(parcel);
      else if (outcome?.case === 'error' && outcome.value.reason === LOCKED) outbox.setApart(parcel, 'later');
      else refused.push(parcel);
    }
    this.#tellLate(sending);
    // Sent alone they are refused with everything that is to be said about them.
    return all(refused.map((parcel) => this.#register([parcel], sending)));
  }

  #registerHalves(parcels: readonly Parcel[], sending: Sending): Promise<void> {
    const middle = Math.ceil(parcels.length / 2);
    return all([parcels.slice(0, middle), parcels.slice(middle)].map((half) => this.#register(half, sending)));
  }

  #update(parcel: Parcel, before: TaskReport, sending: Sending): Promise<void> {
    const { report } = parcel;
    const changed = FIELDS.filter((field) => (report[field] ?? '') !== (before[field] ?? ''));
    const paths = changed.map((field) => field.replace(/[A-Z]/, (letter) => `_${letter.toLowerCase()}`));
    const updateMask = { paths: parcel.isUncertain || paths.length === 0 ? ALL_FIELDS : paths };
    const request = { task: report, updateMask, leaseId: sending.leaseId };
    return this.#settle(parcel, (options) => this.options.tasks.updateTask(request, options), sending);
  }

  /** Sees to the outcome of one report. Throws where it is to be sent again, and somebody waits for it. */
  async #settle(parcel: Parcel, ask: (options: CallOptions) => Promise<unknown>, sending: Sending): Promise<void> {
    const { outbox, onRefused } = this.options;
    try {
      await this.#call(sending, ask);
      this.onAnswer();
      outbox.confirm(parcel);
    } catch (thrown) {
      const error = ConnectError.from(thrown);
      // Somebody removed it: it is registered again in the next turn.
      if (parcel.before && reasonOf(error) === 'TASK_NOT_FOUND') outbox.return(parcel, true);
      else if (isOfAll(error) || isPassing(error)) return this.#tryAgain([parcel], error, sending);
      else if (!outbox.refuse(parcel, error)) onRefused(parcel.report.id, error);
    }
    this.#tellLate(sending);
  }

  /** Sees to reports that may not have arrived. Throws where somebody waits for them and it is not they that are slow. */
  #tryAgain(parcels: readonly Parcel[], error: ConnectError, sending: Sending): void {
    const { outbox } = this.options;
    const isOverdue = error.code === Code.DeadlineExceeded;
    const isSlow = isOverdue || reasonOf(error) === LOCKED;
    if (reasonOf(error) !== undefined) this.onAnswer();
    else if (isOverdue && this.#answeredAtMs < sending.beganAtMs) this.#suspicion = error;
    if (isOfAll(error) || (!isSlow && sending.isAwaited)) for (const parcel of parcels) outbox.return(parcel);
    else for (const parcel of parcels) outbox.setApart(parcel, parcels.length > 1 ? 'at once' : 'later');
    this.#tellLate(sending);
    if (sending.isAwaited && !isSlow) throw error;
  }

  #tellLate({ isAwaited }: Sending): void {
    if (!isAwaited) this.options.onLate();
  }
}

/** Whether a failure is one of all reports: they need another lease, or another token. */
function isOfAll(error: ConnectError): boolean {
  return reasonOf(error) === 'LEASE_NOT_FOUND' || error.code === Code.Unauthenticated;
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

/** Waits for some work, but not for long. */
async function whilePatient(work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<void>((resolve) => (timer = setTimeout(resolve, PATIENCE_MS)));
  try {
    await Promise.race([work, patience]);
  } finally {
    clearTimeout(timer);
  }
}
