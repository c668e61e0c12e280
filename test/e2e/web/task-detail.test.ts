import type { Browser, Page } from '@playwright/test';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startTestApp, type TestApp } from '../../support/app.js';
import { launchChromium } from '../../support/chromium.js';
import { TcpxClient } from '../../support/tcpx-client.js';
import {
  eventually,
  inBrowser,
  logIn,
  openPage,
  rowsOf,
  waitUntilLive,
  type OpenPage,
  startWebTestApp,
} from '../../support/web-page.js';

let app: TestApp;
let service: TcpxClient;
let browser: Browser;
let open: OpenPage;

beforeAll(async () => {
  [app, browser] = await Promise.all([startWebTestApp(), launchChromium()]);
  service = await TcpxClient.connect(app.tcp);
  await app.addUser('vera', { mx: 'viewer' });
  await app.addUser('ssx', { mx: 'member' });
});
afterAll(async () => {
  await browser.close();
  await service.close();
  await app.stop();
});
beforeEach(async () => {
  open = await openPage(browser, app.http);
  await open.context.grantPermissions(['clipboard-read', 'clipboard-write']);
});
afterEach(async () => {
  expect(open.complaints).toEqual([]);
  await open.close();
});

const RECORD = {
  name: 'nightly import',
  url: 'https://example.test/v1/task',
  user: 'ssx',
  group_id: 'mx',
  description: 'adds data\nin two lines',
  status: 'running',
  start_time: '2026-01-15T08:00:00+08:00',
  stop_time: '18:00',
};

/** The pairs of a list of terms, whatever their section. */
async function fieldsOf(page: Page): Promise<Record<string, string>> {
  const fields = await page.locator('dl .field').all();
  const pairs = await Promise.all(
    fields.map(async (field) => [
      (await field.locator('dt').innerText()).trim(),
      (await field.locator('dd .value').or(field.locator('dd:not(:has(.value))')).innerText()).trim(),
    ]),
  );
  return Object.fromEntries(pairs) as Record<string, string>;
}

function history(page: Page): Promise<string[]> {
  return page.locator('td.what').allInnerTexts();
}

describe('the page of a task', () => {
  it('shows every field, copies them, and links to the task', async () => {
    const { page } = open;
    await service.register({ id: 'whole/record', ...RECORD });
    await logIn(page, 'vera', '/tasks/whole%2Frecord');
    await page.getByRole('heading', { name: 'nightly import' }).waitFor();
    expect(await fieldsOf(page)).toMatchObject({
      ID: 'whole/record',
      Name: 'nightly import',
      URL: 'example.test/v1/task',
      User: 'ssx',
      GroupID: 'mx',
      Description: 'adds data␊\nin two lines',
      Status: 'running',
      StartTime: '2026-01-15 08:00',
      StopTime: '18:00',
      'Reported from': '127.0.0.1',
      Cause: 'Reported by the service',
      Version: '1',
    });
    await page.getByRole('button', { name: 'Copy Description' }).click();
    await page.getByRole('status').filter({ hasText: 'Copied' }).waitFor({ state: 'attached' });
    expect(await inBrowser(page, 'navigator.clipboard.readText()')).toBe('adds data\nin two lines');
    const link = page.getByRole('link', { name: 'Open link' });
    expect(await link.getAttribute('href')).toBe('https://example.test/v1/task');
    expect(await link.getAttribute('rel')).toBe('noopener noreferrer');
  });

  it('follows changes: status, history and time line', async () => {
    const { page } = open;
    await service.register({ id: 'followed', ...RECORD });
    await logIn(page, 'vera', '/tasks/followed');
    await waitUntilLive(page);
    await eventually(() => history(page)).toEqual(['registered as running']);
    await service.register({ id: 'followed', ...RECORD, status: 'restart' });
    await service.register({ id: 'followed', ...RECORD, status: 'finish' });
    await eventually(() => history(page)).toEqual(['restart → finish', 'running → restart', 'registered as running']);
    expect((await fieldsOf(page))['Status']).toBe('finish');
    const line = page.getByRole('region', { name: 'Time line' }).getByRole('img');
    expect(await line.getAttribute('aria-label')).toMatch(/^Oldest first: running for .*; restart for .*; finish for /);
  });

  it('loads older history page by page, each change once', async () => {
    const { page } = open;
    for (let version = 0; version < 120; version++) {
      await service.register({ id: 'long', ...RECORD, status: version % 2 === 0 ? 'running' : 'restart' });
    }
    await logIn(page, 'vera', '/tasks/long');
    await eventually(async () => (await history(page)).length).toBe(50);
    const more = page.getByRole('button', { name: 'Load more' });
    await more.click();
    await eventually(async () => (await history(page)).length).toBe(100);
    await more.click();
    await eventually(async () => (await history(page)).length).toBe(120);
    expect((await history(page)).at(-1)).toBe('registered as running');
    expect(await more.count()).toBe(0);
  });

  it('names a silence in words, in the history and in the time line', async () => {
    const { page } = open;
    const shortLived = await startTestApp({
      settings: { TASKDASH_HEARTBEAT_TTL: '1s', TASKDASH_RECONNECT_GRACE: '1s' },
    });
    try {
      const silent = await TcpxClient.connect(shortLived.tcp);
      await silent.register({ id: 'silent', ...RECORD });
      await shortLived.addUser('vera', { mx: 'viewer' });
      await logIn(page, 'vera', `${shortLived.http}/tasks/silent`);
      await eventually(() => history(page).then((lines) => lines[0])).toMatch(
        /^running → shutdown after \d+ (seconds?|milliseconds) of silence$/,
      );
      const timeline = page.getByRole('region', { name: 'Time line' });
      expect(await timeline.getByRole('listitem').innerText()).toMatch(/^no sign of life for \d+ (second|millisecond)/);
      expect(await page.locator('header .state').innerText()).toMatch(
        /shutdown[^]*(No sign of life|connection closed)/,
      );
      await silent.close();
    } finally {
      await shortLived.stop();
    }
  });

  it('has the record as JSON, under the names of the contract', async () => {
    const { page } = open;
    await service.register({ id: 'raw', ...RECORD });
    await logIn(page, 'vera', '/tasks/raw');
    await page.getByText('Raw JSON').click();
    const shown = page.locator('details pre');
    await eventually(() => shown.innerText()).toContain('"revision"');
    expect(JSON.parse(await shown.innerText())).toMatchObject({
      id: 'raw',
      group_id: 'mx',
      status: 'running',
      start_time: RECORD.start_time,
    });
  });

  it('says when there is no such task, also for one that exists and may not be seen', async () => {
    const { page } = open;
    await service.register({ id: 'foreign', ...RECORD, user: 'wsg' });
    await logIn(page, 'ssx', '/tasks/foreign');
    const words = page.getByRole('alert');
    await words.waitFor();
    const foreign = await words.innerText();
    await page.goto('/tasks/never-registered');
    await words.waitFor();
    expect(await words.innerText()).toBe(foreign);
    expect(foreign).toContain('There is no such task');
  });

  it('says when the task leaves what one may see', async () => {
    const { page } = open;
    await service.register({ id: 'leaving', ...RECORD });
    await logIn(page, 'vera', '/tasks/leaving');
    await waitUntilLive(page);
    await page.getByRole('heading', { name: 'nightly import' }).waitFor();
    await service.register({ id: 'leaving', ...RECORD, group_id: 'elsewhere' });
    await page.getByText('no longer among those that you may see').waitFor();
    expect((await fieldsOf(page))['GroupID']).toBe('mx');
  });
});

describe('going forth and back', () => {
  it('returns to the same view of the list, at the same place, still live', async () => {
    const { page } = open;
    for (let index = 100; index < 160; index++)
      await service.register({ id: `n${index}`, ...RECORD, name: `n${index}` });
    await logIn(page, 'vera', '/tasks?q=id:n1&sort=name');
    await eventually(() => rowsOf(page).count()).toBe(50);
    const place = "document.querySelector('.scroller').scrollTop";
    await inBrowser(page, `${place} = 400`);
    await page.getByRole('link', { name: 'n120', exact: true }).click();
    await page.getByRole('heading', { name: 'n120' }).waitFor();
    await service.register({ id: 'n120', ...RECORD, name: 'n120', status: 'finish' });
    await page.goBack();
    expect(page.url()).toContain('/tasks?q=id:n1&sort=name');
    await eventually(() => inBrowser(page, place)).toBe(400);
    await eventually(() => page.getByRole('row', { name: /n120/ }).locator('td.status').innerText()).toBe('finish');
  });

  it('opens a task in a new tab with the modifier that the browser has for it', async () => {
    const { page, context } = open;
    await service.register({ id: 'tabbed', ...RECORD, name: 'tabbed' });
    await logIn(page, 'vera', '/tasks?q=id:tabbed');
    const opened = context.waitForEvent('page');
    await page.getByRole('link', { name: 'tabbed', exact: true }).click({ modifiers: ['ControlOrMeta'] });
    await (await opened).waitForURL('**/tasks/tabbed');
    expect(page.url()).toContain('q=id:tabbed');
  });

  it('says that a page does not exist, and leads back', async () => {
    const { page } = open;
    await logIn(page, 'vera', '/no/such/page');
    await page.getByRole('heading', { name: 'There is no such page' }).waitFor();
    await page.getByRole('link', { name: 'To the tasks' }).click();
    await page.waitForURL('**/tasks');
  });
});
