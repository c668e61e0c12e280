/** Single keys as shortcuts: never while somebody types, never together with Ctrl, Alt or Cmd, and only while wished for. */

type Bindings = Readonly<Record<string, () => void>>;

class Shortcuts {
  readonly #bindings: Bindings[] = [];

  /** Listens from now on, while `areWished` says so. */
  start(areWished: () => boolean): void {
    document.addEventListener('keydown', (event) => {
      if (areWished()) this.#onKey(event);
    });
  }

  /** Binds keys until the returned function is called; of two bindings of one key the later one counts. */
  bind(bindings: Bindings): () => void {
    this.#bindings.push(bindings);
    return () => this.#bindings.splice(this.#bindings.indexOf(bindings), 1);
  }

  #onKey(event: KeyboardEvent): void {
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (isTyping(event.target) || document.querySelector('dialog[open]')) return;
    const act = this.#bindings.findLast((bindings) => event.key in bindings)?.[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }
}

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof Element && target.closest('input:not([type=radio], [type=checkbox]), select, textarea') !== null
  );
}

/** The one keyboard of the page. */
export const shortcuts = new Shortcuts();
