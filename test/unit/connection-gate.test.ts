import { describe, expect, it } from 'vitest';
import { ConnectionGate } from '../../server/transports/connection-gate.js';

const isProxy = (address: string) => address === '10.9.9.9';

describe('the gate of a door', () => {
  it('takes so many connections from a network, and of trusted proxies as many as there are', () => {
    const gate = new ConnectionGate({ together: 10, network: 2, isProxy });
    const asked = ['2001:db8::1', '2001:db8::2', '2001:db8::3', '::ffff:10.0.0.1', '10.0.0.1', '10.0.0.1'];
    expect(asked.map((address) => gate.admits(address))).toEqual([true, true, false, true, true, false]);
    expect([1, 2, 3, 4].map(() => gate.admits('10.9.9.9'))).toEqual([true, true, true, true]);
  });

  it('takes so many together, and another one when one is closed', () => {
    const gate = new ConnectionGate({ together: 3, network: 2 });
    expect(['10.0.0.1', '10.0.0.1', '10.0.0.2', '10.0.0.3'].map((address) => gate.admits(address))).toEqual([
      ...[true, true, true, false],
    ]);
    gate.onClosed('10.0.0.1');
    expect(gate.admits('10.0.0.1')).toBe(true);
    expect(gate.admits('10.0.0.3')).toBe(false);
  });
});
