/** The current time for texts such as "3 min ago": moves once a second while anything shows it. */
import { createSubscriber } from 'svelte/reactivity';

class NowState {
  #ms = Date.now();
  readonly #follow = createSubscriber((update) => {
    const timer = setInterval(() => {
      this.#ms = Date.now();
      update();
    }, 1000);
    return () => clearInterval(timer);
  });

  /** Milliseconds since 1970, at most a second old. */
  get ms(): number {
    this.#follow();
    return this.#ms;
  }
}

/** The current time. */
export const now = new NowState();
