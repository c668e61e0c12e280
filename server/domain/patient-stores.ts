/**
 * How every question to a store stands to a moment without the database. What people and services wait for is asked again until
 * its time is over (patience.ts), if asking twice is as good as asking once. Everything else has a reason here. The types
 * see to it that no method is forgotten.
 */
import type { NodeStore, SessionStore } from './liveness-ports.js';
import { patient, type Asked, type Patience } from './patience.js';
import type { FeedStore, IdentityStore, TaskStore } from './ports.js';

/** The stores that calls reach. */
export interface Stores {
  readonly tasks: TaskStore;
  readonly identity: IdentityStore;
  readonly sessions: SessionStore;
  readonly nodes: NodeStore;
  readonly feed: FeedStore;
}

/** Why something is not asked again here. */
export interface Reason {
  readonly because: string;
}

type Manners<S> = { readonly [Name in Asked<S>]: 'patient' | Reason };

const BATCHED: Reason = { because: 'a batcher gathers these, and tries again until a deadline of its own' };
const PACED: Reason = { because: 'no call waits for it: it runs by itself, and comes again at its own pace' };
const AT_START: Reason = { because: 'asked at the start and by operators, who are told at once' };

/** How patient each of them is. */
export const MANNERS: { readonly [Name in keyof Stores]: Manners<Stores[Name]> } = {
  tasks: {
    writeBatch: BATCHED,
    lapse: PACED,
    hasLostWrites: PACED,
    find: 'patient',
    findMany: BATCHED,
    list: 'patient',
    count: 'patient',
    stats: 'patient',
    events: 'patient',
  },
  identity: {
    findUser: 'patient',
    countUsers: AT_START,
    countAdministrators: AT_START,
    saveUser: AT_START,
    saveFirstUser: AT_START,
    setPassword: 'patient',
    saveSession: 'patient',
    findSession: 'patient',
    touchSession: { because: 'nobody is refused for it: the next use is noted' },
    deleteSession: 'patient',
    deleteSessionsOf: AT_START,
    deleteExpired: PACED,
    saveToken: AT_START,
    findTokenByHash: 'patient',
    touchToken: { because: 'nobody is refused for it: the next use is noted' },
    addFailedLogin: { because: 'asked twice it counts one failure as two, and locks people out' },
    failedLogins: 'patient',
    clearFailedLogins: 'patient',
    noteKnownNetwork: 'patient',
    isKnownNetwork: 'patient',
    hasAdministratorLoggedIn: 'patient',
  },
  sessions: {
    save: { because: 'the journal writes again what it could not, and a grant waits for it only for a moment' },
    end: { because: 'the journal writes again what it could not' },
    revoke: 'patient',
    leaving: PACED,
    adopt: PACED,
    unsettle: PACED,
    reclaim: PACED,
    take: { because: 'lease-moves.ts tries again on behalf of all calls that wait for the same lease' },
    holderOf: 'patient',
    lapsedOf: PACED,
    undone: PACED,
    strays: PACED,
    unattended: PACED,
    whereabouts: PACED,
    neighbours: PACED,
    tasksOf: 'patient',
    marked: PACED,
    flapping: PACED,
    list: 'patient',
    purge: PACED,
  },
  nodes: {
    renew: PACED,
    release: PACED,
    order: { because: 'carried out in between, the same decision would be one on what has fallen silent since' },
    note: PACED,
    events: 'patient',
    purge: PACED,
  },
  feed: {
    // Where a watch begins; what follows is read again by whoever watches.
    head: 'patient',
    after: PACED,
  },
};

/** The same stores, with patience wherever it is due. */
export function withPatience<S extends Stores>(stores: S, patience: Patience): S {
  return {
    ...stores,
    tasks: patient<TaskStore>(stores.tasks, patience, repeatable(MANNERS.tasks)),
    identity: patient<IdentityStore>(stores.identity, patience, repeatable(MANNERS.identity)),
    sessions: patient<SessionStore>(stores.sessions, patience, repeatable(MANNERS.sessions)),
    nodes: patient<NodeStore>(stores.nodes, patience, repeatable(MANNERS.nodes)),
    feed: patient<FeedStore>(stores.feed, patience, repeatable(MANNERS.feed)),
  };
}

function repeatable<Name extends string>(manners: Readonly<Record<Name, 'patient' | Reason>>): Name[] {
  return (Object.keys(manners) as Name[]).filter((name) => manners[name] === 'patient');
}
