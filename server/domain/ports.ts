/**
 * What the domain needs from storage, in the domain's own words. PostgreSQL implements these ports in server/storage;
 * memory fakes in test/support implement them too and pass the same contract suite (test/contract).
 *
 * Every method may throw TaskDashError STORAGE_UNAVAILABLE (the database is away or slow; nothing is known about the
 * outcome, unless the error says `nothingSent`) or STORAGE_REFUSED (it said no, and would again).
 */
import type { Role, Scope, TaskOwner, TokenScope, WriteGroups } from './access.js';
import type { BatchId } from './batch-id.js';
import type { Party } from './fair-queue.js';
import type { Cause, LapseCause, Task, TaskEvent, TaskTexts } from './task.js';

/** One register or update, checked and ready to be written. */
export interface TaskWrite {
  /** `register` inserts or replaces; `update` changes an existing task only. */
  readonly kind: 'register' | 'update';
  /** A registration that replaces only: of an unknown id it is `not_found`. */
  readonly onlyKnown?: boolean;
  readonly id: string;
  /** The texts to store; an absent one leaves the stored text. A registration has them all. */
  readonly texts: Readonly<Partial<TaskTexts>>;
  /** Absent leaves the stored address. */
  readonly addr: string | undefined;
  /** The session that claims the task; null: nobody vouches from now on; undefined: stays as it is. */
  readonly sessionId: string | null | undefined;
  /** The session is a lease: where that has been revoked, nothing is written. */
  readonly isLease?: boolean | undefined;
  /**
   * On whose word the session claims the task. Absent: the service named it, which ends every doubt. `made`: nobody's, it is
   * believed to be the session's by its address. `kept`: the registry's own, and a doubt remains one.
   */
  readonly guess?: 'made' | 'kept';
  readonly cause: Extract<Cause, 'client' | 'operator'>;
  readonly actor: string;
  /** The caller may write only where the stored task's group is one of these. */
  readonly groups: WriteGroups;
  /** Refused as `changed` unless the stored task has this revision. */
  readonly expectedRevision: number | undefined;
  /** Whether the caller wants the stored record back; leaving it out is cheaper. */
  readonly returnsTask: boolean;
}

/**
 * What became of one write; `status` is the stored one. `raced`: this run did nothing, because another was at it at the same
 * moment. `unwritten`: an earlier run of the batch wrote others without it, and no run of it will write it any more: write it in a
 * new batch. `locked`: this run did nothing, because a transaction of somebody else keeps the task locked, perhaps for long.
 * `revoked`: the lease that claims the task is over.
 */
export type TaskWriteResult =
  | { outcome: 'written'; revision: number; epoch: number; status: string; task?: Task }
  | { outcome: 'not_found' | 'forbidden' | 'changed' | 'raced' | 'unwritten' | 'late' | 'locked' | 'revoked' };

/** What became of some verdicts: the tasks that are shut down now, and those that somebody keeps locked; the others are void. */
export interface LapseResult {
  readonly lapsed: readonly string[];
  readonly locked: readonly string[];
}

/** How long after it was sent a verdict may still be stored; whoever was not answered knows after that what became of it. */
export const LAPSES_WITHIN_MS = 5_000;

/**
 * A shutdown that the registry decided, holding only while session and epoch are still the ones it was decided for, or the
 * stored epoch is an earlier one: then the claim was lost with the end of the database's history.
 */
export interface Lapse {
  readonly taskId: string;
  readonly sessionId: string;
  readonly epoch: number;
  readonly cause: LapseCause;
  /** How long nothing had been heard of the session, in milliseconds. */
  readonly silentMs: number;
}

/** Which tasks a list, count or watch means. */
export interface TaskFilter {
  readonly statuses?: readonly string[];
  readonly groupIds?: readonly string[];
  readonly users?: readonly string[];
  /** Words that must all occur somewhere in id, name, url, description or address, whatever their case. */
  readonly words?: readonly string[];
  readonly startedFrom?: Date;
  readonly startedUntil?: Date;
  readonly connected?: boolean;
  readonly idPrefix?: string;
  readonly namePrefix?: string;
  readonly addrPrefix?: string;
}

/** The columns that a list can be sorted by; each is indexed. */
export type TaskOrderField = 'updatedAt' | 'id' | 'name' | 'status' | 'user' | 'group_id' | 'startedAt' | 'stoppedAt';

/**
 * The last row of a page: its value of the order field (instants in epoch milliseconds, infinite ones in words; null: has none)
 * and its id.
 */
export interface TaskPosition {
  readonly value: string | number | null;
  readonly id: string;
}

/** A page of tasks to read. Tasks without a value of the order field come last in both directions. */
export interface TaskPageQuery {
  readonly filter: TaskFilter;
  readonly orderBy: TaskOrderField;
  readonly ascending: boolean;
  readonly after?: TaskPosition;
  readonly limit: number;
  /** The page ends with the record by which its texts reach so many bytes (storedBytesOf). */
  readonly maxBytes: number;
}

/** How much is read at once: so many records at most, ending with the one by which their texts reach so many bytes. */
export interface PageLimits {
  readonly records: number;
  readonly bytes: number;
}

/** Counts of one group. */
export interface GroupCounts {
  readonly groupId: string;
  readonly counts: readonly StatusCount[];
}
export interface StatusCount {
  readonly status: string;
  readonly count: number;
}
export interface TaskCounts {
  /** Every status, the largest count first. */
  readonly counts: readonly StatusCount[];
  /** The largest groups first, at most as many as asked for. */
  readonly groups: readonly GroupCounts[];
}

/** Tasks and their history. */
export interface TaskStore {
  /**
   * Writes a batch, its events included, in one transaction; durable when it resolves. No id occurs twice in a batch.
   * Results are in the order of the writes. A lapsed task that is claimed gets status `statusBefore` back unless the
   * write brings a status; the event is then `restored`, with the gap.
   *
   * After STORAGE_UNAVAILABLE the same writes, or some of them, may be sent again with the same `batch`, also in parts, whatever
   * batches were sent meanwhile. Of all runs of a batch one at most writes anything: what it wrote is not written again but
   * answered as it was then, and what it did not write is `unwritten`. Without `batch` a second run is another batch.
   *
   * `withinMs`: what the database comes to later than so long from now, by its own clock, is not written but `late`, so that
   * a batch that was given up overwrites nothing that was written since. Whatever the answer, or without any, nothing is
   * written after that.
   *
   * A locked task holds up no other for longer than a moment. Throws STORAGE_LOCKED where it cannot be told which it is: as when
   * somebody has inserted it without committing. Then this run has written nothing, and smaller batches find it. `isHurried`: it
   * holds up the others for a few milliseconds only, so that others who use a task in that moment may be taken for such.
   */
  writeBatch(
    writes: readonly TaskWrite[],
    batch?: BatchId,
    withinMs?: number,
    isHurried?: boolean,
  ): Promise<TaskWriteResult[]>;
  /**
   * Sets `shutdown` where a verdict still holds and the status is neither finish nor shutdown, and the task is not locked. What
   * the database comes to later than LAPSES_WITHIN_MS stays as it is, whatever the answer, or without any. `nodeId`: the node that
   * judges, whose verdicts are void on sessions that another one has taken before they were sent.
   */
  lapse(lapses: readonly Lapse[], nodeId?: string): Promise<LapseResult>;
  /**
   * Whether the history no longer has what this store was last told it had written: a failover to a standby that lacks it, or
   * a restore. Said once of each loss.
   */
  hasLostWrites(): Promise<boolean>;
  find(scope: Scope, id: string): Promise<Task | undefined>;
  /** Several at once, in no order; ids outside of the scope are left out. */
  findMany(scope: Scope, ids: readonly string[]): Promise<Task[]>;
  list(scope: Scope, query: TaskPageQuery): Promise<Task[]>;
  /** How many tasks match, counting no further than `bound`. */
  count(scope: Scope, filter: TaskFilter, bound: number): Promise<number>;
  stats(scope: Scope, filter: TaskFilter, maxGroups: number): Promise<TaskCounts>;
  /**
   * A task's history, newest first, older than `beforeId`. The scope has to show the task as it is now, and of its events
   * it shows those after which the task was in its sight, as `eventIn` tells them: what another group did with it before
   * stays theirs.
   */
  events(scope: Scope, taskId: string, beforeId: number | undefined, limit: number): Promise<TaskEvent[]>;
}

/** An event with the task right after it, and whose the task was before it. */
export interface FeedEvent {
  readonly event: TaskEvent;
  readonly task: Task;
  /** Group and user before the change, where the change moved the task; else the same as the task's. */
  readonly previous: TaskOwner;
  /** Names the batch that wrote the event; no two batches ever have the same. */
  readonly batch: string;
}

/**
 * A place in the history: right after the event `id`, which the batch `batch` wrote; 0 and '' before the first. Events are
 * numbered in the order in which they become visible. The batch tells whether the event of that number is still the one
 * that was meant, in a database that was restored, or failed over to a standby that had not received everything.
 */
export interface FeedPosition {
  readonly id: number;
  readonly batch: string;
}

/** The change feed over the event table. */
export interface FeedStore {
  /** The place after the latest event. */
  head(): Promise<FeedPosition>;
  /**
   * The events after a place, oldest first, within the limits. Throws RESUME_TOKEN_INVALID when this database's history
   * does not have that place, and RESUME_TOKEN_EXPIRED, before reading, when its latest event is more than `maxBehind`
   * numbers away.
   */
  after(position: FeedPosition, limits: PageLimits, maxBehind: number): Promise<FeedEvent[]>;
}

/** Tells nodes that there may be something new. Only ever a hint: lost, doubled or late hints are harmless. */
export interface ChangeHints {
  /** Tells all nodes, soon; calls in quick succession become one. */
  announce(): void;
  /** Calls `onHint` for every hint that arrives; returns how to stop. */
  listen(onHint: () => void): () => void;
}

/** A user as stored. */
export interface UserRecord {
  readonly id: string;
  readonly displayName: string;
  readonly passwordHash: string;
  readonly administrator: boolean;
  readonly disabled: boolean;
  readonly mustChangePassword: boolean;
  readonly memberships: ReadonlyMap<string, Role>;
}

/** A login session as stored; the id itself is known only to its holder. */
export interface LoginSession {
  readonly idHash: string;
  readonly userId: string;
  readonly address: string;
  readonly userAgent: string;
  readonly createdAt: Date;
  readonly lastUsedAt: Date;
  readonly expiresAt: Date;
}

/** A service token as stored. */
export interface TokenRecord {
  readonly name: string;
  /** The first characters of the secret, to be recognised by. */
  readonly prefix: string;
  readonly secretHash: string;
  readonly groupId: string;
  readonly scopes: readonly TokenScope[];
  readonly createdAt: Date;
  readonly expiresAt: Date | null;
  readonly lastUsedAt: Date | null;
}

/** What a new password spares and requires. */
export interface PasswordChange {
  /** The one session, by the hash of its id, that does not end with the old password. */
  readonly keepSession?: string | undefined;
  /** Only while this is the stored hash. */
  readonly replaces?: string | undefined;
}

/** Before which instants things have ended. */
export interface Expiry {
  /** Sessions with an absolute end until here. */
  readonly now: Date;
  /** Sessions that were not used since. */
  readonly unusedSince: Date;
  /** Failed logins before this. */
  readonly attemptsBefore: Date;
  /** Networks without a login since. */
  readonly networksBefore: Date;
}

/** Users, groups, login sessions, service tokens and login attempts. Clock values come from the caller. */
export interface IdentityStore {
  findUser(id: string): Promise<UserRecord | undefined>;
  countUsers(): Promise<number>;
  /** Those who may log in. */
  countAdministrators(): Promise<number>;
  /** Inserts or replaces a user and their memberships; groups that do not exist are created. */
  saveUser(user: UserRecord): Promise<void>;
  /** Inserts the user only when there is no user at all yet; says whether it did. Safe among nodes. */
  saveFirstUser(user: UserRecord): Promise<boolean>;
  /** Sets a password and ends the user's sessions, both or neither; says whether it did, now or when it was asked before. */
  setPassword(userId: string, passwordHash: string, mustChange: boolean, change?: PasswordChange): Promise<boolean>;
  /**
   * Opens a session, only while the user is not disabled and has this password hash; says whether it did. Of the user's
   * other sessions, the `keepOthers` that were used last stay. One that is open already stays as it is.
   */
  saveSession(session: LoginSession, passwordHash: string, keepOthers: number): Promise<boolean>;
  findSession(idHash: string): Promise<LoginSession | undefined>;
  /** Notes the use of a session; an earlier one than noted changes nothing. */
  touchSession(idHash: string, lastUsedAt: Date): Promise<void>;
  deleteSession(idHash: string): Promise<void>;
  /** Ends all sessions of a user except one. */
  deleteSessionsOf(userId: string, exceptIdHash: string | undefined): Promise<void>;
  /** Removes what has ended; returns how many rows. */
  deleteExpired(expiry: Expiry): Promise<number>;
  saveToken(token: TokenRecord): Promise<void>;
  findTokenByHash(secretHash: string): Promise<TokenRecord | undefined>;
  /** Notes the use of a token; an earlier one than noted changes nothing. */
  touchToken(secretHash: string, lastUsedAt: Date): Promise<void>;
  /** Notes a failed login under a key (an account or an address). */
  addFailedLogin(key: string, at: Date): Promise<void>;
  /** How many failed logins a key has since an instant, and when the latest was. */
  failedLogins(key: string, since: Date): Promise<{ count: number; latest: Date | null }>;
  /** Forgets the failures of a key, and of those that go on with `@` after it. */
  clearFailedLogins(key: string): Promise<void>;
  /** Notes that a user has logged in from a network. */
  noteKnownNetwork(userId: string, network: string, at: Date): Promise<void>;
  /** Whether a user has logged in from a network since an instant. */
  isKnownNetwork(userId: string, network: string, since: Date): Promise<boolean>;
  /** Whether a network is noted of anybody who is an administrator now. */
  hasAdministratorLoggedIn(): Promise<boolean>;
}

/**
 * Hashes passwords, off the event loop, in turns: on behalf of a party, or of an operator or the server itself. Throws
 * OVERLOADED when the turn does not come.
 */
export interface PasswordHasher {
  hash(password: string, party?: Party): Promise<string>;
  verify(hash: string, password: string, party?: Party): Promise<boolean>;
}

/** What makes a password too weak. */
export type Weakness =
  /** It is, or is built on, one of those that are tried first. */
  | 'common'
  /** It is little more than the user name, or the name of TaskDash. */
  | 'name'
  /** A repetition, a sequence, a date or a row of keys. */
  | 'pattern'
  /** Short and simple in some other way. */
  | 'simple';

/** How hard a password is to guess, from 0 (at once) to 4 (not in practice); with a weakness it is not good enough. */
export interface PasswordStrength {
  readonly score: 0 | 1 | 2 | 3 | 4;
  readonly weakness: Weakness | undefined;
}

/** Judges passwords of a user. */
export interface PasswordJudge {
  judge(password: string, userId: string): Promise<PasswordStrength>;
}

/** Whether the database answers and has the schema; for /readyz and health. */
export interface StorageHealth {
  check(): Promise<void>;
}

/** Where the domain writes its log: one line, structured. */
export interface Log {
  debug(details: object, message: string): void;
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}
