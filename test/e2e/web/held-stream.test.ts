import type { Browser, Page } from '@playwright/test';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import type { TestApp } from '../../support/app.js';
import { launchChromium } from '../../support/chromium.js';
import { startHoldingProxy, type HoldingProxy } from '../../support/holding-proxy.js';
import { TcpxClient } from '../../support/tcpx-client.js';
import {
  columnOf,
  eventually,
  inBrowser,
  logIn,
  openPage,
  startWebTestApp,
  waitUntilLive,
  type OpenPage,
} from '../../support/web-page.js';

let app: TestApp;
let proxy: HoldingProxy;
let service: TcpxClient;
let browser: Browser;
let open: OpenPage;
/** Each test has a group and a user of its own, so that none sees the changes of another. */
let groups = 0;

beforeAll(async () => {
  [app, browser] = await Promise.all([startWebTestApp(), launchChromium()]);
  [proxy, service] = await Promise.all([startHoldingProxy(app.http), TcpxClient.connect(app.tcp)]);
});
afterAll(async () => {
  await browser.close();
  await service.close();
  await proxy.stop();
  await app.stop();
});
beforeEach(async () => {
  proxy.hold();
  groups += 1;
  await app.addUser(`viewer-${groups}`, { [`group-${groups}`]: 'viewer' });
  await register('a', 'running');
});
afterEach(async () => {
  expect(open.complaints).toEqual([]);
  await open.close();
});

const idOf = (name: string) => `${groups}-${name}`;

async function register(name: string, status: string): Promise<void> {
  await service.register({ id: idOf(name), name, user: 'anna', group_id: `group-${groups}`, status });
}

/** The page as a viewer has it whose proxy lets no stream through. */
async function heldAt(path: string, language: 'en-US' | 'zh-CN' = 'en-US'): Promise<Page> {
  open = await openPage(browser, proxy.url, { language });
  await logIn(open.page, `viewer-${groups}`, path);
  await open.page.locator('.fresh.held').waitFor();
  expect(proxy.held).toBeLessThanOrEqual(1);
  return open.page;
}

it('a list behind a proxy that buffers says so, is refreshed all the same, and is live again when the proxy is mended', async () => {
  const page = await heldAt('/tasks?sort=id');
  await page.getByRole('button', { name: 'Refreshed every 5 s' }).click();
  await page.getByText('Live updates do not get through').last().waitFor();
  await page.keyboard.press('Escape');
  expect(await columnOf(page, 'status')).toEqual(['running']);
  await register('a', 'finish');
  await register('b', 'running');
  await eventually(() => columnOf(page, 'status')).toEqual(['finish', 'running']);
  await eventually(() => page.locator('.counts .all .number').innerText()).toBe('2');

  proxy.passOn();
  await eventually(async () => {
    await inBrowser(page, `dispatchEvent(new Event('online'))`);
    return page.locator('.fresh.live').isVisible();
  }).toBe(true);
  await register('b', 'restart');
  await eventually(() => columnOf(page, 'status')).toEqual(['finish', 'restart']);
});

it('changes wait while the pointer is in the rows, as those of a stream do', async () => {
  const page = await heldAt('/tasks?sort=id');
  await page.locator('td.name').first().hover();
  await register('0', 'running');
  await page.getByRole('button', { name: '1 change · Apply' }).waitFor();
  expect(await columnOf(page, 'id')).toEqual([idOf('a')]);
});

it('the page of a task behind such a proxy follows its task', async () => {
  const page = await heldAt(`/tasks/${idOf('a')}`, 'zh-CN');
  await page.getByRole('button', { name: '每 5 秒刷新' }).waitFor();
  await register('a', 'restart');
  await eventually(() => page.locator('.state .word').innerText()).toBe('重启中');
});

it('a proxy that passes answers on at once is nothing to speak of', async () => {
  proxy.passOn();
  open = await openPage(browser, proxy.url);
  await logIn(open.page, `viewer-${groups}`);
  await waitUntilLive(open.page);
});
