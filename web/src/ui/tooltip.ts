/**
 * Words that appear beside an element while the pointer rests on it or the keyboard's focus is on it. They stay while
 * the pointer is on the words themselves, and Escape takes them away (WCAG 1.4.13).
 */
import type { Attachment } from 'svelte/attachments';

/** What to show, and when. */
export interface TooltipOptions {
  /** The words; lines are separated by newlines. Empty: nothing appears. */
  readonly text: () => string;
  /** The words are the element's own name already, and need not be read aloud again. */
  readonly isLabel?: boolean;
  /** Also appear while the keyboard's focus is anywhere in the closest such ancestor. */
  readonly focusWithin?: string;
}

const SHOW_AFTER_MS = 250;
const HIDE_AFTER_MS = 120;
const GAP_PX = 6;

let bubble: HTMLElement | undefined;
let shownFor: HTMLElement | undefined;
let timer: ReturnType<typeof setTimeout> | undefined;

/** Shows words beside an element. */
export function tooltip(options: TooltipOptions): Attachment<HTMLElement> {
  return (target) => {
    const focused = options.focusWithin ? (target.closest<HTMLElement>(options.focusWithin) ?? target) : target;
    const soon = (event: PointerEvent) => {
      if (event.pointerType !== 'touch') later(SHOW_AFTER_MS, () => show(target, options));
    };
    const onFocus = (event: FocusEvent) => {
      if (event.target instanceof Element && event.target.matches(':focus-visible')) show(target, options);
    };
    const away = () => later(HIDE_AFTER_MS, () => hide(target));
    const now = () => hide(target);
    target.addEventListener('pointerenter', soon);
    target.addEventListener('pointerleave', away);
    target.addEventListener('click', now);
    focused.addEventListener('focusin', onFocus);
    focused.addEventListener('focusout', now);
    return () => {
      hide(target);
      target.removeEventListener('pointerenter', soon);
      target.removeEventListener('pointerleave', away);
      target.removeEventListener('click', now);
      focused.removeEventListener('focusin', onFocus);
      focused.removeEventListener('focusout', now);
    };
  };
}

function later(ms: number, act: () => void): void {
  clearTimeout(timer);
  timer = setTimeout(act, ms);
}

function show(target: HTMLElement, options: TooltipOptions): void {
  clearTimeout(timer);
  const text = options.text();
  if (text === '' || !target.isConnected) return;
  const element = theBubble();
  element.textContent = text;
  // Inside of the landmark that it speaks of, and of a dialog that makes everything else inert.
  (target.closest('dialog, main, header, footer') ?? document.body).append(element);
  if (!element.matches(':popover-open')) element.showPopover();
  place(element, target.getBoundingClientRect());
  shownFor = target;
  if (!options.isLabel) target.setAttribute('aria-describedby', element.id);
}

function hide(target: HTMLElement): void {
  if (shownFor !== target) return;
  clearTimeout(timer);
  shownFor = undefined;
  target.removeAttribute('aria-describedby');
  if (bubble?.matches(':popover-open')) bubble.hidePopover();
}

/** Below the element where there is room, else above it; never outside of the window. */
function place(element: HTMLElement, target: DOMRect): void {
  const { width, height } = element.getBoundingClientRect();
  const fitsBelow = target.bottom + GAP_PX + height < innerHeight;
  const left = Math.min(target.left, innerWidth - width - GAP_PX);
  element.style.left = `${Math.max(GAP_PX, left)}px`;
  element.style.top = `${fitsBelow ? target.bottom + GAP_PX : Math.max(GAP_PX, target.top - GAP_PX - height)}px`;
}

function theBubble(): HTMLElement {
  if (bubble) return bubble;
  bubble = document.createElement('div');
  bubble.id = 'tooltip';
  bubble.className = 'tooltip';
  bubble.popover = 'manual';
  bubble.setAttribute('role', 'tooltip');
  bubble.addEventListener('pointerenter', () => clearTimeout(timer));
  bubble.addEventListener('pointerleave', () => shownFor && hide(shownFor));
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && shownFor) hide(shownFor);
  });
  addEventListener('scroll', () => shownFor && hide(shownFor), { capture: true, passive: true });
  return bubble;
}
