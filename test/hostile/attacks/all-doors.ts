/** Everything at once that makes a server keep bytes, at all doors and from several addresses, so that no bound of one helps. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Attack } from '../attack.js';
import { unreadAnswers } from './calls.js';
import { unreadPages } from './http.js';
import { unfinishedFrames } from './legacy.js';
import { unfinishedBodies, unfinishedCalls } from './messages.js';
import { unreadFinds } from './others.js';

const ADDRESSES = 6;
/** Those that register something first begin first. */
const ATTACKS = [unreadFinds, unreadPages, unreadAnswers, unfinishedFrames, unfinishedCalls, unfinishedBodies];
const BEGIN_EVERY_MS = 300;

/** Messages that never end, and answers that are never read, over HTTP, gRPC and the legacy door. */
export const allDoors: Attack = async (target) => {
  const attacker = { ...target, from: (n: number) => ({ localAddress: `127.0.0.${3 + (n % ADDRESSES)}` }) };
  const words = ATTACKS.map(async (attack, n) => {
    await delay(n * BEGIN_EVERY_MS);
    return attack(attacker);
  });
  return (await Promise.all(words)).join('; ');
};
