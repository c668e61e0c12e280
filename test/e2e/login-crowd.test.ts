/** Two hundred logins at once from as many addresses, beside somebody who logs in from where they always do. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startTestApp, TEST_PASSWORD, type TestApp } from '../support/app.js';
import { silentLog } from '../support/silent-log.js';
import { until } from '../support/tcpx-rig.js';

const CROWD = 200;

let app: TestApp;
/** Passwords of the crowd that were verified. */
let refused = 0;

beforeAll(async () => {
  const info = (_details: object, message: string) => void (message === 'a password was refused' && refused++);
  app = await startTestApp({
    settings: { TASKDASH_HTTP_TRUSTED_PROXIES: '127.0.0.1' },
    log: { ...silentLog, info },
  });
  await app.addUser('ssx', { mx: 'member' });
});
afterAll(() => app.stop());

async function login(username: string, password: string, address: string): Promise<number> {
  const response = await fetch(`${app.http}/taskdash.auth.v1.AuthService/Login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-forwarded-for': address },
    body: JSON.stringify({ username, password }),
  });
  await response.arrayBuffer();
  return response.status;
}

it('keeps nobody waiting who is known, and answers the rest definitely', async () => {
  expect(await login('ssx', TEST_PASSWORD, '10.0.0.7')).toBe(200);
  const crowd = Array.from({ length: CROWD }, (_, n) => login(`user-${n}`, 'wrong', `10.1.${n}.1`));
  const answers: number[] = [];
  for (const each of crowd) void each.then((status) => answers.push(status));
  await until('the line of strangers is full', () => answers.includes(429));
  const before = refused;
  expect(await login('ssx', TEST_PASSWORD, '10.0.0.7')).toBe(200);
  // Of the sixty-four who were in line; some are served while the connection of whoever is known is accepted behind theirs.
  expect(refused - before).toBeLessThan(32);
  await Promise.all(crowd);
  expect(new Set(answers)).toEqual(new Set([401, 429]));
});
