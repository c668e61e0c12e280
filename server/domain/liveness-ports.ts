/**
 * What liveness needs from storage beside TaskStore: the nodes' leases and the sessions' records. All time that several
 * nodes compare is the database's; callers pass and get spans in milliseconds, never instants.
 *
 * A session id begins with the first twelve hexadecimal digits of the id of the node that opened the session, so that
 * the tasks of a dead node are found even where it died before it had written a session down.
 *
 * Every method may throw STORAGE_UNAVAILABLE or STORAGE_REFUSED, as in ports.ts.
 */
import type { Scope } from './access.js';
import type { Door } from './sessions.js';
import type { TaskMark } from './task.js';

/** One run of a server. */
export interface NodeIdentity {
  /** A UUID, new at every start. */
  readonly id: string;
  /** The name in histories; differs between nodes that run at the same time. */
  readonly name: string;
}

/** Mass silence on a node, as people see it. */
export interface ProtectionView {
  readonly sinceMs: number;
  /** When it ends by itself, in milliseconds from now. */
  readonly endsInMs: number;
  /** Sessions that fell silent or closed without goodbye, of how many, when it began. */
  readonly lost: number;
  readonly of: number;
  /** Sessions that would have expired, and are held. */
  readonly held: number;
  /** The administrator who decided to hold, or empty. */
  readonly heldBy: string;
}

/** What a node tells the others of itself with every renewal. */
export interface NodeReport {
  readonly sessions: number;
  /** Sessions that missed a beat, the longest silent first; bounded. */
  readonly suspects: readonly string[];
  /** Leases that came from other nodes lately, where they may not know it yet; bounded. */
  readonly taken: readonly string[];
  /** How many session records carry a mark of their own (orphans, protected ones). */
  readonly marked: number;
  readonly protection: ProtectionView | null;
  /** Whether beats of its leases reach it that arrive elsewhere. */
  readonly hearsBeats: boolean;
}

/** A node as the others see it. */
export interface PeerNode extends NodeIdentity {
  readonly report: NodeReport;
}

/** An administrator's decision on a node's protection. */
export interface ProtectionOrder {
  readonly decision: 'expire_now' | 'hold';
  readonly actor: string;
}

/** The answer to a renewal. */
export interface NodeRenewal {
  /** Whether there was no lease, or it had run out before this renewal, so that others may have taken sessions over. */
  readonly lapsed: boolean;
  /** A decision that arrived on another node; given again until a renewal says that it is carried out. */
  readonly order: ProtectionOrder | undefined;
  /** All other nodes whose lease holds. */
  readonly peers: readonly PeerNode[];
}

/** Something that people should find again: what a node decided about many sessions, or lost. */
export interface NodeEvent {
  readonly node: string;
  readonly at: Date;
  readonly kind: NodeEventKind;
  /** A few numbers and names, by kind. */
  readonly details: Readonly<Record<string, string | number>>;
}

/** The kinds of events of a node. */
export type NodeEventKind =
  | 'protection_began'
  | 'protection_held'
  | 'protection_ended'
  | 'lease_lost'
  | 'sessions_adopted'
  | 'return_in_doubt'
  | 'limit_reached';

/** The nodes' leases. */
export interface NodeStore {
  /**
   * Begins or prolongs the lease: it holds for `leaseMs` from now on the database's clock. `carriedOut`: the order that
   * the latest answer brought.
   */
  renew(node: NodeIdentity, leaseMs: number, report: NodeReport, carriedOut?: ProtectionOrder): Promise<NodeRenewal>;
  /** Ends the lease now: others may take the node's sessions over at once. */
  release(nodeId: string): Promise<void>;
  /** Leaves a decision for another node; false when no node of that name holds a lease and reports a protection. */
  order(nodeName: string, order: ProtectionOrder): Promise<boolean>;
  /** Keeps an event, as of now. */
  note(nodeName: string, kind: NodeEventKind, details: NodeEvent['details']): Promise<void>;
  /** The latest events of all nodes, newest first. */
  events(limit: number): Promise<NodeEvent[]>;
  /** Forgets nodes that are long dead and have nothing left, and events as old; returns how many nodes. */
  purge(deadForMs: number): Promise<number>;
}

/** A session as it is written down. */
export interface SessionRecord {
  readonly id: string;
  readonly door: Door;
  /** The address of the service, without the port. */
  readonly address: string;
  /** Who may use the session: the principal as histories name it. */
  readonly owner: string;
  readonly ttlMs: number;
  readonly openedAgoMs: number;
  /** `closing`: the connection is gone; `orphan`: its node died and its service has not come back. */
  readonly state: 'open' | 'closing' | 'orphan';
  readonly isProtected: boolean;
  /** It vouched for a task that had not ended, when it was written down or a little earlier. */
  readonly holdsTasks: boolean;
  /** How long nothing has been heard; null while the session is open and not protected. */
  readonly silentMs: number | null;
}

/** A task that a session vouches for, with the epoch of the claim. */
export interface HeldTask {
  readonly taskId: string;
  readonly epoch: number;
}

/** A session of which a task was found: as its record has it, or a connection of nobody's where there is none. */
export type FoundSession = Pick<SessionRecord, 'id' | 'door' | 'address' | 'owner'>;

/** A task whose session nobody knows any more. */
export interface UnattendedTask extends HeldTask {
  readonly session: FoundSession;
}

/** A task that a session vouches for. */
export interface ClaimedTask extends HeldTask {
  readonly sessionId: string;
  /** How long ago the session claimed something the last time. */
  readonly claimedAgoMs: number;
}

/** A task that is not its session's any more, with its version now. */
export interface UndoneClaim extends TaskVersion {
  readonly sessionId: string;
  /** Another session has claimed it since, in the history that is. */
  readonly isTheirs: boolean;
}

/** A version of a task. */
export interface TaskVersion {
  readonly taskId: string;
  readonly revision: number;
}

/** A session that is over, and how long it had been silent. */
export interface EndedSession {
  readonly id: string;
  readonly silentMs: number;
}

/** A session that has come to this node. Its tasks' epochs were raised on the way, unless it had been here all along. */
export interface MovedSession extends SessionRecord {
  readonly tasks: readonly HeldTask[];
  /** Tasks that the registry set to shutdown for this session's sake, and nobody claimed or changed since. */
  readonly lapsed: readonly TaskVersion[];
  /** Of the tasks those that somebody keeps locked: their epochs are as they were, and a verdict on its way may shut them down. */
  readonly locked: readonly string[];
}

/** How much is taken over at once: so many sessions, and so many tasks unless a single session has more. */
export interface TakeoverLimits {
  readonly sessions: number;
  readonly tasks: number;
}

/** Beats of leases that arrive at another node than the one that holds them. Nothing is stored of them. */
export interface LeaseBeats {
  /** For how long what other nodes tell has arrived here without a break, in milliseconds; 0: it does not. */
  readonly heardForMs: number;
  /** For how long the first beat has waited that is not told yet, in milliseconds; 0: none waits. */
  readonly untoldForMs: number;
  /** Tells the other nodes, soon and until it is done, that a lease was heard here. */
  tell(leaseId: string): void;
  /** Asks the other nodes, soon and until it is done, when they heard a lease. */
  ask(leaseId: string, question: number): void;
  /** Answers a question of another node, soon and until it is done; undefined: it was not heard here. */
  answer(nodeId: string, leaseId: string, question: number, heardAgoMs: number | undefined): void;
  /** Tells the other nodes, soon and until it is done, that a lease has been revoked. */
  tellOver(leaseId: string): void;
  /** Finds out whether anything is heard at all; if not, `heardForMs` begins anew. */
  probe(): void;
  /** Names this node to the others, and takes what they tell. Once, before `tell`. */
  join(nodeId: string, hooks: LeaseBeatsHooks): void;
}

/** What other nodes tell of leases. */
export interface LeaseBeatsHooks {
  onBeats(fromNodeId: string, leaseIds: readonly string[]): void;
  onOver(leaseIds: readonly string[]): void;
  onAsked(fromNodeId: string, leaseId: string, question: number): void;
  onAnswered(fromNodeId: string, leaseId: string, question: number, heardAgoMs: number | undefined): void;
}

/** Questions between nodes whether somebody is connected from an address. Nothing is stored of them. */
export interface AddressQuestions {
  /** Asks the other nodes, soon and until it is done; `atMs` comes back with the answers. A later question replaces it. */
  ask(address: string, atMs: number): void;
  /** What was asked about an address and is not told yet need not be told any more. */
  withdraw(address: string): void;
  /** Tells another node, soon and until it is done, that somebody is connected here. */
  answer(nodeId: string, address: string, askedAtMs: number): void;
  /** Names this node to the others, and takes what they ask and tell. Once, before `ask`. */
  join(nodeId: string, hooks: AddressQuestionsHooks): void;
}

/** What other nodes ask and tell of addresses. */
export interface AddressQuestionsHooks {
  onAsked(fromNodeId: string, address: string, askedAtMs: number): void;
  /** Somebody is connected there; who has nobody does not answer. */
  onAnswered(fromNodeId: string, address: string, askedAtMs: number): void;
  /** Listening has begun: what was told before may have been missed. */
  onListening(): void;
}

/** Who holds a lease. */
export interface LeaseHolder {
  readonly nodeId: string;
  readonly ttlMs: number;
  /** It is no orphan, nor over. */
  readonly isOpen: boolean;
}

/** What has become of a session that is silent here. */
export interface Whereabouts {
  readonly isElsewhere: boolean;
  readonly hasTasks: boolean;
}

/** A session that asks who else was at its address. */
export interface NeighbourRequest {
  readonly sessionId: string;
  readonly address: string;
  readonly owner: string;
}

/** Another session of the same address, one that is open or was heard within the last hour. */
export interface Neighbour {
  /** The session that asks. */
  readonly sessionId: string;
  readonly id: string;
  readonly isOpen: boolean;
  /** It was a connection, of the same owner. */
  readonly isSameOwner: boolean;
  /** How long nothing has been heard of it; 0 while it is open. */
  readonly silentMs: number;
  readonly nodeId: string;
  readonly nodeRenewedAgoMs: number;
  /** What it vouches for, or what lapsed for its sake; none while it is open. */
  readonly tasks: readonly TaskVersion[];
  /** Tasks came to it by its address alone, within the last hour. */
  readonly isGuess: boolean;
}

/** The other sessions of some addresses. */
export interface Neighbourhood {
  /** At most four for each request, those that are not open first. */
  readonly neighbours: readonly Neighbour[];
  /** For how long the longest missed other node has not renewed whose sessions nobody has taken over completely; 0: none. */
  readonly missedForMs: number;
}

/** A session as people see it. */
export interface SessionView {
  readonly id: string;
  readonly door: Door;
  readonly address: string;
  readonly owner: string;
  readonly node: string;
  readonly state: SessionRecord['state'];
  /** Tasks held, of those that the caller may see. */
  readonly tasks: number;
  readonly ttlMs: number;
  readonly openedAt: Date;
  /** The last sign of life, or what is known of it: it was heard at this time, or up to `lastSeenWithinMs` later. */
  readonly lastSeenAt: Date;
  /** 0: exact. */
  readonly lastSeenWithinMs: number;
  readonly marks: readonly TaskMark[];
}

/** A session as storage lists it; the node that holds it knows more. */
export interface ListedSession extends SessionRecord {
  readonly nodeId: string;
  readonly nodeName: string;
  readonly nodeRenewedAgoMs: number;
  readonly tasks: number;
}

/** Told of each session that was left as it was, since somebody keeps its record locked. */
export type OnLocked = (sessionId: string) => void;

/** The records of sessions. Only the node that holds a session writes its record; writes of any other are void. */
export interface SessionStore {
  /** Writes records down, new or known; those that another node holds, or somebody keeps locked, are left alone. */
  save(nodeId: string, records: readonly SessionRecord[], onLocked?: OnLocked): Promise<void>;
  /**
   * Ends sessions that no other node holds. One that still has tasks, by a claim whose answer was lost, does not end: its
   * tasks are returned, for the node to judge. An ended one is remembered while tasks that lapsed for its sake may be
   * resumed; as long is a connection that vouched for nothing when its node died, since it may come back. One that somebody
   * keeps locked is left as it is.
   */
  end(
    nodeId: string,
    ended: readonly EndedSession[],
    onLocked?: OnLocked,
  ): Promise<(HeldTask & { sessionId: string })[]>;
  /**
   * Writes a lease down as revoked, whoever holds it: no node takes it any more, and no write that begins later claims a task for
   * it. False where somebody keeps its record locked.
   */
  revoke(nodeId: string, record: SessionRecord): Promise<boolean>;
  /** Revoked leases that still have tasks: of these, and of dead nodes. */
  leaving(ids: readonly string[]): Promise<{ id: string; owner: string; address: string }[]>;
  /**
   * Takes over sessions of nodes whose lease ran out, as many as the limits allow; they become orphans. Several nodes may
   * do so at once and get different ones. None: there are no more.
   */
  adopt(nodeId: string, limits: TakeoverLimits): Promise<MovedSession[]>;
  /** Has dead nodes looked at again that had nothing left to adopt: a late write may have left something after all. */
  unsettle(): Promise<void>;
  /**
   * Takes back those of these sessions that other nodes have taken over, not leases in use there; returns them alone. What
   * somebody keeps locked stays where it is, and may be asked for again.
   */
  reclaim(nodeId: string, ids: readonly string[], onLocked?: OnLocked): Promise<MovedSession[]>;
  /**
   * Takes one session from wherever it is, unless it was revoked or its owner is another; at most one in the answer. One
   * that is open at this node is answered as it stands, so that taking it twice is taking it once. Who else is at it is
   * waited for only for a moment: then it throws STORAGE_LOCKED, and may be tried again.
   */
  take(nodeId: string, id: string, owner: string): Promise<MovedSession[]>;
  /** Who holds a lease of an owner; nobody where it was revoked. */
  holderOf(id: string, owner: string): Promise<LeaseHolder | undefined>;
  /** What lapsed for these sessions' sake and is still as it was then. */
  lapsedOf(ids: readonly string[]): Promise<ReadonlyMap<string, readonly TaskVersion[]>>;
  /**
   * Of these claims those that a failover has undone, with the version of the task as it is now: it has another session and
   * no later epoch, and runs, or lapsed for that other session's sake.
   */
  undone(claims: readonly ClaimedTask[]): Promise<UndoneClaim[]>;
  /** Sessions of this node on record that are none of these, some of them, as they stand. */
  strays(nodeId: string, knownIds: readonly string[]): Promise<MovedSession[]>;
  /** Tasks of sessions that this node opened and that nobody knows: not written down, or over. */
  unattended(nodeId: string): Promise<UnattendedTask[]>;
  /** For each of these sessions whether another node holds it now, and whether any task is still its own. */
  whereabouts(nodeId: string, ids: readonly string[]): Promise<ReadonlyMap<string, Whereabouts>>;
  /** Who else is, or was within the last hour, at the addresses of these sessions of a node. */
  neighbours(nodeId: string, requests: readonly NeighbourRequest[]): Promise<Neighbourhood>;
  /** The tasks that a session vouches for now. */
  tasksOf(sessionId: string): Promise<TaskVersion[]>;
  /** The marks that records carry, of all nodes but this one; at most `limit`. */
  marked(exceptNodeId: string, limit: number): Promise<ReadonlyMap<string, TaskMark>>;
  /** The tasks that flap now, and for how long they will have; at most `limit`, those that last longest first. */
  flapping(limit: number): Promise<ReadonlyMap<string, number>>;
  /** A page of sessions by id, those with a task in the scope; `everything` includes those without any. */
  list(scope: Scope, afterId: string | undefined, limit: number): Promise<ListedSession[]>;
  /** Forgets ended sessions that nothing can be resumed from any more, and leases that were revoked long ago; returns how many. */
  purge(): Promise<number>;
}

/** How long after its end a session's tasks may be resumed by address, in milliseconds. */
export const RESUMABLE_MS = 3_600_000;
