/**
 * Judges a history of concurrent operations: can each have taken effect at one instant between its call and its answer, so
 * that all answers are those of a model that does one thing after the other?
 *
 * The search is that of Wing and Gong with Lowe's memory: it tries to put the operations into an order, only ever takes one
 * that was called before every other that is left was answered, and never comes twice to the same state with the same
 * operations done. An operation without an answer may take effect at any time after its call, or never. Objects that share
 * nothing are judged one by one.
 */

/** What a client asked, when, and what it was told. */
export interface Operation<Input, Output> {
  readonly client: string;
  readonly calledAt: number;
  /** Infinity: there was no answer. */
  readonly answeredAt: number;
  readonly input: Input;
  /** The answer; where there was none, what it would have been if it took effect, as far as that is known. */
  readonly output: Output | undefined;
}

/** What the operations should do, one after the other. */
export interface Model<State, Input, Output> {
  readonly initial: State;
  /** Which object an operation is about. */
  objectOf(input: Input): string;
  /** The state afterwards, or undefined if this cannot have been the answer. An unknown answer can have been any. */
  step(state: State, input: Input, output: Output | undefined): State | undefined;
  /** The same text for the same state. */
  keyOf(state: State): string;
  inWords(operation: Operation<Input, Output>): string;
  stateInWords(state: State): string;
}

/** What became of it. */
export interface Judgement {
  readonly verdict: 'right' | 'wrong' | 'undecided';
  /** How often the model was asked. */
  readonly steps: number;
  /** Which object, how far an order was found, and what does not fit; empty when all is right. */
  readonly explanation: string;
}

type History<I, O> = readonly Operation<I, O>[];

/** Judges a history; `maxSteps` for each object, so that it comes to an end. */
export function judge<S, I, O>(model: Model<S, I, O>, history: History<I, O>, maxSteps = 1_000_000): Judgement {
  let steps = 0;
  for (const [object, operations] of byObject(model, history)) {
    const search = new Search(model, operations, maxSteps);
    const verdict = search.run();
    steps += search.steps;
    if (verdict === 'right') continue;
    const shown = verdict === 'wrong' ? shortened(model, operations, maxSteps) : search;
    return { verdict, steps, explanation: `${object}: ${verdict}, ${shown.explanation()}` };
  }
  return { verdict: 'right', steps, explanation: '' };
}

function byObject<S, I, O>(model: Model<S, I, O>, history: History<I, O>): Map<string, Operation<I, O>[]> {
  const objects = new Map<string, Operation<I, O>[]>();
  for (const operation of history) {
    const object = model.objectOf(operation.input);
    const operations = objects.get(object);
    if (operations) operations.push(operation);
    else objects.set(object, [operation]);
  }
  return objects;
}

interface Placed<S, I, O> {
  readonly operation: Operation<I, O> | undefined;
  readonly state: S;
  /** What may come next, the likeliest last. */
  readonly candidates: Operation<I, O>[];
}

class Search<S, I, O> {
  steps = 0;
  /** In the order of their calls. */
  readonly #answered: History<I, O>;
  readonly #unanswered: History<I, O>;
  readonly #done = new Set<Operation<I, O>>();
  /** All answered operations before this one are done. */
  #first = 0;
  readonly #seen = new Set<string>();
  #longest: readonly Placed<S, I, O>[] = [];

  constructor(
    private readonly model: Model<S, I, O>,
    operations: History<I, O>,
    private readonly maxSteps: number,
  ) {
    const sorted = operations.toSorted((one, other) => one.calledAt - other.calledAt);
    this.#answered = sorted.filter(({ answeredAt }) => answeredAt !== Infinity);
    this.#unanswered = sorted.filter(({ answeredAt }) => answeredAt === Infinity);
  }

  run(): Judgement['verdict'] {
    const order = [this.#placed(undefined, this.model.initial)];
    for (let last = order.at(-1); last; last = order.at(-1)) {
      if (this.#first === this.#answered.length) return 'right';
      if (this.steps >= this.maxSteps) return this.#fail('undecided', order);
      const next = last.candidates.pop();
      if (next) {
        const state = this.#try(last.state, next);
        // What fits here and changes nothing fits here whatever else does: nothing else needs to be tried instead.
        if (state === last.state) last.candidates.length = 0;
        if (state !== undefined) order.push(this.#placed(next, state));
      } else {
        this.#fail('wrong', order);
        order.pop();
        if (last.operation) this.#undo(last.operation);
      }
    }
    return 'wrong';
  }

  /** How far the longest order came, its end, and what cannot follow it. */
  explanation(): string {
    const last = this.#longest.at(-1);
    if (!last) return '';
    const placed = this.#longest.flatMap(({ operation }) => operation ?? []);
    this.#done.clear();
    this.#first = 0;
    for (const operation of placed) this.#do(operation);
    const lines = [
      `no order found for ${this.#answered.length} answers; the longest has ${placed.length} operations, the last of which are`,
      ...placed.slice(-8).map((operation) => `    ${this.model.inWords(operation)}`),
      `  They leave ${this.model.stateInWords(last.state)}, and none of these can follow:`,
      ...this.#candidates()
        .filter(({ answeredAt }) => answeredAt !== Infinity)
        .map((operation) => `    ${this.model.inWords(operation)}`),
    ];
    return lines.join('\n');
  }

  #placed(operation: Operation<I, O> | undefined, state: S): Placed<S, I, O> {
    return { operation, state, candidates: this.#candidates() };
  }

  /** Does an operation, if the model agrees and this was not tried before. */
  #try(before: S, operation: Operation<I, O>): S | undefined {
    this.steps++;
    const state = this.model.step(before, operation.input, operation.output);
    // Without an answer and without an effect it is as if it never was.
    if (state === undefined || (state === before && operation.answeredAt === Infinity)) return undefined;
    this.#do(operation);
    const key = this.#key(state);
    if (!this.#seen.has(key)) {
      this.#seen.add(key);
      return state;
    }
    this.#undo(operation);
    return undefined;
  }

  #do(operation: Operation<I, O>): void {
    this.#done.add(operation);
    while (this.#first < this.#answered.length && this.#isDone(this.#first)) this.#first++;
  }

  #undo(operation: Operation<I, O>): void {
    this.#done.delete(operation);
    // The first that is not done may now be this one, or one that was called with it.
    while (this.#first > 0 && (this.#answered[this.#first - 1]?.calledAt ?? -Infinity) >= operation.calledAt)
      this.#first--;
    while (this.#first < this.#answered.length && this.#isDone(this.#first)) this.#first++;
  }

  #isDone(index: number): boolean {
    return this.#done.has(this.#answered[index] as Operation<I, O>);
  }

  /**
   * What was called before anything else that is left was answered, to be tried from the end: first those with an answer, in
   * the order of their calls, then those without, the latest first, since what was given up long ago rarely has an effect now.
   */
  #candidates(): Operation<I, O>[] {
    const open: Operation<I, O>[] = [];
    let horizon = Infinity;
    for (let i = this.#first; (this.#answered[i]?.calledAt ?? Infinity) <= horizon && i < this.#answered.length; i++) {
      const operation = this.#answered[i] as Operation<I, O>;
      if (this.#done.has(operation)) continue;
      horizon = Math.min(horizon, operation.answeredAt);
      open.push(operation);
    }
    const isPossible = (operation: Operation<I, O>) => operation.calledAt <= horizon && !this.#done.has(operation);
    return [...this.#unanswered.filter(isPossible), ...open.filter(isPossible).reverse()];
  }

  /** Which operations are done, and the state: exactly, and short. */
  #key(state: S): string {
    const until = this.#answered[this.#first]?.answeredAt ?? -Infinity;
    const flags: boolean[] = [];
    // Nothing that was called later can be done before that one.
    for (let i = this.#first; (this.#answered[i]?.calledAt ?? Infinity) <= until; i++) flags.push(this.#isDone(i));
    for (const operation of this.#unanswered) flags.push(this.#done.has(operation));
    return `${this.#first} ${packed(flags)} ${this.model.keyOf(state)}`;
  }

  #fail(verdict: Judgement['verdict'], order: readonly Placed<S, I, O>[]): Judgement['verdict'] {
    if (order.length > this.#longest.length) this.#longest = [...order];
    return verdict;
  }
}

function packed(flags: readonly boolean[]): string {
  let text = '';
  for (let from = 0; from < flags.length; from += 16)
    text += String.fromCharCode(flags.slice(from, from + 16).reduce((bits, flag) => bits * 2 + Number(flag), 1));
  return text;
}

/** The search of the shortest beginning of a wrong history that is wrong already: what came later says nothing. */
function shortened<S, I, O>(model: Model<S, I, O>, history: History<I, O>, maxSteps: number): Search<S, I, O> {
  const ends = history
    .map(({ answeredAt }) => answeredAt)
    .filter((at) => at !== Infinity)
    .toSorted((a, b) => a - b);
  let [low, high] = [0, ends.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    const isWrong = new Search(model, until(history, ends[middle] ?? Infinity), maxSteps).run() === 'wrong';
    if (isWrong) high = middle;
    else low = middle + 1;
  }
  const search = new Search(model, until(history, ends[low] ?? Infinity), maxSteps);
  search.run();
  return search;
}

/** A history as it was known at a time. */
function until<I, O>(history: History<I, O>, at: number): Operation<I, O>[] {
  const isLater = ({ answeredAt }: Operation<I, O>) => answeredAt > at && answeredAt !== Infinity;
  return history
    .filter(({ calledAt }) => calledAt <= at)
    .map((operation) => (isLater(operation) ? { ...operation, answeredAt: Infinity, output: undefined } : operation));
}
