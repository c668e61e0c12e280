/**
 * Writes that may be sent now, in a line in which actors take turns: whoever comes alone is in the next batch, however many
 * writes of somebody else wait. The writes of one actor keep their order.
 */
import type { TaskWrite } from './ports.js';
import { textsLengthOf } from './task.js';

/** How much a batch takes. */
export interface BatchBounds {
  readonly writes: number;
  /** Length of the texts together, in UTF-16 units; one write may be longer. */
  readonly length: number;
}

/** What an actor sends in its turn while others wait, one write at least. */
const TURN: BatchBounds = { writes: 16, length: 4_096 };

export class ReadyWrites<Entry extends { readonly write: TaskWrite }> {
  /** By actor, in the order of turns. */
  readonly #lines = new Map<string, Entry[]>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(entry: Entry): void {
    const { actor } = entry.write;
    const line = this.#lines.get(actor);
    if (line) line.push(entry);
    else this.#lines.set(actor, [entry]);
    this.#size++;
  }

  /** Takes the next batch, which has something whenever there is something. */
  take(bounds: BatchBounds): Entry[] {
    const batch: Entry[] = [];
    let leftLength = bounds.length;
    for (const [actor, line] of this.#lines) {
      const left = { writes: bounds.writes - batch.length, length: leftLength };
      const turn = turnOf(line, this.#lines.size === 1 ? left : smallerOf(left, TURN));
      if (left.writes === 0 || (turn.length > leftLength && batch.length > 0)) break;
      for (const entry of line.splice(0, turn.count)) batch.push(entry);
      leftLength -= turn.length;
      // Its next turn comes after everybody else's, in this batch or the next.
      this.#lines.delete(actor);
      if (line.length > 0) this.#lines.set(actor, line);
    }
    this.#size -= batch.length;
    return batch;
  }
}

/** How many of a line are within the bounds, one at least, and how long they are. */
function turnOf(
  line: readonly { readonly write: TaskWrite }[],
  bounds: BatchBounds,
): { count: number; length: number } {
  let [count, length] = [0, 0];
  for (const { write } of line) {
    const next = textsLengthOf(write.texts);
    if (count > 0 && (count >= bounds.writes || length + next > bounds.length)) break;
    count++;
    length += next;
  }
  return { count, length };
}

function smallerOf(one: BatchBounds, other: BatchBounds): BatchBounds {
  return { writes: Math.min(one.writes, other.writes), length: Math.min(one.length, other.length) };
}
