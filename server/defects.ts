/** What no part of the server expected, and nobody caught: a defect of ours. */

/**
 * Resolves with the first exception or rejection that nobody caught; the process does not end by it. The state that it left
 * is not known, so whoever waits for it ends the process, in order. Those that follow are only told to `onFurther`.
 */
export function nextDefect(onFurther: (defect: unknown) => void): Promise<unknown> {
  return new Promise((resolve) => {
    let isFirst = true;
    const onDefect = (defect: unknown) => {
      if (!isFirst) return onFurther(defect);
      isFirst = false;
      resolve(defect);
    };
    process.on('uncaughtException', onDefect);
    process.on('unhandledRejection', onDefect);
  });
}
