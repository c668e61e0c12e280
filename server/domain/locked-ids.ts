/** Which tasks were locked when they were last written, so that whoever writes them next holds up nobody. */

/** Ids that are remembered. One too many costs its next writer a little time, and so does one that is not locked any more. */
const MAX_LOCKED_IDS = 10_000;

/** `seen`: others can be written in one batch with it. `hidden`: they cannot; somebody has inserted it without committing. */
export type LockKind = 'seen' | 'hidden';

export class LockedIds {
  /** The one that was found locked longest ago comes first. */
  readonly #kinds = new Map<string, LockKind>();

  kindOf(id: string): LockKind | undefined {
    return this.#kinds.get(id);
  }

  add(id: string, kind: LockKind): void {
    this.#kinds.delete(id);
    this.#kinds.set(id, kind);
    const [eldest] = this.#kinds.keys();
    if (this.#kinds.size > MAX_LOCKED_IDS && eldest !== undefined) this.#kinds.delete(eldest);
  }

  delete(id: string): void {
    this.#kinds.delete(id);
  }
}
