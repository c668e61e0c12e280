/** The password of the first administrator, as an operator sets it. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { startTestApp } from '../support/app.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

let database: TestDatabase;

beforeEach(async () => {
  database = await createTestDatabase();
});
afterEach(() => database.drop());

it.each([
  ['taskdash2026', 'little more than the user name'],
  ['12345678', 'tried first'],
])('keeps the server from starting when it is %s, and says which setting it is and why', async (password, reason) => {
  const settings = { TASKDASH_ADMIN_PASSWORD: password };
  const failure: unknown = await startTestApp({ database, settings }).catch((thrown: unknown) => thrown);
  expect(failure).toMatchObject({ name: 'ConfigError' });
  const { message } = failure as Error;
  expect(message).toMatch(/^TASKDASH_ADMIN_PASSWORD: the value given is not allowed; it must not be/);
  expect(message).toContain(reason);
  expect(message).not.toContain(password);
});

it('does not matter any more when there is a user', async () => {
  await (await startTestApp({ database })).stop();
  const settings = { TASKDASH_ADMIN_PASSWORD: 'taskdash2026' };
  await (await startTestApp({ database, settings })).stop();
});
