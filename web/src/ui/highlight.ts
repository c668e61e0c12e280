import type { Attachment } from 'svelte/attachments';

const GLOW_MS = 1600;

/** Lets an element glow briefly whenever the number is a new one; 0 never does. Those who wish for less motion see no fading. */
export function highlight(change: number): Attachment<HTMLElement> {
  return (element) => {
    if (change === 0) return;
    const isCalm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    const glow = { backgroundColor: 'var(--flash)' };
    const frames = isCalm ? [glow, glow] : [glow, glow, { backgroundColor: 'transparent' }];
    const animation = element.animate(frames, { duration: GLOW_MS, easing: 'ease-out' });
    return () => animation.cancel();
  };
}
