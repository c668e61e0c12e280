/** What an attack is, and what attacks have in common. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ReadyLine } from '../support/server-process.js';

/** What is attacked, and what an attacker may have. */
export interface Target extends ReadyLine {
  /** Of a service token. */
  readonly token: string;
  /** Where the nth connection comes from, as an option of it. */
  readonly from: (n: number) => { readonly localAddress?: string };
  /** Whether the attack is to go on. What is open when it is over closes with the attacker's process. */
  readonly isOn: () => boolean;
}

/** Attacks until it is over; returns what it saw, in words. */
export type Attack = (target: Target) => Promise<string>;

/** Does something again and again, so many at once, as long as the attack is on; returns how often. */
export async function again(target: Target, atOnce: number, work: (n: number) => Promise<void>): Promise<number> {
  let times = 0;
  const workers = Array.from({ length: atOnce }, async () => {
    while (target.isOn()) {
      await work(times++).catch(() => {});
      await delay(1);
    }
  });
  await Promise.all(workers);
  return times;
}

/** Waits until the attack is over. */
export async function wait(target: Target, everyMs = 100, tick: () => void = () => {}): Promise<void> {
  for (; target.isOn(); await delay(everyMs)) tick();
}

/** Counts answers by what they say, in words. */
export class Tally {
  readonly #counts = new Map<string, number>();

  add(what: string): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
  }

  toString(): string {
    const most = [...this.#counts].sort(([, one], [, other]) => other - one).slice(0, 3);
    return most.map(([what, count]) => `${count} × ${what}`).join(', ') || 'no answer';
  }
}
