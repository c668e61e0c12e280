/**
 * Who attacks: a process of its own that leaves the processor to all others, as if it had a machine of its own. A server
 * that waits for a core while its attacker has it would tell nothing about the server.
 */
import { constants, setPriority } from 'node:os';
import { fileURLToPath } from 'node:url';
import * as attacks from './attacks.js';
import type { Target } from './attack.js';
import { Companion, serve } from './companion.js';

/** What it does, and to whom. */
export interface AttackPlan {
  readonly attack: AttackName;
  readonly target: Omit<Target, 'from' | 'isOn'>;
}

/** An attack that `attacks` has. */
export type AttackName = {
  [Name in keyof typeof attacks]: (typeof attacks)[Name] extends (target: Target) => Promise<string> ? Name : never;
}[keyof typeof attacks];

/** Attacks for so many milliseconds when it is told to; what is open then stays so until the process ends. */
export function launchAttacker(plan: AttackPlan): Promise<Companion<number, string>> {
  return Companion.launch(fileURLToPath(import.meta.url), plan);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  setPriority(constants.priority.PRIORITY_LOW);
  serve(({ attack, target }: AttackPlan) => (forMs: number) => {
    const endsAtMs = performance.now() + forMs;
    return attacks[attack]({ ...target, from: () => ({}), isOn: () => performance.now() < endsAtMs });
  });
}
