import type { Poll } from './poll.js';

/** Runs a poll while the page can be seen, and asks at once when the network is back; returns how to end it. */
export function pollWhileVisible(poll: Pick<Poll<unknown>, 'start' | 'stop' | 'askNow'>): () => void {
  const follow = () => (document.visibilityState === 'visible' ? poll.start() : poll.stop());
  const retry = () => poll.askNow();
  document.addEventListener('visibilitychange', follow);
  addEventListener('online', retry);
  follow();
  return () => {
    document.removeEventListener('visibilitychange', follow);
    removeEventListener('online', retry);
    poll.stop();
  };
}
