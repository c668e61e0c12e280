/** How a process that serves is asked to stop. */

/** Ctrl-C reaches a process twice when npm runs it: from the terminal, and passed on by npm. */
const ECHO_MS = 500;

/** Resolves with the first signal that asks to stop; a second one ends the process at once. */
export function nextSignal(): Promise<string> {
  return new Promise((resolve) => {
    let askedAtMs: number | undefined;
    const onSignal = (signal: NodeJS.Signals) => {
      if (askedAtMs !== undefined && performance.now() - askedAtMs > ECHO_MS) process.exit(130);
      askedAtMs ??= performance.now();
      resolve(signal);
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  });
}
