/**
 * The order of requests about one id on one connection.
 *
 * Requests run side by side, so that group commit sees them together; but what one does to an id the next one sees: a
 * find waits for the writes before it, a write for the finds before it. Writes follow each other without waiting, since
 * the registry keeps their order, and so do finds. Each id that has requests under way has a lane:
 *
 *   a request may start  when none is ahead of it in the lane, and what runs there is of its own kind or nothing,
 *                        and its batcher has room; else it waits, first come first served.
 *   a lane is forgotten  when nothing runs or waits in it.
 *
 * When the connection is gone, finds that wait are forgotten, since nobody is there to be told. Writes that wait are done all
 * the same: their client has sent them. Only where it may not do so any more, they are forgotten as well.
 */
import { TaskDashError } from '../../domain/errors.js';
import type { Request } from './messages.js';
import type { Gate } from './write-gate.js';

/** A request on its way. */
export interface Job {
  readonly request: Request;
  /** Does it; must not call `leave` before it returns. */
  start(): void;
  /** Gives up on it before it started. */
  fail(error: TaskDashError): void;
  /** Forgets it before it started. */
  drop(): void;
}

interface Lane {
  writing: boolean;
  running: number;
  readonly waiting: Job[];
  atGate: boolean;
}

export class RequestLanes {
  readonly #lanes = new Map<string, Lane>();
  #atGates = 0;
  #forgets: 'nothing' | 'finds' | 'everything' = 'nothing';

  /** `onRoom` is told whenever a request no longer waits for room. */
  constructor(
    private readonly reads: Gate,
    private readonly writes: Gate,
    private readonly onRoom: () => void,
  ) {}

  /** Whether requests wait for room in a batcher. */
  get waitsForRoom(): boolean {
    return this.#atGates > 0;
  }

  /** Starts a job now or as soon as its turn comes. */
  enter(job: Job): void {
    let lane = this.#lanes.get(job.request.id);
    if (!lane) this.#lanes.set(job.request.id, (lane = { writing: false, running: 0, waiting: [], atGate: false }));
    lane.waiting.push(job);
    this.#advance(job.request.id, lane);
  }

  /** A job that started has been done. */
  leave(job: Job): void {
    const lane = this.#lanes.get(job.request.id);
    if (!lane) return;
    lane.running--;
    this.#advance(job.request.id, lane);
  }

  /** Starts no more of these; what has started goes on. */
  forget(what: 'finds' | 'everything'): void {
    if (this.#forgets !== 'everything') this.#forgets = what;
    for (const [id, lane] of this.#lanes) this.#advance(id, lane);
  }

  #advance(id: string, lane: Lane): void {
    for (let job = lane.waiting[0]; job && !lane.atGate; job = lane.waiting[0]) {
      const isWrite = job.request.verb !== 'find';
      const isForgotten = this.#isForgotten(job);
      if (!isForgotten && lane.running > 0 && lane.writing !== isWrite) break;
      if (!isForgotten && !this.#gateOf(job).isOpen(id)) this.#waitAtGate(id, lane, job);
      else this.#start(lane, job);
    }
    if (lane.running === 0 && lane.waiting.length === 0) this.#lanes.delete(id);
  }

  #isForgotten({ request }: Job): boolean {
    return this.#forgets === 'everything' || (this.#forgets === 'finds' && request.verb === 'find');
  }

  #start(lane: Lane, job: Job): void {
    lane.waiting.shift();
    if (this.#isForgotten(job)) return job.drop();
    lane.writing = job.request.verb !== 'find';
    lane.running++;
    job.start();
  }

  #waitAtGate(id: string, lane: Lane, job: Job): void {
    const pass = (go: () => void) => {
      lane.atGate = false;
      this.#atGates--;
      go();
      this.#advance(id, lane);
      this.onRoom();
    };
    lane.atGate = true;
    this.#atGates++;
    this.#gateOf(job).wait(id, {
      enter: () => pass(() => this.#start(lane, job)),
      refuse: () =>
        pass(() => {
          lane.waiting.shift();
          job.fail(new TaskDashError('OVERLOADED', { retryAfterMs: 1000 }));
        }),
    });
  }

  #gateOf(job: Job): Gate {
    return job.request.verb === 'find' ? this.reads : this.writes;
  }
}
