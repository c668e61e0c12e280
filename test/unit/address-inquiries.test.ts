import { beforeEach, expect, it } from 'vitest';
import { AddressInquiries } from '../../server/domain/address-inquiries.js';
import { AddressVisits } from '../../server/domain/address-visits.js';
import type { AddressQuestionsHooks } from '../../server/domain/liveness-ports.js';
import { newSessionId } from '../../server/domain/liveness-session.js';
import { ManualClock } from '../support/manual-clock.js';

const HERE = '11111111-1111-4111-8111-111111111111';
const OTHER = '22222222-2222-4222-8222-222222222222';
const THIRD = '33333333-3333-4333-8333-333333333333';
const ADDRESS = '10.0.0.1';

let clock: ManualClock;
let visits: AddressVisits;
let hooks: AddressQuestionsHooks;
let sent: string[];
let hasPeers: boolean;
let missed: number;
let inquiries: AddressInquiries;

beforeEach(() => {
  clock = new ManualClock();
  visits = new AddressVisits(clock);
  sent = [];
  hasPeers = true;
  missed = 0;
  inquiries = new AddressInquiries({
    nodeId: HERE,
    questions: {
      ask: (address, atMs) => sent.push(`ask ${address} ${atMs}`),
      withdraw: (address) => sent.push(`withdraw ${address}`),
      answer: (to, address, atMs) => sent.push(`answer ${to} ${address} ${atMs}`),
      join: (_nodeId, joined) => (hooks = joined),
    },
    visits,
    clock,
    hasPeers: () => hasPeers,
    onMissed: () => missed++,
  });
  clock.advance(1000);
});

it('asks the others, where there are others', () => {
  inquiries.ask(ADDRESS);
  hasPeers = false;
  inquiries.ask(ADDRESS);
  expect(sent).toEqual([`ask ${ADDRESS} 1000`]);
});

it('answers for an address from which somebody is connected here, and for no other', () => {
  visits.came(ADDRESS);
  hooks.onAsked(OTHER, ADDRESS, 77);
  hooks.onAsked(OTHER, '10.0.0.2', 78);
  visits.went(ADDRESS, 'a', true);
  hooks.onAsked(OTHER, ADDRESS, 79);
  expect(sent).toEqual([`answer ${OTHER} ${ADDRESS} 77`]);
});

it('knows who was there when it was asked, and at which server', () => {
  visits.came(ADDRESS);
  hooks.onAnswered(OTHER, ADDRESS, 1000);
  hooks.onAnswered(OTHER, ADDRESS, 500);
  const there = (nodeId: string, sinceMs: number, address = ADDRESS) =>
    inquiries.wasThere(address, newSessionId(nodeId), sinceMs);
  expect([there(OTHER, 999.5), there(OTHER, 1000), there(OTHER, 1000.5)]).toEqual([true, true, false]);
  expect([there(THIRD, 0), there(OTHER, 0, '10.0.0.2')]).toEqual([false, false]);
  hooks.onAnswered(THIRD, ADDRESS, 2000);
  expect([there(THIRD, 1500), there(OTHER, 900)]).toEqual([true, true]);
});

it('forgets an address with its last connection, and takes no answer after that', () => {
  visits.came(ADDRESS);
  inquiries.ask(ADDRESS);
  hooks.onAnswered(OTHER, ADDRESS, 1000);
  expect(inquiries.size).toBe(1);
  visits.went(ADDRESS, 'a', true);
  inquiries.forget(ADDRESS);
  hooks.onAnswered(OTHER, ADDRESS, 1000);
  expect(inquiries.size).toBe(0);
  expect(sent.at(-1)).toBe(`withdraw ${ADDRESS}`);
});

it('tells that something may have been missed when listening begins', () => {
  hooks.onListening();
  expect(missed).toBe(1);
});
