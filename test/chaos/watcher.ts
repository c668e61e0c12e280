/** Somebody who watches all changes through one server and goes on with their resume token whenever the stream breaks. */
import { setTimeout as delay } from 'node:timers/promises';
import { ConnectError } from '@connectrpc/connect';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.js';
import type { TaskChange, WatchTasksResponse } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import type { OpenTasks } from './callers.js';

const AGAIN_AFTER_MS = 100;
/** The answers that say: list again. */
const LIST_AGAIN = ['RESUME_TOKEN_INVALID', 'RESUME_TOKEN_EXPIRED'];

/** A change as it can be compared: in the table of events, and as it was told. */
export interface Change {
  readonly id: number;
  readonly taskId: string;
  readonly revision: number;
  readonly url: string;
}

export class Watcher {
  /** Whether the stream has been open once. */
  isOpen = false;
  /** How often the stream went on with the token after it broke. */
  resumed = 0;
  /** How often the answer was to list again. */
  listedAgain = 0;
  /** In the order in which they were told; undefined stands where it was said to list again. */
  readonly #told: (Change | undefined)[] = [];
  /** What a page that lists and follows would show: by task, its version and url. */
  readonly #shown = new Map<string, { readonly revision: number; readonly url: string }>();
  #token = '';
  #lastId = 0;
  readonly #stop = new AbortController();

  /** `lists`: whether it lists, as a page does, where it begins and where it is told to list again. */
  constructor(
    private readonly open: OpenTasks,
    private readonly lists = false,
  ) {}

  /** Watches until `end`. */
  begin(): void {
    void this.#watch();
  }

  /** Whether everything up to this event was told. */
  hasCome(to: number): boolean {
    return this.#lastId >= to;
  }

  end(): void {
    this.#stop.abort();
    this.open.close();
  }

  /** What was told otherwise than it was written; what was written since does not matter. */
  flaws(written: readonly Change[]): string[] {
    const lastId = written.at(-1)?.id ?? 0;
    return flawsOf(
      this.#told.filter((change) => !change || change.id <= lastId),
      written,
    );
  }

  /**
   * The same where one history took the place of another, both of which begin alike: up to where it was said to list again,
   * that is told what was written before, and from there what is written now. Without being said so, it is only told of now.
   * And what a page shows in the end, from lists and changes, is what is written. `now` may go further than was told.
   */
  flawsAcross(before: readonly Change[], now: readonly Change[]): string[] {
    const seen = now.filter(({ id }) => id <= this.#lastId);
    const flaws = this.#shownOtherwise(seen);
    const turn = this.#told.indexOf(undefined);
    if (turn < 0) return [...flaws, ...flawsOf(this.#told, seen)];
    const old = this.#told.slice(0, turn);
    const places = new Set(old.map((change) => change?.id));
    const last = before.findLastIndex(({ id }) => places.has(id));
    return [...flaws, ...flawsOf(old, before.slice(0, last + 1)), ...flawsOf(this.#told.slice(turn), seen)];
  }

  #shownOtherwise(seen: readonly Change[]): string[] {
    const written = new Map(seen.map(({ taskId, revision, url }) => [taskId, `version ${revision}, ${url}`]));
    const ids = new Set([...written.keys(), ...this.#shown.keys()]);
    return [...ids].flatMap((id) => {
      const shown = this.#shown.get(id);
      const words = shown && `version ${shown.revision}, ${shown.url}`;
      return words === written.get(id) ? [] : `shows ${id} as ${words} instead of ${written.get(id)}`;
    });
  }

  async #watch(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        const stream = this.open.tasks.watchTasks({ resumeToken: this.#token }, { signal: this.#stop.signal });
        for await (const response of stream) await this.#onMessage(response);
      } catch (thrown) {
        this.#onBroken(ConnectError.from(thrown));
      }
      await delay(AGAIN_AFTER_MS);
    }
  }

  async #onMessage({ resumeToken, message }: WatchTasksResponse): Promise<void> {
    if (message.case === 'snapshot') {
      if (message.value.resumed) this.resumed++;
      else if (this.lists) await this.#list();
      this.isOpen = true;
    }
    if (message.case === 'change') {
      const change = changeOf(message.value);
      this.#told.push(change);
      this.#lastId = change.id;
      this.#show(change.taskId, change);
    }
    this.#token = resumeToken;
  }

  async #list(): Promise<void> {
    this.#shown.clear();
    let pageToken = '';
    do {
      const page = await this.open.tasks.listTasks({ pageSize: 1000, pageToken }, { signal: this.#stop.signal });
      for (const { id, revision, url } of page.tasks) this.#show(id, { revision: Number(revision), url });
      pageToken = page.nextPageToken;
    } while (pageToken !== '');
  }

  /** What is listed may be newer than what is told after it. */
  #show(id: string, { revision, url }: { readonly revision: number; readonly url: string }): void {
    if ((this.#shown.get(id)?.revision ?? 0) <= revision) this.#shown.set(id, { revision, url });
  }

  #onBroken(error: ConnectError): void {
    const reason = error.findDetails(ErrorInfoSchema)[0]?.reason;
    if (reason === undefined || !LIST_AGAIN.includes(reason)) return;
    this.#token = '';
    this.#told.push(undefined);
    this.listedAgain++;
  }
}

/**
 * What was told otherwise than it stands in the table: missed, told twice, in a wrong order, or never written. `told` is
 * undefined where it was said to list again: what came between is not missed.
 */
export function flawsOf(told: readonly (Change | undefined)[], written: readonly Change[]): string[] {
  const flaws: string[] = [];
  const places = new Map(written.map(({ id }, place) => [id, place]));
  let next = 0;
  let mayMiss = false;
  for (const change of told) {
    const at = change && places.get(change.id);
    if (at !== undefined && at >= next) {
      if (!mayMiss) flaws.push(...written.slice(next, at).map((missed) => `missed ${words(missed)}`));
      if (words(change) !== words(written[at])) flaws.push(`told ${words(change)} instead of ${words(written[at])}`);
      next = at + 1;
    } else if (change) {
      const why = at === undefined ? 'which was never written' : 'a second time, or too late';
      flaws.push(`told ${words(change)}, ${why}`);
    }
    mayMiss = change === undefined;
  }
  return mayMiss ? flaws : [...flaws, ...written.slice(next).map((missed) => `missed ${words(missed)}`)];
}

function changeOf({ event, task }: TaskChange): Change {
  const { id = 0n, taskId = '', revision = 0n } = event ?? {};
  return { id: Number(id), taskId, revision: Number(revision), url: task?.url ?? '' };
}

function words(change: Change | undefined): string {
  return change
    ? `event ${change.id} of ${change.taskId}, version ${change.revision}, ${change.url || '–'}`
    : 'nothing';
}
