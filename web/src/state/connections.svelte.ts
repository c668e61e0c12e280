/**
 * A page of the live connections of services, asked for again and again while it is looked at. The order is the server's;
 * while the pointer or the focus is in the rows, none of them moves.
 */
import type { Session } from '../../../proto/gen/taskdash/task/v1/session_service_pb.js';
import * as api from '../api/api.js';
import { failureOf, isLoginOver, type Failure } from '../api/failure.js';
import { browserTime } from './browser-time.js';
import { live } from './live.svelte.js';
import { connectionsHref, type ConnectionsView } from './location.js';
import { navigation } from './navigation.svelte.js';
import { Poll } from './poll.js';
import { pollWhileVisible } from './poll-while-visible.js';
import { session } from './session.svelte.js';
import { keepPlaces, type PlacedSession } from './session-places.js';
import { findSessions, isHeld } from './session-walk.js';

/** How many rows a page has; of the held connections, how many are shown at most. */
export const CONNECTIONS_PAGE_SIZE = 50;
const MAX_HELD_SHOWN = 500;
const REFRESH_MS = 5_000;

interface Answer {
  readonly sessions: readonly Session[];
  readonly nextPageToken: string;
  /** How many there are; undefined where that is not known. */
  readonly total: number | undefined;
}

export class Connections {
  #rows = $state.raw<readonly PlacedSession[]>([]);
  #nextPageToken = $state('');
  #total = $state.raw<number | undefined>();
  #asOfMs = $state(0);
  #failure = $state.raw<Failure | undefined>();
  #isHeldStill = false;

  readonly #poll = new Poll<Answer>(
    {
      ask: (signal) => (this.view.heldOnly ? askHeld(signal) : askPage(this.view.pageToken, signal)),
      onAnswer: (answer) => this.#take(answer),
      onFailure: (thrown) => this.#onFailure(thrown),
    },
    browserTime,
  );

  constructor(readonly view: ConnectionsView) {}

  get rows(): readonly PlacedSession[] {
    return this.#rows;
  }

  /** The token of the page after this one; empty when there is none. */
  get nextPageToken(): string {
    return this.#nextPageToken;
  }

  /** How many connections there are, where that is known. */
  get total(): number | undefined {
    return this.#total;
  }

  /** As of when the rows are, in milliseconds since 1970; 0 before the first answer. */
  get asOfMs(): number {
    return this.#asOfMs;
  }

  /** Why the last asking failed; it is asked again by itself. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** Looks from now on; returns how to stop. */
  start(): () => void {
    return pollWhileVisible(this.#poll);
  }

  /** Asks at once. */
  retry(): void {
    this.#poll.askNow();
  }

  /** The pointer or the focus came into the rows, or left them. */
  holdStill(isHeldStill: boolean): void {
    this.#isHeldStill = isHeldStill;
    if (!isHeldStill) this.#rows = this.#rows.filter(({ isGone }) => !isGone);
  }

  #take({ sessions, nextPageToken, total }: Answer): number {
    const rows = sessions.map((one) => ({ session: one, isGone: false }));
    this.#rows = this.#isHeldStill ? keepPlaces(this.#rows, sessions) : rows;
    this.#nextPageToken = nextPageToken;
    this.#total = total;
    this.#asOfMs = Date.now();
    live.confirm();
    this.#failure = undefined;
    return REFRESH_MS;
  }

  #onFailure(thrown: unknown): number | undefined {
    const failure = failureOf(thrown);
    if (isLoginOver(failure)) session.end();
    else if (failure.reason === 'PAGE_TOKEN_INVALID') navigation.go(connectionsHref(), { replace: true });
    else {
      this.#failure = failure;
      return failure.retryAfterMs;
    }
    return undefined;
  }
}

async function askPage(pageToken: string, signal: AbortSignal): Promise<Answer> {
  const page = { pageSize: CONNECTIONS_PAGE_SIZE, pageToken };
  const { sessions, nextPageToken } = await api.listSessions(page, signal);
  const isAll = pageToken === '' && nextPageToken === '';
  return { sessions, nextPageToken, total: isAll ? sessions.length : undefined };
}

async function askHeld(signal: AbortSignal): Promise<Answer> {
  const { sessions, isWhole } = await findSessions(api.listSessions, isHeld, signal);
  const shown = sessions.slice(0, MAX_HELD_SHOWN);
  return { sessions: shown, nextPageToken: '', total: isWhole ? sessions.length : undefined };
}
