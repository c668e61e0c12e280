import { beforeEach, expect, it } from 'vitest';
import type { Principal } from '../../server/domain/access.js';
import { TokenQuota } from '../../server/domain/token-quota.js';
import { ManualClock } from '../support/manual-clock.js';

const token = (name: string, groupId = 'mx'): Principal => ({
  kind: 'token',
  name,
  groupId,
  scopes: ['register'],
  address: '',
});
let clock: ManualClock;
let exceeded: string[];
let quota: TokenQuota;

beforeEach(() => {
  clock = new ManualClock();
  exceeded = [];
  quota = new TokenQuota(clock, { newTasksPerMinute: 60, onExceeded: (owner) => exceeded.push(owner) });
});

/** Takes ids until it may no more, so many at most. */
function takeUpTo(count: number, principal: Principal): number {
  for (let taken = 0; taken < count; taken++) {
    if (!quota.take(principal)) return taken;
  }
  return count;
}

it('a token may take so many new ids at once, and as many a minute', () => {
  expect(takeUpTo(1000, token('a'))).toBe(60);
  clock.advance(10_000);
  expect(takeUpTo(1000, token('a'))).toBe(10);
  clock.advance(3_600_000);
  expect(takeUpTo(1000, token('a'))).toBe(60);
});

it('what was not new is given back, and never more than was taken', () => {
  takeUpTo(60, token('a'));
  for (let i = 0; i < 10; i++) quota.giveBack(token('a'));
  expect(takeUpTo(1000, token('a'))).toBe(10);
  for (let i = 0; i < 60; i++) quota.giveBack(token('a'));
  clock.advance(60_000);
  expect(takeUpTo(1000, token('a'))).toBe(60);
});

it('each token has its own, and so have those of one name in two groups', () => {
  takeUpTo(1000, token('a'));
  expect(takeUpTo(5, token('b'))).toBe(5);
  expect(takeUpTo(5, token('a', 'other'))).toBe(5);
});

it('says who, how many and what to do', () => {
  takeUpTo(1000, token('a'));
  expect(quota.exceeded(token('a')).message).toMatch(/token:a has taken 60 new ids.*TASKDASH_TOKEN_NEW_TASKS/);
  expect(exceeded).toEqual(['token:a@mx']);
});

it('people, operators and the legacy door have none, and it may be switched off', () => {
  const principals: Principal[] = [
    { kind: 'legacy', address: '10.0.0.1' },
    { kind: 'user', id: 'ann', administrator: false, memberships: new Map() },
    { kind: 'operator' },
  ];
  for (const principal of principals) expect(takeUpTo(1000, principal)).toBe(1000);
  const off = new TokenQuota(clock, { newTasksPerMinute: 0, onExceeded: () => {} });
  for (let i = 0; i < 1000; i++) expect(off.take(token('a'))).toBe(true);
});

it('memory is bounded, however many tokens there are', () => {
  for (let i = 0; i < 30_000; i++) quota.take(token(`t${i}`));
  expect(takeUpTo(1000, token('latest'))).toBe(60);
});
