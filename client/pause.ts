/** A wait that may be ended early, and that keeps the process alive only while somebody holds it. */
export class Pause {
  #timer: NodeJS.Timeout | undefined;
  #finish: () => void = () => {};
  #holders = 0;

  /** Waits for so long, or until `end`. */
  for(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#finish = () => {
        clearTimeout(this.#timer);
        this.#timer = undefined;
        resolve();
      };
      this.#timer = setTimeout(this.#finish, Math.max(0, ms));
      if (this.#holders === 0) this.#timer.unref();
    });
  }

  /** Ends the wait that is under way. */
  end(): void {
    this.#finish();
  }

  /** Keeps the process alive during waits until the returned function is called. */
  hold(): () => void {
    this.#holders++;
    this.#timer?.ref();
    return () => {
      this.#holders--;
      if (this.#holders === 0) this.#timer?.unref();
    };
  }
}
