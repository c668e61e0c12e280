import { isIP } from 'node:net';
import { hostname } from 'node:os';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allowedHosts } from '../../server/transports/allowed-hosts.js';

const LOOPBACK = [
  'localhost',
  'localhost:8080',
  'LOCALHOST.',
  'a.localhost',
  '127.0.0.1',
  '127.1.2.3:1',
  '[::1]',
  '[::1]:8080',
];
const STRANGE = [
  'evil.example',
  'localhost.evil.example',
  '127.0.0.1.evil.example',
  'evil.example:8080',
  '',
  '[::1',
  'xlocalhost',
  'evil.invalid/.localhost',
  'evil.invalid\\.localhost',
  'evil.invalid?.localhost',
  'evil.invalid#.localhost',
  'evil.invalid .localhost',
  'evil.invalid%2f.localhost',
  'evil.invalid:80.localhost',
  'evil.invalid@localhost',
  'user:password@localhost',
  'localhost@evil.invalid',
  'localhost/',
  'localhost,evil.invalid',
  'localhost:80:80',
  'localhost:x',
  'localhost:65536',
  'localhost..',
  '.localhost',
  'a..localhost',
  'local\u3002localhost',
  '::1',
  '[::1]x',
  '[::1%lo]',
  '[localhost]',
  '[127.0.0.1]',
  ':8080',
  '.',
];

/** What Host headers are made of, and what makes two readers take them for different hosts. */
const PIECES = [
  ...['localhost', 'evil.invalid', '.', '127.0.0.1', '[', '::1', ']', ':', '8080', 'A-b_c', '0x7f'],
  ...['/', '\\', '@', '?', '#', '%', '%2e', ' ', '\t', '\0', ',', ';', '\u3002', 'ü', '\ud83d'],
];

describe('a door', () => {
  it('answers for no host that a reader of URLs takes for another one, or for more than a host', () => {
    const header = fc.array(fc.constantFrom(...PIECES), { maxLength: 7 }).map((pieces) => pieces.join(''));
    fc.assert(
      fc.property(header, fc.constantFrom('127.0.0.1', '0.0.0.0', '::'), (host, listensOn) => {
        if (!allowedHosts(listensOn, [])(host)) return;
        const { username, password, pathname, search, hash, hostname: read } = new URL(`http://${host}/x`);
        expect({ username, password, pathname, search, hash }).toEqual({
          ...{ username: '', password: '', pathname: '/x', search: '', hash: '' },
        });
        const plain = read.replace(/^\[|\]$|\.$/g, '');
        expect(isIP(plain) !== 0 || /^(.+\.)?localhost$/.test(plain)).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  it.each(LOOPBACK)('answers for loopback, whatever it listens on: %s', (host) => {
    for (const listensOn of ['127.0.0.1', '0.0.0.0', '10.0.0.5', 'taskdash.internal'])
      expect(allowedHosts(listensOn, [])(host)).toBe(true);
  });

  it.each(STRANGE)('does not answer for %j', (host) => {
    for (const listensOn of ['127.0.0.1', '0.0.0.0', '::', 'taskdash.internal'])
      expect(allowedHosts(listensOn, ['https://tasks.example.com'])(host)).toBe(false);
  });

  it('on one address answers for that one', () => {
    const answersFor = allowedHosts('10.0.0.5', []);
    expect(['10.0.0.5', '10.0.0.5:8080', '10.0.0.6', '203.0.113.9'].map(answersFor)).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect(allowedHosts('2001:db8::5', [])('[2001:db8::5]:8080')).toBe(true);
    expect(allowedHosts('taskdash.internal', [])('TaskDash.internal:8080')).toBe(true);
  });

  it('on all addresses answers for any address, which is nobody’s name, and for the machine’s own name', () => {
    for (const listensOn of ['0.0.0.0', '::']) {
      const answersFor = allowedHosts(listensOn, []);
      expect(['203.0.113.9', '[2001:db8::9]:8080', `${hostname()}:8080`].map(answersFor)).toEqual([true, true, true]);
    }
  });

  it.each(['::0', '0:0:0:0:0:0:0:0', '::0.0.0.0', '::ffff:0.0.0.0', '::FFFF:0:0', '0', '0.0', '0x0', '00.0.0.0'])(
    'takes %s for all addresses',
    (listensOn) => {
      const answersFor = allowedHosts(listensOn, []);
      const hosts = ['203.0.113.9', '[2001:db8::9]:8080', `${hostname()}:8080`, 'evil.example'];
      expect(hosts.map(answersFor)).toEqual([true, true, true, false]);
    },
  );

  it.each([
    ['2001:DB8:0:0::5', '[2001:db8::5]'],
    ['2001:db8::5', '[2001:0DB8:0:0:0:0:0:5]'],
    ['::ffff:10.0.0.5', '10.0.0.5'],
    ['10.0.0.5', '[::ffff:10.0.0.5]'],
    ['::ffff:a00:5', '10.0.0.5'],
    ['10.5', '10.0.0.5'],
    ['0x0a.0.0.5', '10.0.0.5'],
  ])('on %s answers for %s, which is the same address, and for no other', (listensOn, host) => {
    const answersFor = allowedHosts(listensOn, []);
    expect([host, `${host}:8080`].map(answersFor)).toEqual([true, true]);
    const others = ['10.0.0.6', '[2001:db8::6]', 'a@10.0.0.5', '10.0.0.5/', '[fe80::1%eth0]', '10.0.0.5.example'];
    expect(others.filter(answersFor)).toEqual([]);
  });

  it('answers for loopback however it is written', () => {
    const answersFor = allowedHosts('10.0.0.5', []);
    expect(['[0:0:0:0:0:0:0:1]', '[::ffff:127.0.0.1]:8080', '127.1', 'localhost.:1'].map(answersFor)).toEqual([
      ...[true, true, true, true],
    ]);
  });

  it('answers for the names that the operator says', () => {
    const answersFor = allowedHosts('127.0.0.1', ['https://tasks.example.com/path', 'http://taskdash:8080']);
    expect(['tasks.example.com', 'tasks.example.com:443', 'TASKDASH:8080', 'example.com'].map(answersFor)).toEqual([
      ...[true, true, true, false],
    ]);
  });
});
