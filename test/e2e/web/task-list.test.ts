import type { Browser, Page } from '@playwright/test';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
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
  waitUntilLive,
  type OpenPage,
  startWebTestApp,
} from '../../support/web-page.js';

/** The table of the interface document. */
const EXAMPLE = [
  ['130', 'zgl', '?', 'ssx', 'mx', '?', 'restart', '2020-07-04', '2020-07-15'],
  ['131', 'lb', '?', 'ssx', 'mx', '?', 'shutdown', '2020-07-03', '2020-07-06'],
  ['132', 'lxq', '?', 'ssx', 'mx', '?', 'finish', '2020-07-16', '2020-07-27'],
  ['133', 'zxf', '?', 'ssx', 'mx', '?', 'running', '2020-07-01', '2020-07-05'],
  ['137', 'zy', '?', 'ssx', 'mx', '?', 'running', '2020-07-15', '2020-07-18'],
] as const;
const COLUMNS = ['id', 'name', 'url', 'user', 'group', 'description', 'status', 'start', 'stop'];
const OPS_TASKS = 130;
/** Start times of some of those tasks, by their numbers. */
const REPORTED_TIMES: Readonly<Record<number, string>> = {
  3: '12:00',
  4: '0001-01-01 00:00:00 +0000 UTC',
  5: '0001-01-01T00:00:00+08:00',
  6: '2020年07月01日',
  7: '2020-07-01 12:00:30',
  8: '2020-07-01T12:00:30Z',
};

let app: TestApp;
let service: TcpxClient;
let browser: Browser;
let open: OpenPage;

beforeAll(async () => {
  [app, browser] = await Promise.all([startWebTestApp(), launchChromium()]);
  service = await TcpxClient.connect(app.tcp);
  for (const [id, name, url, user, group_id, description, status, start, stop] of EXAMPLE) {
    const [start_time, stop_time] = [start.replaceAll('-', '.'), stop.replaceAll('-', '.')];
    await service.register({ id, name, url, user, group_id, description, status, start_time, stop_time });
  }
  await service.register({ id: '200', name: 'other user', user: 'wsg', group_id: 'mx' });
  await registerOps();
  await app.addUser('ssx', { mx: 'member' });
  await app.addUser('olga', { ops: 'viewer' });
  await app.addUser('newcomer', { empty: 'manager' });
  await app.addUser('nobody');
});
afterAll(async () => {
  await browser.close();
  await service.close();
  await app.stop();
});
beforeEach(async () => {
  open = await openPage(browser, app.http);
});
afterEach(async () => {
  expect(open.complaints).toEqual([]);
  await open.close();
});

async function registerOps(): Promise<void> {
  const tasks = app.client(TaskService, 'http', await app.addToken('ops'));
  const statuses = ['running', 'running', 'finish', 'restart', 'queued'];
  await tasks.batchRegisterTasks({
    tasks: Array.from({ length: OPS_TASKS }, (_, index) => ({
      id: `ops-${String(index).padStart(3, '0')}`,
      name: `job ${String((index * 37) % OPS_TASKS).padStart(3, '0')}`,
      user: index % 2 === 0 ? 'anna' : 'Li Na',
      groupId: 'ops',
      status: statuses[index % statuses.length] ?? '',
      url: index === 0 ? 'javascript:alert(1)' : index === 1 ? 'https://example.test/job?a=1' : '',
      description: index === 2 ? '夜间导入 <b>not markup</b>' : '',
      startTime: REPORTED_TIMES[index] ?? '2026-01-15T08:00:00+08:00',
    })),
  });
}

async function showsRows(page: Page, count: number): Promise<void> {
  await eventually(() => rowsOf(page).count()).toBe(count);
}

/** The page's own counts, by the words beside them. */
async function countsOf(page: Page): Promise<Record<string, string>> {
  const buttons = await page.getByRole('region', { name: 'Tasks by status' }).getByRole('button').allInnerTexts();
  return Object.fromEntries(buttons.map((text) => text.split('\n').filter(Boolean).reverse() as [string, string]));
}

describe('the example of the interface document', () => {
  it('ssx of mx sees exactly their five tasks with all nine columns, and no other count', async () => {
    const { page } = open;
    await logIn(page, 'ssx', '/tasks?sort=id');
    await showsRows(page, 5);
    const columns = await Promise.all(COLUMNS.map((name) => columnOf(page, name)));
    const rows = EXAMPLE.map((_, row) => columns.map((column) => column[row]));
    expect(rows).toEqual(EXAMPLE);
    await expect
      .poll(() => countsOf(page))
      .toEqual({ all: '5', running: '2', restart: '1', shutdown: '1', finish: '1' });
    expect(await page.getByRole('navigation', { name: 'Pages' }).innerText()).toContain('1–5 of 5');
  });

  it('keeps a calendar day in the time zone of the viewer, with the reported text on hover', async () => {
    const { page } = open;
    await logIn(page, 'ssx', '/tasks?q=id:130');
    const start = page.locator('td.start time');
    expect(await start.innerText()).toBe('2020-07-04');
    expect(await start.getAttribute('title')).toContain('2020.07.04');
  });
});

describe('the table', () => {
  it('is a real table whose heads sort and say so', async () => {
    const { page } = open;
    await logIn(page, 'olga', '/tasks?q=status:running');
    await showsRows(page, 50);
    const names = await page.getByRole('columnheader').allInnerTexts();
    expect(names.map((name) => name.trim())).toEqual([
      'ID',
      'Name',
      'URL',
      'User',
      'GroupID',
      'Description',
      'Status',
      'StartTime',
      'StopTime',
      'Updated',
    ]);
    const head = page.getByRole('columnheader', { name: 'Name', exact: true });
    for (const [state, address] of [
      ['ascending', 'sort=name'],
      ['descending', 'sort=-name'],
    ] as const) {
      await head.getByRole('button').click();
      await eventually(() => head.getAttribute('aria-sort')).toBe(state);
      expect(page.url()).toContain(address);
      const wanted = (shown: string[]) =>
        [...shown].sort().join() === (state === 'ascending' ? shown : [...shown].reverse()).join();
      await eventually(async () => wanted(await columnOf(page, 'name'))).toBe(true);
    }
  });

  it('makes a link only of http and https, for a new tab that learns nothing', async () => {
    const { page } = open;
    await logIn(page, 'olga', '/tasks?sort=id&size=25');
    await showsRows(page, 25);
    expect(await page.locator('td.url').nth(0).getByRole('link').count()).toBe(0);
    expect(await page.locator('td.url').nth(0).innerText()).toBe('javascript:alert(1)');
    const link = page.locator('td.url').nth(1).getByRole('link');
    expect(await link.getAttribute('href')).toBe('https://example.test/job?a=1');
    expect(await link.getAttribute('rel')).toBe('noopener noreferrer');
    expect(await link.getAttribute('target')).toBe('_blank');
  });

  it('shows every text as text, and what is no instant as reported', async () => {
    const { page } = open;
    await logIn(page, 'olga', '/tasks?sort=id&size=25');
    await showsRows(page, 25);
    expect(await page.locator('td.description').nth(2).innerText()).toBe('夜间导入 <b>not markup</b>');
    const times = ['2026-01-15 08:00', '12:00', '–', '–', '2020-07-01', '2020-07-01 12:00', '2020-07-01 20:00'];
    expect((await columnOf(page, 'start')).slice(2, 2 + times.length)).toEqual(times);
  });

  it('tells cause and time of a status on hover and on focus', async () => {
    const { page } = open;
    await logIn(page, 'ssx', '/tasks?q=id:131');
    await showsRows(page, 1);
    await page.locator('td.status .badge').hover();
    const words = page.getByRole('tooltip');
    expect(await words.innerText()).toMatch(/Reported by the service · since \d{4}-/);
    await page.keyboard.press('Escape');
    await eventually(() => words.isVisible()).toBe(false);
    await page.mouse.move(0, 0);
    await page.keyboard.press('j');
    await eventually(() => words.isVisible()).toBe(true);
  });
});

describe('paging', () => {
  it('goes forth and back, tells where one is, and survives a reload', async () => {
    const { page } = open;
    await logIn(page, 'olga', '/tasks?sort=id');
    await showsRows(page, 50);
    const pages = page.getByRole('navigation', { name: 'Pages' });
    const range = pages.locator('.range');
    await eventually(() => range.innerText()).toBe('1–50 of 130');
    expect(await page.getByRole('button', { name: 'Previous page' }).isDisabled()).toBe(true);
    await page.getByRole('button', { name: 'Next page' }).click();
    await eventually(() => range.innerText()).toBe('51–100 of 130');
    expect((await columnOf(page, 'id'))[0]).toBe('ops-050');
    await page.reload();
    await eventually(() => range.innerText()).toBe('51–100 of 130');
    await page.getByRole('button', { name: 'Next page' }).click();
    await eventually(() => range.innerText()).toBe('101–130 of 130');
    await showsRows(page, 30);
    expect(await page.getByRole('button', { name: 'Next page' }).isDisabled()).toBe(true);
    await page.getByRole('button', { name: 'Previous page' }).click();
    await eventually(() => range.innerText()).toBe('51–100 of 130');
    await page.goBack();
    await eventually(() => range.innerText()).toBe('101–130 of 130');
    await page.getByRole('button', { name: 'First page' }).click();
    await eventually(() => range.innerText()).toBe('1–50 of 130');
  });

  it('a shared link opens the same page, and one with a broken token the first', async () => {
    const { page, context } = open;
    await logIn(page, 'olga', '/tasks?sort=id&size=25');
    await page.getByRole('button', { name: 'Next page' }).click();
    await eventually(async () => (await columnOf(page, 'id'))[0]).toBe('ops-025');
    const shared = await context.newPage();
    await shared.goto(page.url());
    await showsRows(shared, 25);
    expect((await columnOf(shared, 'id'))[0]).toBe('ops-025');
    expect(await shared.locator('.range').innerText()).toBe('25 of 130');
    await shared.goto(page.url().replace(/page=[^&]{4}/, 'page=AAAA'));
    await eventually(async () => (await columnOf(shared, 'id'))[0]).toBe('ops-000');
    expect(shared.url()).not.toContain('page=');
  });

  it('keeps the chosen number of rows in the address', async () => {
    const { page } = open;
    await logIn(page, 'olga', '/tasks?sort=id');
    await page.getByLabel('Rows per page').selectOption('100');
    await showsRows(page, 100);
    expect(page.url()).toContain('size=100');
  });
});

describe('searching', () => {
  it('narrows while one types, by words and qualifiers, all in the address bar', async () => {
    const { page } = open;
    await logIn(page, 'olga', '/tasks?sort=id');
    await showsRows(page, 50);
    await page.keyboard.press('/');
    await page.keyboard.type('user:"Li Na" status:running id:ops-00');
    await eventually(() => columnOf(page, 'id')).toEqual(['ops-001', 'ops-005']);
    expect(new URL(page.url()).searchParams.get('q')).toBe('user:"Li Na" status:running id:ops-00');
    await page.getByRole('button', { name: 'Remove the filter Status: running' }).click();
    await eventually(() => columnOf(page, 'id')).toEqual(['ops-001', 'ops-003', 'ops-005', 'ops-007', 'ops-009']);
    expect(await page.getByRole('textbox', { name: 'Search' }).inputValue()).toBe('user:"Li Na" id:ops-00');
    await page.goBack();
    await eventually(() => columnOf(page, 'id')).toEqual(['ops-001', 'ops-005']);
    await page.getByRole('button', { name: 'Clear all filters' }).click();
    await showsRows(page, 50);
    expect(new URL(page.url()).searchParams.get('q')).toBeNull();
  });

  it('a click on a count filters by that status, another one adds to it, and the other counts stay to choose from', async () => {
    const { page } = open;
    await logIn(page, 'olga', '/tasks');
    const counts = { all: '130', running: '52', restart: '26', shutdown: '0', finish: '26', queued: '26' };
    await eventually(() => countsOf(page)).toEqual(counts);
    const region = page.getByRole('region', { name: 'Tasks by status' });
    await region.getByRole('button', { name: 'queued' }).click();
    await showsRows(page, 26);
    expect(await region.getByRole('button', { name: 'queued' }).getAttribute('aria-pressed')).toBe('true');
    await region.getByRole('button', { name: 'restart' }).click();
    await eventually(() => page.locator('.range').innerText()).toBe('1–50 of 52');
    expect(new URL(page.url()).searchParams.get('q')).toBe('status:queued status:restart');
    expect(await countsOf(page)).toEqual(counts);
    await region.getByRole('button', { name: 'all' }).click();
    await eventually(() => page.locator('.range').innerText()).toBe('1–50 of 130');
  });
});

describe('an empty list says why', () => {
  it('nothing matches: and how to see something again', async () => {
    const { page } = open;
    await logIn(page, 'olga', '/tasks?q=nosuchword');
    await page.getByRole('heading', { name: 'Nothing matches' }).waitFor();
    await page.locator('.empty').getByRole('button', { name: 'Clear all filters' }).click();
    await showsRows(page, 50);
  });

  it('no group: and whom to ask', async () => {
    const { page } = open;
    await logIn(page, 'nobody');
    await page.getByRole('heading', { name: 'You belong to no group yet' }).waitFor();
  });

  it('nothing registered: and how, by an example that works as it stands', async () => {
    const { page, context } = open;
    await context.grantPermissions(['clipboard-read', 'clipboard-write']);
    await logIn(page, 'newcomer');
    await page.getByRole('heading', { name: 'No task has registered yet' }).waitFor();
    await page.getByText('npx taskdash token create example --group empty').waitFor();
    await page.getByRole('button', { name: 'Copy the example' }).click();
    const example = await inBrowser<string>(page, 'navigator.clipboard.readText()');
    await waitUntilLive(page);
    await runAsCurl(example, await app.addToken('empty'));
    await showsRows(page, 1);
    expect(await columnOf(page, 'user')).toEqual(['newcomer']);
  });
});

/** What curl does with the command; curl itself is not on every machine. */
async function runAsCurl(command: string, token: string): Promise<void> {
  const [, url = ''] = /^curl (\S+)/.exec(command) ?? [];
  const [, body = ''] = /-d '(.*)'$/s.exec(command) ?? [];
  const headers = [...command.matchAll(/-H (["'])(.*?): (.*?)\1/g)].map(
    ([, , name = '', value = '']) => [name, value.replace('$TASKDASH_TOKEN', token)] as [string, string],
  );
  const answer = await fetch(url, { method: 'POST', headers, body });
  expect([answer.status, await answer.text()]).toEqual([200, expect.stringContaining('example')]);
}
