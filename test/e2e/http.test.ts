import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestApp, TEST_PASSWORD, type TestApp } from '../support/app.js';

let app: TestApp;

beforeAll(async () => {
  app = await startTestApp({ settings: { TASKDASH_RPC_MAX_MESSAGE_BYTES: '65536' } });
  await app.addUser('ssx', { mx: 'member' });
});
afterAll(() => app.stop());

const AUTH = '/taskdash.auth.v1.AuthService';
const TASKS = '/taskdash.task.v1.TaskService';

function post(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return fetch(app.http + path, {
    method: 'POST',
    body: text,
    headers: { 'content-type': 'application/json', ...headers },
  });
}

async function login(): Promise<{ cookie: string; setCookie: string }> {
  const answer = await post(`${AUTH}/Login`, { username: 'ssx', password: TEST_PASSWORD });
  expect(answer.status).toBe(200);
  const setCookie = answer.headers.get('set-cookie') ?? '';
  return { cookie: setCookie.split(';')[0] ?? '', setCookie };
}

describe('the cookie of a session', () => {
  it('is out of reach for scripts and other sites, and carries the login', async () => {
    const { cookie, setCookie } = await login();
    expect(setCookie).toMatch(/^taskdash_session=tds_[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict; Expires=/);
    const answer = await post(`${AUTH}/GetCurrentUser`, {}, { cookie });
    expect(await answer.json()).toEqual({
      user: { id: 'ssx', displayName: 'ssx', memberships: [{ groupId: 'mx', role: 'ROLE_MEMBER' }] },
      loginMethods: ['password'],
    });
  });

  it('is not set when a token is asked for', async () => {
    const answer = await post(`${AUTH}/Login`, { username: 'ssx', password: TEST_PASSWORD, issueToken: true });
    expect(answer.headers.get('set-cookie')).toBeNull();
    expect(await answer.json()).toMatchObject({ token: expect.stringMatching(/^tds_/) as string });
  });

  it('is worth nothing after logout', async () => {
    const { cookie } = await login();
    const answer = await post(`${AUTH}/Logout`, {}, { cookie });
    expect(answer.headers.get('set-cookie')).toContain('Expires=Thu, 01 Jan 1970');
    expect((await post(`${TASKS}/ListTasks`, {}, { cookie })).status).toBe(401);
    expect(await (await post(`${AUTH}/GetCurrentUser`, {}, { cookie })).json()).toEqual({ loginMethods: ['password'] });
  });

  it.each([{ 'sec-fetch-site': 'cross-site' }, { 'sec-fetch-site': 'same-site' }, { origin: 'https://evil.example' }])(
    'does not work from another site: %j',
    async (headers: Record<string, string>) => {
      const { cookie } = await login();
      const answer = await post(`${TASKS}/ListTasks`, {}, { cookie, ...headers });
      expect(answer.status).toBe(403);
      expect((await post(`${AUTH}/Login`, { username: 'ssx', password: TEST_PASSWORD }, headers)).status).toBe(403);
    },
  );

  it('works from our own page', async () => {
    const { cookie } = await login();
    expect((await post(`${TASKS}/ListTasks`, {}, { cookie, origin: app.http })).status).toBe(200);
    expect((await post(`${TASKS}/ListTasks`, {}, { cookie, 'sec-fetch-site': 'same-origin' })).status).toBe(200);
  });
});

describe('plain JSON', () => {
  it('gets errors with the code, a sentence and the details', async () => {
    const token = await app.addToken('mx');
    const answer = await post(
      `${TASKS}/RegisterTask`,
      { task: { id: '', groupId: 'mx', status: 'x'.repeat(65) } },
      { authorization: `Bearer ${token}` },
    );
    expect(answer.status).toBe(400);
    const { code, message, details } = (await answer.json()) as {
      code: string;
      message: string;
      details: { type: string; debug: unknown }[];
    };
    expect(code).toBe('invalid_argument');
    expect(message).toBe('The task is not valid: task.status must have at most 64 characters, has 65.');
    expect(details.map(({ type }) => type)).toEqual(['google.rpc.ErrorInfo', 'google.rpc.BadRequest']);
    expect(details[0]?.debug).toMatchObject({ reason: 'TASK_INVALID', domain: 'taskdash' });
  });

  it.each([
    ['nonsense', '{', 400],
    ['a field that does not exist', '{"tusk": 1}', 200],
    ['a body over the limit', JSON.stringify({ task: { description: 'x'.repeat(70_000) } }), 429],
  ])('answers %s in the form of the protocol', async (_what, body, status) => {
    const token = await app.addToken('mx');
    const answer = await post(`${TASKS}/ListTasks`, body, { authorization: `Bearer ${token}` });
    expect([answer.status, answer.headers.get('content-type')]).toEqual([status, 'application/json']);
  });

  it('answers an unknown method with 404', async () => {
    expect((await post(`${TASKS}/Nonsense`, {})).status).toBe(404);
  });
});

describe('the addresses of operators', () => {
  it('say that the process lives, and that it is ready', async () => {
    expect(await (await fetch(`${app.http}/healthz`)).text()).toBe('ok\n');
    expect(await (await fetch(`${app.http}/readyz`)).text()).toBe('ready\n');
  });

  it('tell metrics without ids, users or addresses', async () => {
    await post(`${TASKS}/GetTask`, { id: 'secret-id' }, { authorization: `Bearer ${await app.addToken('mx')}` });
    const text = await (await fetch(`${app.http}/metrics`)).text();
    expect(text).toContain('taskdash_rpc_duration_seconds_count{door="http",method="GetTask",code="NOT_FOUND"} 1');
    expect(text).toMatch(/^taskdash_pending_writes 0$/m);
    expect(text).not.toMatch(/secret-id|127\.0\.0\.1|ssx/);
  });
});

describe('every answer', () => {
  it.each(['/', '/tasks/some.id', '/healthz', '/assets/none.js', `${TASKS}/ListTasks`])(
    'of %s forbids foreign code and frames',
    async (path) => {
      const answer = await fetch(app.http + path);
      expect(answer.headers.get('content-security-policy')).toMatch(
        /default-src 'none'; script-src 'self';.*frame-ancestors 'none'/,
      );
      expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
      expect(answer.headers.get('x-frame-options')).toBe('DENY');
    },
  );

  it('to a call is neither held back nor packed by a proxy', async () => {
    for (const method of ['ListTasks', 'WatchTasks']) {
      const headers = { 'content-type': method === 'ListTasks' ? 'application/json' : 'application/connect+json' };
      const answer = await fetch(`${app.http}${TASKS}/${method}`, { method: 'POST', headers, body: '{}' });
      await answer.body?.cancel();
      expect(answer.headers.get('x-accel-buffering')).toBe('no');
      expect(answer.headers.get('cache-control')).toContain('no-transform');
    }
  });

  it('of a view of the page is its start document, never kept; of a file that is not there 404', async () => {
    const view = await fetch(`${app.http}/tasks/some.id`);
    expect([view.status, view.headers.get('cache-control')]).toEqual([200, 'no-cache']);
    expect(await view.text()).toContain('<!doctype html>');
    expect((await fetch(`${app.http}/assets/none.js`)).status).toBe(404);
    expect((await fetch(`${app.http}/favicon.none`)).status).toBe(404);
    expect((await fetch(`${app.http}/assets/../../package.json`)).status).not.toBe(200);
  });
});
