/** What the registry promises about one task, for the judge of histories: one record, and who asks for it. */
import { TASK_TEXT_FIELDS, type TaskTexts } from '../../server/domain/task.js';
import type { Model, Operation } from './linearizability.js';

export type Texts = Readonly<Partial<TaskTexts>>;

/** What a client asks. */
export type TaskInput =
  | { readonly verb: 'register'; readonly id: string; readonly texts: Texts }
  /** `revision`: only if that version is the stored one, as an etag says. */
  | { readonly verb: 'update'; readonly id: string; readonly texts: Texts; readonly revision?: number }
  | { readonly verb: 'find'; readonly id: string };

/** What it is told; a door that tells no version leaves it out, and only finds tell the record. */
export type TaskOutput =
  | { readonly outcome: 'done'; readonly revision?: number; readonly texts?: Texts }
  | { readonly outcome: 'not_found' | 'changed' };

export type TaskOperation = Operation<TaskInput, TaskOutput>;

/** A record; undefined inside: there is none. */
export interface TaskState {
  readonly record: { readonly texts: TaskTexts; readonly revision: number } | undefined;
}

const EMPTY: TaskTexts = {
  name: '',
  url: '',
  user: '',
  group_id: '',
  description: '',
  status: '',
  start_time: '',
  stop_time: '',
};

/**
 * Register stores the record as sent, whatever was there before; update changes the given texts of a record that is there,
 * of the given version if one is given. Either makes the next version. Find changes nothing.
 */
export const TASK_MODEL: Model<TaskState, TaskInput, TaskOutput> = {
  initial: { record: undefined },
  objectOf: ({ id }) => id,
  keyOf: ({ record }) =>
    record ? JSON.stringify([record.revision, ...TASK_TEXT_FIELDS.map((field) => record.texts[field])]) : '',
  step(state, input, output) {
    const { outcome, state: next } = effectOf(state, input);
    if (output === undefined) return next;
    if (output.outcome !== outcome) return undefined;
    return output.outcome === 'done' && !agrees(next, output) ? undefined : next;
  },
  inWords({ client, calledAt, answeredAt, input, output }) {
    const end = answeredAt === Infinity ? '…' : answeredAt.toFixed(1);
    return `${calledAt.toFixed(1)}–${end} ${client}: ${askedInWords(input)} → ${toldInWords(output)}`;
  },
  stateInWords: ({ record }) => (record ? `version ${record.revision} ${textsInWords(record.texts)}` : 'no record'),
};

function effectOf(state: TaskState, input: TaskInput): { outcome: TaskOutput['outcome']; state: TaskState } {
  const { record } = state;
  if (input.verb === 'register') {
    const texts = { ...EMPTY, ...input.texts };
    texts.status ||= 'running';
    return { outcome: 'done', state: { record: { texts, revision: (record?.revision ?? 0) + 1 } } };
  }
  if (!record) return { outcome: 'not_found', state };
  if (input.verb === 'find') return { outcome: 'done', state };
  if (input.revision !== undefined && input.revision !== record.revision) return { outcome: 'changed', state };
  const texts = { ...record.texts, ...input.texts };
  return { outcome: 'done', state: { record: { texts, revision: record.revision + 1 } } };
}

/** Whether what was told is what is stored. */
function agrees({ record }: TaskState, { revision, texts }: Extract<TaskOutput, { outcome: 'done' }>): boolean {
  if (!record) return false;
  if (revision !== undefined && revision !== record.revision) return false;
  return TASK_TEXT_FIELDS.every((field) => texts?.[field] === undefined || texts[field] === record.texts[field]);
}

function askedInWords(input: TaskInput): string {
  if (input.verb === 'find') return 'find';
  const only = input.verb === 'update' && input.revision !== undefined ? ` version ${input.revision} only` : '';
  return `${input.verb}${only} ${textsInWords(input.texts)}`;
}

function toldInWords(output: TaskOutput | undefined): string {
  if (!output) return 'no answer';
  if (output.outcome !== 'done') return output.outcome;
  const version = output.revision === undefined ? 'done' : `version ${output.revision}`;
  return output.texts ? `${version} ${textsInWords(output.texts)}` : version;
}

function textsInWords(texts: Texts): string {
  const set = Object.entries(texts).filter(([, text]) => text !== '');
  return `{${set.map(([field, text]) => `${field} ${text}`).join(', ')}}`;
}
