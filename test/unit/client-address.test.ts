import { isIP, isIPv6 } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allowOnly, forwardedAddress, plainAddress } from '../../server/transports/client-address.js';
import { PRIVATE_RANGES } from '../../server/transports/tcpx/limits.js';

describe('an address', () => {
  it.each([
    ['::ffff:1.2.3.4', '1.2.3.4'],
    ['::FFFF:10.0.0.1', '10.0.0.1'],
    ['10.0.0.1', '10.0.0.1'],
    ['::1', '::1'],
    ['fe80::1%eth0', 'fe80::1%eth0'],
    ['::ffff:abcd', '::ffff:abcd'],
  ])('%s is spelt %s', (raw, plain) => {
    expect(plainAddress(raw)).toBe(plain);
  });
});

describe('the default list', () => {
  const isAllowed = allowOnly(PRIVATE_RANGES);

  it.each([
    '127.0.0.1',
    '127.9.9.9',
    '10.1.2.3',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.7.7',
    '169.254.1.1',
    '::1',
    'fd12::7',
    'fe80::1',
    'fe80::1%eth0',
  ])('lets %s in', (address) => {
    expect(isAllowed(address)).toBe(true);
  });

  it.each(['8.8.8.8', '172.32.0.1', '172.15.0.1', '192.169.0.1', '11.0.0.1', '2001:db8::1', '::2', '', 'nonsense'])(
    'keeps %j out',
    (address) => {
      expect(isAllowed(address)).toBe(false);
    },
  );
});

describe('a list', () => {
  it('that is empty lets everybody in', () => {
    expect(allowOnly([])('8.8.8.8')).toBe(true);
  });

  it('may name single addresses', () => {
    const isAllowed = allowOnly(['8.8.8.8', '2001:db8::1']);
    expect(['8.8.8.8', '8.8.8.9', '2001:db8::1', '2001:db8::2'].map(isAllowed)).toEqual([true, false, true, false]);
  });

  it.each(['localhost', '10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/', '10.0.0.0/8/8', '::1/129', '10.0.0/8', ''])(
    'with the entry %j is refused by name',
    (entry) => {
      expect(() => allowOnly(['10.0.0.0/8', entry])).toThrow(JSON.stringify(entry));
    },
  );
});

describe('an address behind proxies', () => {
  const isProxy = allowOnly(['10.0.0.0/8', '::1']);

  it.each([
    ['of the peer, who is no proxy, whatever it claims', '203.0.113.7', '198.51.100.1', '203.0.113.7'],
    ['of the peer, where nothing is claimed', '10.0.0.1', undefined, '10.0.0.1'],
    ['that the proxy tells', '10.0.0.1', '198.51.100.1', '198.51.100.1'],
    ['that the proxy tells, on an IPv6 socket', '::ffff:10.0.0.1', '2001:db8::1', '2001:db8::1'],
    ['that the last proxy tells, not what was claimed before it', '10.0.0.1', '1.1.1.1, 198.51.100.1', '198.51.100.1'],
    ['before all proxies on the way', '10.0.0.1', '1.1.1.1,198.51.100.1 , 10.2.2.2', '198.51.100.1'],
    ['of the first proxy, where there are only proxies', '10.0.0.1', '10.3.3.3, 10.2.2.2', '10.3.3.3'],
    ['of the proxy, where it tells nothing', '::1', ' , ', '::1'],
    ['of the proxy, where it does not know', '10.0.0.1', '1.1.1.1, unknown', '10.0.0.1'],
    ['of the proxy, where it hides who asked', '10.0.0.1', '1.1.1.1, _hidden:80', '10.0.0.1'],
    ['of the proxy, where it tells half an address', '10.0.0.1', '203.0.113, 203.0.113.', '10.0.0.1'],
    ['of the last proxy that is told, where that tells none', '10.0.0.1', '1.1.1.1, unknown, 10.2.2.2', '10.2.2.2'],
    ['that is told, whatever was claimed before it', '10.0.0.1', 'unknown, 198.51.100.1', '198.51.100.1'],
    ['before a proxy with a port', '10.0.0.1', '198.51.100.1:7, 10.2.2.2:80', '198.51.100.1'],
  ])('is the one %s', (_which, peer, claimed, expected) => {
    expect(forwardedAddress(peer, claimed, isProxy)).toBe(expected);
  });

  it.each([
    ['203.0.113.9:20001', '203.0.113.9'],
    ['[203.0.113.9]:20001', '203.0.113.9'],
    ['[2001:db8::9]:443', '2001:db8::9'],
    ['[2001:db8::9]', '2001:db8::9'],
    ['2001:DB8:0:0::0009', '2001:db8::9'],
    ['fe80::1%eth0', 'fe80::1'],
    ['[fe80::1%3]:80', 'fe80::1'],
    ['::ffff:203.0.113.9', '203.0.113.9'],
    ['::FFFF:cb00:7109', '203.0.113.9'],
    ['[0:0:0:0:0:ffff:203.0.113.9]:80', '203.0.113.9'],
  ])('that is told as %s is %s', (told, address) => {
    expect(forwardedAddress('10.0.0.1', told, isProxy)).toBe(address);
  });

  it('is one and the same however it is told', () => {
    const port = fc.integer({ min: 0, max: 65535 });
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), port, port, (address, one, other) => {
        const host = isIPv6(address) ? `[${address}]` : address;
        const spellings = [
          address,
          address.toUpperCase(),
          host,
          `${host}:${one}`,
          `${host}:${other}`,
          ` ${host}:${one} `,
        ];
        const addresses = spellings.map((told) => forwardedAddress('10.0.0.1', told, (hop) => hop === '10.0.0.1'));
        expect(new Set(addresses).size).toBe(1);
      }),
      {
        examples: [
          ['203.0.113.9', 20001, 20002],
          ['2001:db8::9', 443, 80],
        ],
      },
    );
  });

  it('is an address, whatever is told', () => {
    const part = fc.constantFrom('1.2.3.4', '::1', '[', ']', ':', '80', '%', ',', ' ', '.', 'unknown', '"', '::ffff:');
    const odd = fc.oneof(fc.string(), fc.string({ unit: part, maxLength: 8 }));
    fc.assert(
      fc.property(odd, (told) => {
        const address = forwardedAddress('10.0.0.1', told, isProxy);
        expect(isIP(address)).not.toBe(0);
        expect(address).not.toMatch(/%|^::ffff:.*[.]/);
      }),
    );
  });
});
