import { Code, type ConnectError } from '@connectrpc/connect';
import { beforeEach, describe, expect, it } from 'vitest';
import { Arrivals, type Arrival, type Sender } from '../../server/transports/rpc/arrivals.js';
import { ManualClock } from '../support/manual-clock.js';

const MIB = 1024 * 1024;
let clock: ManualClock;
let arrivals: Arrivals;
let refused: string[];

beforeEach(() => {
  clock = new ManualClock();
  arrivals = new Arrivals(clock, { maxMessageBytes: 4 * MIB });
  refused = [];
});

/** Begins a message of so many bytes. */
function send(name: string, bytes: number, sender: Sender): Arrival {
  const arrival = arrivals.begin(sender, ({ code, rawMessage }: ConnectError) => {
    refused.push(name);
    expect(rawMessage).toMatch(code === Code.DeadlineExceeded ? /within 30 s/ : /send fewer at once/);
  });
  arrival.hold(bytes);
  return arrival;
}

const from = (address: string): Sender => ({ connection: {}, address });

describe('what is arriving', () => {
  it('over one connection may have 16 MiB: the oldest goes', () => {
    const connection = from('10.0.0.1');
    for (let n = 0; n < 4; n++) send(`${n}`, 4 * MIB, connection);
    expect(refused).toEqual([]);
    send('4', 4 * MIB, connection);
    expect(refused).toEqual(['0']);
    expect(arrivals.bytes).toBe(16 * MIB);
  });

  it('from one address may have 32 MiB, of IPv6 from one network', () => {
    for (let n = 0; n < 9; n++) send(`${n}`, 4 * MIB, from(`2001:db8::${n}`));
    expect(refused).toEqual(['0']);
  });

  it('of all together may have 48 MiB: those make room who have most', () => {
    send('small', MIB, from('10.0.0.1'));
    for (let n = 0; n < 3; n++) send(`medium ${n}`, 4 * MIB, from('10.0.0.2'));
    for (let n = 0; n < 8; n++) send(`large ${n}`, 4 * MIB, from('10.0.0.3'));
    expect(refused).toEqual([]);
    send('one more', 4 * MIB, from('10.0.0.4'));
    send('too many', 4 * MIB, from('10.0.0.4'));
    send('far too many', 4 * MIB, from('10.0.0.4'));
    expect(refused.length).toBeGreaterThan(0);
    expect(refused.every((name) => name.startsWith('large'))).toBe(true);
    expect(arrivals.bytes).toBeLessThanOrEqual(48 * MIB);
  });

  it('is forgotten when it is whole, and refused once', () => {
    const connection = from('10.0.0.1');
    const whole = send('whole', 4 * MIB, connection);
    whole.end();
    whole.hold(4 * MIB);
    expect(arrivals.bytes).toBe(0);
    const large = send('large', 40 * MIB, connection);
    large.hold(41 * MIB);
    clock.advance(60_000);
    expect(refused).toEqual(['large']);
    expect(arrivals.bytes).toBe(0);
  });

  it('has 30 s', () => {
    send('slow', 1, from('10.0.0.1'));
    clock.advance(20_000);
    send('later', 1, from('10.0.0.1'));
    clock.advance(10_000);
    expect(refused).toEqual(['slow']);
    clock.advance(20_000);
    expect(refused).toEqual(['slow', 'later']);
  });

  it('counts until it is answered, but is neither late nor made to go when it is whole', () => {
    const connection = from('10.0.0.1');
    const whole = send('whole', 4 * MIB, connection);
    whole.settle(15 * MIB);
    send('next', MIB, connection);
    clock.advance(60_000);
    expect(refused).toEqual(['next']);
    send('no room', 2 * MIB, connection);
    expect(refused).toEqual(['next', 'no room']);
    whole.end();
    send('room again', 2 * MIB, connection);
    expect(refused).toEqual(['next', 'no room']);
    expect(arrivals.bytes).toBe(2 * MIB);
  });
});
