import type { WatchTime } from './watch-loop.js';

/** The browser's timers and chance. */
export const browserTime: WatchTime = {
  nowMs: () => performance.now(),
  random: () => Math.random(),
  after(ms, call) {
    const timer = setTimeout(call, ms);
    return () => clearTimeout(timer);
  },
};
