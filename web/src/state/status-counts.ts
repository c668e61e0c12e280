/**
 * How many tasks have which status, kept true between two askings by the changes that arrive.
 *
 * Counting is dear for the server, so it is asked for seldom: a change whose effect is certain is added up here; one whose
 * effect is not (a task came into or left the filter, perhaps) asks for a new count soon; and after any change the counts
 * are asked for again eventually, so that they always settle on what the server says.
 */
import { type TaskEvent, TaskEventKind, type Task } from '../../../proto/gen/taskdash/task/v1/task_pb.js';
import { matchesQuery } from './task-match.js';
import { EMPTY_QUERY, isEmptyQuery, type TaskQuery } from './task-query.js';

/** A status and how many tasks have it. */
export interface Count {
  readonly status: string;
  readonly count: number;
}

/** When the server is to be asked again. */
export type Urgency = 'no' | 'eventually' | 'soon';

/** The documented statuses come first, in this order; others follow, the most frequent first. */
const FIRST_STATUSES = ['running', 'restart', 'shutdown', 'finish'];

export class StatusCounts {
  #query: TaskQuery = EMPTY_QUERY;
  #counts = new Map<string, number>();
  #urgency: Urgency = 'no';
  #isLoaded = false;

  /** Whether the server has ever answered. */
  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  get urgency(): Urgency {
    return this.#urgency;
  }

  get total(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
  }

  /** The counts in their order on the page; the documented statuses always, at least with 0. */
  get list(): readonly Count[] {
    const others = [...this.#counts]
      .filter(([status, count]) => count > 0 && !FIRST_STATUSES.includes(status))
      .sort(([a, countA], [b, countB]) => countB - countA || (a < b ? -1 : 1));
    return [...FIRST_STATUSES.map((status) => [status, this.of(status)] as const), ...others].map(
      ([status, count]) => ({ status, count }),
    );
  }

  /** How many tasks have this status. */
  of(status: string): number {
    return this.#counts.get(status) ?? 0;
  }

  /** A count is asked for now, of what this query matches whatever its status. */
  beginLoad(query: TaskQuery): void {
    this.#query = query;
    this.#urgency = 'no';
  }

  /** The server's answer. Changes that arrived meanwhile may or may not be in it: `urgency` remembers them. */
  load(counts: readonly Count[]): void {
    this.#counts = new Map(counts.map(({ status, count }) => [status, count]));
    this.#isLoaded = true;
  }

  /** A change arrived. */
  offer(event: TaskEvent, task: Task | undefined): void {
    if (!this.#isLoaded) return this.#ask('soon');
    if (event.fromStatus === event.toStatus && task && isEmptyQuery(this.#query)) return;
    if (!task || !this.#isCertain(event)) return this.#ask('soon');
    this.#ask('eventually');
    if (!matchesQuery(this.#query, task)) return;
    if (event.fromStatus !== '') this.#add(event.fromStatus, -1);
    this.#add(event.toStatus, 1);
  }

  /** Only a full update can carry a task into or out of a filter; what the registry itself decides changes the status alone. */
  #isCertain(event: TaskEvent): boolean {
    if (isEmptyQuery(this.#query)) return true;
    return event.kind === TaskEventKind.LAPSED || event.kind === TaskEventKind.RESTORED;
  }

  #add(status: string, difference: number): void {
    this.#counts.set(status, Math.max(0, this.of(status) + difference));
  }

  #ask(urgency: 'eventually' | 'soon'): void {
    if (this.#urgency !== 'soon') this.#urgency = urgency;
  }
}
