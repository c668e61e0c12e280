import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { judge, type Judgement } from '../chaos/linearizability.js';
import {
  TASK_MODEL,
  type TaskInput,
  type TaskOperation,
  type TaskOutput,
  type TaskState,
  type Texts,
} from '../chaos/task-model.js';
import { flawsOf } from '../chaos/watcher.js';

const DONE: TaskOutput = { outcome: 'done' };
const NOT_FOUND: TaskOutput = { outcome: 'not_found' };
const CHANGED: TaskOutput = { outcome: 'changed' };

const register = (name: string, more: Texts = {}): TaskInput => ({
  verb: 'register',
  id: 'a',
  texts: { name, ...more },
});
const update = (texts: Texts, revision?: number): TaskInput => ({
  ...{ verb: 'update', id: 'a', texts },
  ...(revision !== undefined && { revision }),
});
const find: TaskInput = { verb: 'find', id: 'a' };
const found = (name: string, more: Texts = {}): TaskOutput => ({ outcome: 'done', texts: { name, ...more } });
const version = (revision: number): TaskOutput => ({ outcome: 'done', revision });

/** An operation from one instant to another. */
function from(calledAt: number, answeredAt: number, input: TaskInput, output: TaskOutput): TaskOperation {
  return { client: `client ${calledAt}`, calledAt, answeredAt, input, output };
}

/** One of which nothing was heard again. */
function unanswered(calledAt: number, input: TaskInput): TaskOperation {
  return { client: `client ${calledAt}`, calledAt, answeredAt: Infinity, input, output: undefined };
}

const verdictOn = (...history: TaskOperation[]): Judgement['verdict'] => judge(TASK_MODEL, history).verdict;

describe('a history is right', () => {
  it('when one thing is done after the other', () => {
    const history = [
      from(0, 1, find, NOT_FOUND),
      from(2, 3, update({ name: 'x' }), NOT_FOUND),
      from(4, 5, register('one', { url: 'u' }), version(1)),
      from(6, 7, update({ description: 'text' }, 1), version(2)),
      from(8, 9, update({ description: 'other' }, 1), CHANGED),
      from(10, 11, find, found('one', { url: 'u', description: 'text', status: 'running', user: '' })),
      from(12, 13, register('two'), DONE),
      from(14, 15, find, { outcome: 'done', revision: 3, texts: { name: 'two', url: '', description: '' } }),
    ];
    expect(verdictOn(...history)).toBe('right');
  });

  it('when what happens at once happens in some order', () => {
    const [one, two] = [from(0, 10, register('one'), DONE), from(0, 10, register('two'), DONE)];
    expect(verdictOn(one, two, from(11, 12, find, found('one')))).toBe('right');
    expect(verdictOn(one, two, from(11, 12, find, found('two')))).toBe('right');
    expect(verdictOn(one, two, from(1, 2, find, NOT_FOUND), from(3, 4, find, found('two')))).toBe('right');
  });

  it('when something without an answer takes effect at any later time, or never', () => {
    const beginning = [from(0, 1, register('one'), DONE), unanswered(2, register('late'))];
    expect(verdictOn(...beginning, from(3, 4, find, found('one')))).toBe('right');
    expect(verdictOn(...beginning, from(3, 4, find, found('late')))).toBe('right');
    const twoSeen = [from(3, 4, register('two'), DONE), from(5, 6, find, found('two'))];
    expect(verdictOn(...beginning, ...twoSeen, from(7, 8, find, found('late')))).toBe('right');
  });

  it('when something without an answer made the version that is known from elsewhere, and no other', () => {
    const late = { ...unanswered(1, update({ name: 'late' })), output: version(3) };
    const history = [from(0, 1, register('one'), version(1)), late];
    const seen = from(6, 7, find, found('late'));
    expect(verdictOn(...history, from(2, 3, update({ url: 'u' }), version(2)), seen)).toBe('right');
    expect(verdictOn(...history, seen)).toBe('wrong');
    expect(judge(TASK_MODEL, [...history, seen]).explanation).toContain('find → done {name late}');
  });

  it('when tasks that share nothing are looked at in any order', () => {
    const other = { verb: 'find', id: 'b' } as const;
    expect(verdictOn(from(0, 1, register('one'), DONE), from(2, 3, other, NOT_FOUND))).toBe('right');
  });
});

describe('a history is wrong', () => {
  it('with a stale read', () => {
    const history = [from(0, 1, register('old'), DONE), from(2, 3, register('new'), DONE)];
    expect(verdictOn(...history, from(4, 5, find, found('old')))).toBe('wrong');
    expect(verdictOn(...history, from(4, 5, find, NOT_FOUND))).toBe('wrong');
  });

  it('when two reads, one after the other, see one write and then not', () => {
    const history = [from(0, 1, register('old'), DONE), from(2, 20, register('new'), DONE)];
    expect(verdictOn(...history, from(3, 4, find, found('new')), from(5, 6, find, found('old')))).toBe('wrong');
    expect(verdictOn(...history, from(3, 5, find, found('new')), from(4, 6, find, found('old')))).toBe('right');
  });

  it('with a lost update', () => {
    const both = [from(1, 5, update({ name: 'n' }), DONE), from(1, 5, update({ description: 'd' }), DONE)];
    const history = [from(0, 0.5, register('one'), DONE), ...both];
    expect(verdictOn(...history, from(6, 7, find, found('n', { description: 'd' })))).toBe('right');
    expect(verdictOn(...history, from(6, 7, find, found('n', { description: '' })))).toBe('wrong');
  });

  it('when two updates succeed on the same version', () => {
    const history = [from(0, 1, register('one'), version(1)), from(2, 9, update({ name: 'two' }, 1), DONE)];
    expect(verdictOn(...history, from(2, 9, update({ name: 'three' }, 1), CHANGED))).toBe('right');
    expect(verdictOn(...history, from(2, 9, update({ name: 'three' }, 1), DONE))).toBe('wrong');
  });

  it('with a write that was applied twice', () => {
    const history = [from(0, 1, register('one'), version(1)), from(2, 3, update({ name: 'two' }), DONE)];
    expect(verdictOn(...history, from(4, 5, update({ url: 'u' }), version(3)))).toBe('right');
    expect(verdictOn(...history, from(4, 5, update({ url: 'u' }), version(4)))).toBe('wrong');
  });

  it('with a write that comes back after a newer one was acknowledged', () => {
    const history = [from(0, 1, register('old'), DONE), from(2, 3, register('new'), DONE)];
    const seen = from(4, 5, find, found('new'));
    expect(verdictOn(...history, seen, from(6, 7, find, found('old')))).toBe('wrong');
  });

  it('with a value that nobody wrote', () => {
    expect(verdictOn(from(0, 1, register('one'), DONE), from(2, 3, find, found('ghost')))).toBe('wrong');
    expect(verdictOn(from(0, 1, find, found('ghost')))).toBe('wrong');
  });

  it('with a value before it was written', () => {
    expect(verdictOn(from(0, 1, find, found('one')), from(2, 3, register('one'), DONE))).toBe('wrong');
    expect(verdictOn(from(0, 1, find, found('one')), unanswered(2, register('one')))).toBe('wrong');
  });

  it('when something without an answer shows, vanishes and shows again', () => {
    const history = [from(0, 1, register('one'), DONE), unanswered(2, register('late'))];
    const seen = [from(3, 4, find, found('late')), from(5, 6, register('two'), DONE), from(7, 8, find, found('two'))];
    expect(verdictOn(...history, ...seen)).toBe('right');
    expect(verdictOn(...history, ...seen, from(9, 10, find, found('late')))).toBe('wrong');
  });

  it('when what was refused took effect all the same', () => {
    const refused = [from(0, 1, update({ name: 'ghost' }), NOT_FOUND), from(2, 3, register('one'), DONE)];
    expect(verdictOn(...refused, from(4, 5, find, found('ghost')))).toBe('wrong');
    const late = [from(0, 1, register('one'), version(1)), from(2, 3, update({ name: 'two' }, 7), CHANGED)];
    expect(verdictOn(...late, from(4, 5, find, found('two')))).toBe('wrong');
  });
});

it('says which task is wrong, how far an order was found, and what does not fit', () => {
  const history = [
    from(0, 1, register('old'), version(1)),
    from(2, 3, register('new'), DONE),
    from(4, 5, find, found('old')),
    from(6, 7, register('newest'), DONE),
  ];
  expect(judge(TASK_MODEL, history).explanation.split('\n')).toEqual([
    'a: wrong, no order found for 3 answers; the longest has 2 operations, the last of which are',
    '    0.0–1.0 client 0: register {name old} → version 1',
    '    2.0–3.0 client 2: register {name new} → done',
    '  They leave version 2 {name new, status running}, and none of these can follow:',
    '    4.0–5.0 client 4: find → done {name old}',
  ]);
});

it('does not search for ever, and says so', () => {
  const judgement = judge(TASK_MODEL, [from(0, 1, find, NOT_FOUND)], 0);
  expect(judgement).toMatchObject({ verdict: 'undecided', steps: 0 });
  expect(judgement.explanation).toContain('a: undecided, no order found for 1 answers');
});

describe('judging 2 000 operations of 8 clients on 4 tasks', () => {
  it('takes few steps when they are right', () => {
    const judgement = judge(TASK_MODEL, played(2000, 1));
    expect(judgement).toMatchObject({ verdict: 'right' });
    expect(judgement.steps).toBeLessThan(10_000);
  });

  it('takes few steps when one of them is wrong', () => {
    const history = played(2000, 2);
    const finds = history.filter(({ input, output }) => input.verb === 'find' && output?.outcome === 'done');
    const stale = finds.at(-1) as TaskOperation;
    const texts = finds.find(({ input }) => input.id === stale.input.id)?.output as TaskOutput;
    const judgement = judge(TASK_MODEL, [...history.filter((one) => one !== stale), { ...stale, output: texts }]);
    expect(judgement).toMatchObject({ verdict: 'wrong' });
    expect(judgement.steps).toBeLessThan(30_000);
  });
});

it('judges small histories as trying out every order does', () => {
  fc.assert(
    fc.property(fc.array(anyOperation(), { maxLength: 5 }), (history) => {
      const verdict = isSomeOrderRight(TASK_MODEL.initial, history) ? 'right' : 'wrong';
      expect(verdictOn(...history)).toBe(verdict);
    }),
    { numRuns: 3000 },
  );
});

describe('what a watch told, held against what was written,', () => {
  const change = (id: number) => ({ id, taskId: 'a', revision: id, url: `u${id}` });
  const [one, two, three] = [change(1), change(2), change(3)];
  const written = [one, two, three];

  it('is right when it is the same', () => {
    expect(flawsOf(written, written)).toEqual([]);
  });

  it('is wrong when something is missed, in between or at the end', () => {
    expect(flawsOf([one, three], written)).toEqual(['missed event 2 of a, version 2, u2']);
    expect(flawsOf([one, two], written)).toEqual(['missed event 3 of a, version 3, u3']);
  });

  it('is wrong when something is told twice, too late, or was never written', () => {
    const [late, ghost] = ['told event 1 of a, version 1, u1, a second time, or too late', change(9)];
    expect(flawsOf([one, two, one, three], written)).toEqual([late]);
    expect(flawsOf([two, one, three], written)).toEqual(['missed event 1 of a, version 1, u1', late]);
    expect(flawsOf([...written, ghost], written)).toEqual([
      'told event 9 of a, version 9, u9, which was never written',
    ]);
  });

  it('is wrong when a change is told with another record', () => {
    const told = [one, { ...two, url: 'other' }, three];
    expect(flawsOf(told, written)).toEqual([
      'told event 2 of a, version 2, other instead of event 2 of a, version 2, u2',
    ]);
  });

  it('misses nothing where the answer was to list again', () => {
    expect(flawsOf([one, undefined, three], written)).toEqual([]);
    expect(flawsOf([one, undefined], written)).toEqual([]);
    expect(flawsOf([undefined, one, three], written)).toEqual(['missed event 2 of a, version 2, u2']);
  });
});

/** Every order of the operations, one after the other; those without an answer may stay away. */
function isSomeOrderRight(state: TaskState, left: readonly TaskOperation[]): boolean {
  if (left.every(({ answeredAt }) => answeredAt === Infinity)) return true;
  const horizon = Math.min(...left.map(({ answeredAt }) => answeredAt));
  return left.some((next, index) => {
    const after = next.calledAt <= horizon && TASK_MODEL.step(state, next.input, next.output);
    return after ? isSomeOrderRight(after, left.toSpliced(index, 1)) : false;
  });
}

/** Operations of which many do not fit together, and some do. */
function anyOperation(): fc.Arbitrary<TaskOperation> {
  const name = fc.constantFrom('one', 'two');
  const revision = fc.constantFrom(1, 2, 3);
  const done = fc.oneof(fc.constant(DONE), revision.map(version));
  const asked = fc.oneof(
    fc.tuple(
      name.map((text) => register(text)),
      done,
    ),
    fc.tuple(
      name.map((text) => update({ description: text })),
      fc.oneof(done, fc.constant(NOT_FOUND)),
    ),
    fc.tuple(
      fc.tuple(name, revision).map(([text, of]) => update({ name: text }, of)),
      fc.oneof(done, fc.constant(CHANGED)),
    ),
    fc.tuple(
      fc.constant(find),
      fc.oneof(
        name.map((text) => found(text)),
        revision.map(version),
        fc.constant(NOT_FOUND),
      ),
    ),
  );
  const times = fc.tuple(
    fc.nat(20),
    fc.oneof({ weight: 3, arbitrary: fc.integer({ min: 1, max: 12 }) }, fc.constant(Infinity)),
  );
  return fc
    .tuple(asked, times)
    .map(([[input, output], [calledAt, forMs]]) =>
      forMs === Infinity ? unanswered(calledAt, input) : from(calledAt, calledAt + forMs, input, output),
    );
}

/** What a right registry answers to 8 clients who ask at random; one write in 50 is never answered. */
function played(count: number, seed: number): TaskOperation[] {
  const random = randomOf(seed);
  const planned = Array.from({ length: 8 }, (_, client) => planOf(client, count / 8, random)).flat();
  const states = new Map<string, TaskState>();
  const history: TaskOperation[] = [];
  for (const { effectAt: _at, number, ...call } of planned.toSorted((one, other) => one.effectAt - other.effectAt)) {
    const before = states.get(call.input.id) ?? TASK_MODEL.initial;
    const output = answerTo(before, call.input, number % 3 > 0);
    states.set(call.input.id, TASK_MODEL.step(before, call.input, output) ?? before);
    const isLost = random() < 0.02 && call.input.verb !== 'find';
    history.push(isLost ? { ...call, answeredAt: Infinity, output: undefined } : { ...call, output });
  }
  return history;
}

function planOf(client: number, count: number, random: () => number) {
  let now = random();
  return Array.from({ length: count }, (_, number) => {
    const calledAt = now;
    const answeredAt = (now += 0.1 + random() * 5);
    const effectAt = calledAt + random() * (answeredAt - calledAt);
    now += random();
    const id = `task ${Math.floor(random() * 4)}`;
    const text = `${client}/${number}`;
    const kind = random();
    const input: TaskInput =
      kind < 0.4
        ? { verb: 'find', id }
        : kind < 0.7
          ? { verb: 'register', id, texts: { name: text } }
          : { verb: 'update', id, texts: kind < 0.85 ? { name: text } : { description: text } };
    return { client: `client ${client}`, number: client, calledAt, answeredAt, effectAt, input };
  });
}

/** As a door answers that tells versions, or as one that does not. */
function answerTo(state: TaskState, input: TaskInput, tellsVersions: boolean): TaskOutput {
  if (!state.record && input.verb !== 'register') return NOT_FOUND;
  const revision = (state.record?.revision ?? 0) + (input.verb === 'find' ? 0 : 1);
  return {
    outcome: 'done',
    ...(tellsVersions && { revision }),
    ...(input.verb === 'find' && state.record && { texts: state.record.texts }),
  };
}

/** The same numbers between 0 and 1 for the same seed. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
