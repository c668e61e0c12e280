import type { Browser, Page } from '@playwright/test';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { LeaseService } from '../../../proto/gen/taskdash/task/v1/lease_service_pb.js';
import { TaskService } from '../../../proto/gen/taskdash/task/v1/task_service_pb.js';
import type { TestApp } from '../../support/app.js';
import { launchChromium } from '../../support/chromium.js';
import { TcpxClient } from '../../support/tcpx-client.js';
import {
  columnOf,
  eventually,
  inBrowser,
  logIn,
  openPage,
  rowsOf,
  startWebTestApp,
  type OpenPage,
} from '../../support/web-page.js';

const PAGE_SIZE = 50;
const OTHERS = 60;

let app: TestApp;
let browser: Browser;
let open: OpenPage;
const clients: TcpxClient[] = [];

beforeAll(async () => {
  [app, browser] = await Promise.all([startWebTestApp(), launchChromium()]);
  await app.addUser('boss', {}, true);
  await app.addUser('vera', { mx: 'viewer' });
  await app.addUser('newcomer', { empty: 'viewer' });
  const two = await connect();
  await two.register({ id: 'a', name: 'import', user: 'anna', group_id: 'mx', status: 'running' });
  await two.register({ id: 'b', name: 'export', user: 'anna', group_id: 'mx', status: 'running' });
  await two.register({ id: 'c', name: 'foreign', user: 'anna', group_id: 'ops', status: 'running' });
  const token = await app.addToken('mx');
  const { lease } = await app.client(LeaseService, 'grpc', token).grantLease({});
  const task = { id: 'd', name: 'leased', user: 'anna', groupId: 'mx' };
  await app.client(TaskService, 'grpc', token).registerTask({ task, leaseId: lease?.id ?? '' });
  for (let index = 0; index < OTHERS; index++) await (await connect()).register(opsTask(`o${index}`));
});
afterAll(async () => {
  await browser.close();
  await Promise.all(clients.map((client) => client.close()));
  await app.stop();
});
beforeEach(async () => {
  open = await openPage(browser, app.http);
});
afterEach(async () => {
  expect(open.complaints).toEqual([]);
  await open.close();
});

function opsTask(id: string) {
  return { id, name: id, user: 'anna', group_id: 'ops', status: 'running' };
}

async function connect(): Promise<TcpxClient> {
  const client = await TcpxClient.connect(app.tcp);
  clients.push(client);
  return client;
}

const bottom = (page: Page) => page.getByRole('navigation', { name: 'Pages', exact: true });

it('shows the connections that hold tasks of the own groups, and counts only those', async () => {
  const { page } = open;
  await logIn(page, 'vera');
  await page.getByRole('link', { name: 'Connections' }).click();
  await eventually(() => rowsOf(page).count()).toBe(2);
  expect((await columnOf(page, 'tasks')).sort()).toEqual(['1', '2']);
  expect((await columnOf(page, 'door')).sort()).toEqual(['TCP', 'gRPC']);
  expect(await columnOf(page, 'state')).toEqual(['connected', 'connected']);
  expect(await bottom(page).innerText()).toMatch(/^2 connections · as of \d\d:\d\d:\d\d$/);
});

it('leads from a connection to the tasks from its address', async () => {
  const { page } = open;
  await logIn(page, 'vera', '/connections');
  await page.getByRole('link', { name: /^2 tasks; show the tasks from / }).click();
  await page.waitForURL('**/tasks?q=addr:127.0.0.1');
  await eventually(() => columnOf(page, 'name')).toContain('import');
});

it('says why there is nothing to see', async () => {
  const { page } = open;
  await logIn(page, 'newcomer', '/connections');
  await page.getByRole('heading', { name: 'No connection holds a task that you may see' }).waitFor();
  await page.getByRole('radio', { name: 'Held' }).check({ force: true });
  await page.getByRole('heading', { name: 'Nothing is held' }).waitFor();
});

it('shows page after page, and back', async () => {
  const { page } = open;
  await logIn(page, 'boss', '/connections');
  await eventually(() => rowsOf(page).count()).toBe(PAGE_SIZE);
  expect(await bottom(page).innerText()).toContain('50 connections on this page');
  const ids = () => inBrowser<string[]>(page, `[...document.querySelectorAll('[data-row]')].map((a) => a.dataset.row)`);
  const first = await ids();
  await page.getByRole('button', { name: 'Next page' }).click();
  // One connection for each client, and the lease.
  await eventually(() => rowsOf(page).count()).toBe(clients.length + 1 - PAGE_SIZE);
  expect((await ids()).filter((id) => first.includes(id))).toEqual([]);
  await page.getByRole('button', { name: 'Previous page' }).click();
  await eventually(ids).toEqual(first);
});

it('goes to the first page when the address names one that does not exist', async () => {
  const { page } = open;
  await logIn(page, 'boss', '/connections?page=nonsense');
  await page.waitForURL('**/connections');
  await eventually(() => rowsOf(page).count()).toBe(PAGE_SIZE);
});

it('follows by itself what comes and goes, but moves no row under the pointer', async () => {
  const { page } = open;
  await app.addUser('olga', { late: 'viewer' });
  const one = await connect();
  await one.register({ ...opsTask('late-1'), group_id: 'late' });
  await logIn(page, 'olga', '/connections');
  await eventually(() => rowsOf(page).count()).toBe(1);
  await rowsOf(page).first().hover();
  const before = await rowsOf(page).first().boundingBox();
  for (const id of ['late-2', 'late-3']) await (await connect()).register({ ...opsTask(id), group_id: 'late' });
  await eventually(() => rowsOf(page).count()).toBe(3);
  await one.register({ ...opsTask('late-4'), group_id: 'late' });
  await eventually(async () => (await columnOf(page, 'tasks'))[0]).toBe('2');
  expect(await rowsOf(page).first().boundingBox()).toEqual(before);
});

it('is reached and walked through with the keyboard', async () => {
  const { page } = open;
  await logIn(page, 'vera');
  await page.locator('.fresh.live').waitFor();
  await page.keyboard.press('c');
  await page.waitForURL('**/connections');
  await eventually(() => rowsOf(page).count()).toBe(2);
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  const focused = 'document.activeElement.closest("tr").rowIndex';
  expect(await inBrowser(page, focused)).toBe(2);
  await page.keyboard.press('k');
  expect(await inBrowser(page, focused)).toBe(1);
  await page.keyboard.press('t');
  await page.waitForURL('**/tasks');
});
