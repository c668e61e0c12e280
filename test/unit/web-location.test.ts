import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  connectionsHref,
  isSameView,
  loginHref,
  PAGE_SIZES,
  parseRoute,
  passwordHref,
  PLAIN_VIEW,
  taskHref,
  tasksHref,
  tasksOfAddressHref,
} from '../../web/src/state/location.js';
import { ORDER_FIELDS } from '../../web/src/state/task-order.js';

function read(href: string) {
  const url = new URL(href, 'http://taskdash.test');
  return parseRoute(url.pathname, url.search);
}

describe('an address', () => {
  it('leads to the list, plain or with everything that shapes it', () => {
    expect(read('/')).toEqual({ page: 'tasks', view: PLAIN_VIEW });
    expect(tasksHref()).toBe('/tasks');
    const view = {
      text: 'status:running 导入',
      order: { field: 'name', ascending: true },
      pageSize: 100,
      pageToken: 'a+/=',
    } as const;
    expect(tasksHref(view)).toContain('q=status:running');
    expect(read(tasksHref(view))).toEqual({ page: 'tasks', view });
  });

  it('gives back every view that was written', () => {
    const view = fc.record({
      text: fc.string({ unit: 'grapheme' }).map((text) => text.trim()),
      order: fc.record({ field: fc.constantFrom(...ORDER_FIELDS), ascending: fc.boolean() }),
      pageSize: fc.constantFrom(...PAGE_SIZES),
      pageToken: fc.base64String(),
    });
    fc.assert(
      fc.property(view, (written) => {
        const route = read(tasksHref(written));
        expect(route).toEqual({ page: 'tasks', view: written });
        expect(route.page === 'tasks' && isSameView(route.view, written)).toBe(true);
      }),
    );
  });

  it('falls back to the plain wish where it says nonsense', () => {
    expect(read('/tasks?sort=-colour&size=7')).toEqual({ page: 'tasks', view: PLAIN_VIEW });
  });

  it('leads to the connections, a page of them, or those that are held', () => {
    for (const view of [{}, { pageToken: 'a+/=' }, { heldOnly: true }]) {
      const whole = { heldOnly: false, pageToken: '', ...view };
      expect(read(connectionsHref(view))).toEqual({ page: 'connections', view: whole });
    }
    expect(connectionsHref({ heldOnly: true })).toBe('/connections?show=held');
    expect(read('/connections?show=held&page=x')).toMatchObject({ view: { heldOnly: true, pageToken: '' } });
  });

  it('leads to the tasks that were reported from an address', () => {
    expect(tasksOfAddressHref('10.0.0.7')).toBe('/tasks?q=addr:10.0.0.7');
    expect(read(tasksOfAddressHref('fe80::1'))).toMatchObject({ page: 'tasks', view: { text: 'addr:fe80::1' } });
  });

  it('leads to a task of any id', () => {
    for (const id of ['130', 'a/b', '.', '..', '...', '%2F', 'a?b#c', '任务 1', 'x.js', '~', ' ', '\\']) {
      expect(read(taskHref(id)), id).toEqual({ page: 'task', id });
    }
    fc.assert(
      fc.property(fc.string({ minLength: 1, unit: 'grapheme' }), (id) => {
        expect(read(taskHref(id))).toEqual({ page: 'task', id });
      }),
    );
  });

  it('is unknown where it is none of ours', () => {
    for (const path of ['/nowhere', '/tasks/', '/tasks/a/b', '/tasks/%E0%A4%A'])
      expect(read(path).page).toBe('unknown');
  });
});

describe('the way in', () => {
  it('remembers where one was going', () => {
    expect(read(loginHref('/tasks/130'))).toEqual({ page: 'login', next: '/tasks/130' });
    expect(read(passwordHref('/tasks?q=x&size=100'))).toEqual({ page: 'password', next: '/tasks?q=x&size=100' });
    expect(loginHref('/tasks')).toBe('/login');
  });

  it('never leads to another site or back to itself', () => {
    for (const next of [
      'https://evil.test',
      '//evil.test',
      '/\\evil.test',
      '/\t/evil.test',
      '/..//evil.invalid/login',
      '/.//evil.invalid',
      '/tasks/..//evil.invalid/tasks',
      '/a/../login',
      '/%2e%2e//evil.invalid',
      'javascript:1',
      '/login',
      '/login?next=/x',
      '/password',
      '/',
      '',
    ]) {
      expect(read(`/login?${new URLSearchParams({ next }).toString()}`), next).toEqual({
        page: 'login',
        next: '/tasks',
      });
    }
  });

  it('leads, however an address is pieced together, to a page of this origin, and stays as it is from then on', () => {
    const addresses = fc
      .array(fc.constantFrom(...PIECES), { minLength: 1, maxLength: 9 })
      .map((pieces) => pieces.join(''));
    const accepted = new Set<string>();
    fc.assert(
      fc.property(addresses, fc.constantFrom('/login', '/password'), (address, way) => {
        const next = nextOf(`${way}?${new URLSearchParams({ next: address }).toString()}`);
        for (const origin of ORIGINS) expect(new URL(next, `${origin}${way}`).origin, next).toBe(origin);
        expect(['login', 'password'], next).not.toContain(read(next).page);
        expect([nextOf(loginHref(next)), nextOf(passwordHref(next))]).toEqual([next, next]);
        // What the address bar says after going there is what was gone to.
        const url = new URL(next, 'http://taskdash.test');
        expect(url.pathname + url.search + url.hash).toBe(next);
        if (next !== '/tasks') accepted.add(next);
      }),
      { numRuns: 3000, seed: 20_260_115 },
    );
    expect(accepted.size).toBeGreaterThan(300);
  });
});

/** What addresses that mean harm are made of, and what makes honest ones. */
const PIECES = [
  ...['/', '/', '/', '//', '\\', '.', '..', '/../', '/./', '%2e', '%2E%2e', '%2f', '%5c', '%00', '%'],
  ...['\t', '\n', '\r', ' ', '\u0000', '\u001f', '@', ':', ':80', ';', '?', '#', '&', '=', 'next='],
  ...[
    'javascript:',
    'data:',
    'http:',
    'https://',
    'http://here.invalid',
    'evil.test',
    'user@evil.test',
    '[::1]',
    '127.1',
  ],
  ...['\u3002', '\uff0e', '\u2024', '\uff0f', '\u2215', '\uff3c', '\u200b', '\ufeff', '\u202e', '\ud800', '任务'],
  ...[
    '/login',
    '/password',
    'login',
    'LOGIN',
    '%6cogin',
    '/tasks',
    'tasks/',
    '/connections',
    '130',
    '?q=x',
    '?next=/login',
  ],
];

const ORIGINS = ['http://taskdash.test', 'https://taskdash.test:8443', 'http://127.0.0.1:8080', 'http://here.invalid'];

function nextOf(href: string): string {
  const route = read(href);
  return route.page === 'login' || route.page === 'password' ? route.next : expect.fail(`${href} is not the way in`);
}
