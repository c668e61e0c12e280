/** Writes as the registry makes them, for tests of stores. */
import type { TaskWrite } from '../../server/domain/ports.js';
import type { TaskTexts } from '../../server/domain/task.js';

/** The texts of a registration that says nothing but its status. */
export const PLAIN_TEXTS: TaskTexts = {
  name: '',
  url: '',
  user: '',
  group_id: '',
  description: '',
  status: 'running',
  start_time: '',
  stop_time: '',
};

type Changes = Partial<Omit<TaskWrite, 'kind' | 'id' | 'texts'>>;

/** A registration by a service on the legacy door, without a session. */
export function registration(id: string, texts: Partial<TaskTexts> = {}, changes: Changes = {}): TaskWrite {
  return { ...BY_A_SERVICE, kind: 'register', id, texts: { ...PLAIN_TEXTS, ...texts }, ...changes };
}

/** An update by the same service, which claims nothing. */
export function update(id: string, texts: Partial<TaskTexts> = {}, changes: Changes = {}): TaskWrite {
  return { ...BY_A_SERVICE, kind: 'update', id, texts, addr: undefined, sessionId: undefined, ...changes };
}

const BY_A_SERVICE = {
  addr: '10.0.0.1',
  sessionId: null,
  cause: 'client',
  actor: 'service:10.0.0.1',
  groups: 'every',
  expectedRevision: undefined,
  returnsTask: false,
} as const;
