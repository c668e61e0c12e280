import type { Browser, Page } from '@playwright/test';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { TestApp } from '../../support/app.js';
import { launchChromium } from '../../support/chromium.js';
import { startCuttableProxy, type CuttableProxy } from '../../support/cuttable-proxy.js';
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

let app: TestApp;
let proxy: CuttableProxy;
let service: TcpxClient;
let browser: Browser;
let open: OpenPage;
/** Each test has a group and a user of its own, so that none sees the changes of another. */
let group = '';
let groups = 0;

beforeAll(async () => {
  [app, browser] = await Promise.all([startWebTestApp(), launchChromium()]);
  [proxy, service] = await Promise.all([startCuttableProxy(app.http), TcpxClient.connect(app.tcp)]);
});
afterAll(async () => {
  await browser.close();
  await service.close();
  await proxy.stop();
  await app.stop();
});
beforeEach(async () => {
  groups += 1;
  group = `group-${groups}`;
  await app.addUser(`viewer-of-${group}`, { [group]: 'viewer' });
  open = await openPage(browser, proxy.url);
});
afterEach(async () => {
  proxy.restore();
  expect(open.complaints).toEqual([]);
  await open.close();
});

const idOf = (name: string) => `${group}-${name}`;

async function register(name: string, status = 'running', texts: Record<string, string> = {}): Promise<void> {
  await service.register({ id: idOf(name), name, user: 'anna', group_id: group, status, ...texts });
}

/** The page of the group's viewer, live, after these tasks were registered. */
async function watching(names: readonly string[], path = '/tasks?sort=name'): Promise<Page> {
  for (const name of names) await register(name);
  await logIn(open.page, `viewer-of-${group}`, path);
  await waitUntilLive(open.page);
  await eventually(() => rowsOf(open.page).count()).toBe(names.length);
  return open.page;
}

function names(page: Page): Promise<string[]> {
  return page.locator('a[data-row]').allInnerTexts();
}

async function total(page: Page): Promise<string> {
  return page.locator('.counts .all .number').innerText();
}

describe('while one looks', () => {
  it('a new task appears in its place, a change shows, and the counts follow', async () => {
    const page = await watching(['a', 'c']);
    await register('b', 'restart');
    await eventually(() => names(page)).toEqual(['a', 'b', 'c']);
    await register('a', 'finish', { description: 'done' });
    await eventually(() => columnOf(page, 'status')).toEqual(['finish', 'restart', 'running']);
    expect((await columnOf(page, 'description'))[0]).toBe('done');
    await eventually(() => total(page)).toBe('3');
    await eventually(() => page.locator('.range').innerText()).toBe('1–3 of 3');
  });

  it('a task that no longer matches the search goes, and one that left the group too', async () => {
    const page = await watching(['a', 'b', 'c'], '/tasks?q=status:running&sort=name');
    await register('b', 'finish');
    await eventually(() => names(page)).toEqual(['a', 'c']);
    await register('c', 'running', { group_id: 'elsewhere' });
    await eventually(() => names(page)).toEqual(['a']);
    await eventually(() => total(page)).toBe('2');
  });

  it('an empty list fills by itself', async () => {
    await logIn(open.page, `viewer-of-${group}`);
    await open.page.getByRole('heading', { name: 'No task has registered yet' }).waitFor();
    await waitUntilLive(open.page);
    await register('first');
    await eventually(() => names(open.page)).toEqual(['first']);
  });

  it('a changed row glows, unless the viewer wishes for less motion', async () => {
    const page = await watching(['a', 'b']);
    const glowing = () => inBrowser<number>(page, 'document.getAnimations().length');
    await register('b', 'finish');
    await eventually(() => columnOf(page, 'status')).toEqual(['running', 'finish']);
    expect(await glowing()).toBeGreaterThan(0);
    await page.emulateMedia({ reducedMotion: 'reduce' });
    await eventually(glowing).toBe(0);
    await register('a', 'finish');
    await eventually(() => columnOf(page, 'status')).toEqual(['finish', 'finish']);
    const grounds = 'document.getAnimations().flatMap((a) => a.effect.getKeyframes()).map((f) => f.backgroundColor)';
    const frames = await inBrowser<string[]>(page, grounds);
    expect(new Set(frames).size).toBe(1);
  });
});

describe('while the pointer is in the table', () => {
  it('fields change in place, rows wait until they are applied', async () => {
    const page = await watching(['b', 'd']);
    await rowsOf(page).first().hover();
    await register('d', 'finish');
    await eventually(() => columnOf(page, 'status')).toEqual(['running', 'finish']);
    await register('a');
    await register('c');
    const apply = page.getByRole('button', { name: '2 changes · Apply' });
    await apply.waitFor();
    expect(await names(page)).toEqual(['b', 'd']);
    await eventually(() => total(page)).toBe('4');
    await page.keyboard.press('a');
    await eventually(() => names(page)).toEqual(['a', 'b', 'c', 'd']);
    expect(await apply.count()).toBe(0);
  });

  it.each([1280, 720, 320])('nothing moves under it when the offer to apply appears, at %i px', async (width) => {
    await open.page.setViewportSize({ width, height: 700 });
    const page = await watching(['b', 'd'], '/tasks?q=user:anna group:' + group + ' status:running&sort=name');
    const badge = page.locator('td.status .badge').first();
    await badge.hover();
    const before = await badge.boundingBox();
    await register('a');
    await register('c');
    await page.getByRole('button', { name: '2 changes · Apply' }).waitFor();
    expect(await badge.boundingBox()).toEqual(before);
    expect(await names(page)).toEqual(['b', 'd']);
  });

  it('leaving the table applies what waits', async () => {
    const page = await watching(['b']);
    await rowsOf(page).first().hover();
    await register('a');
    await page.getByRole('button', { name: '1 change · Apply' }).waitFor();
    await page.mouse.move(5, 5);
    await eventually(() => names(page)).toEqual(['a', 'b']);
  });
});

describe('with the keyboard', () => {
  it('the focus stays on its task while changes wait and when they are applied', async () => {
    const page = await watching(['b', 'd']);
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    const focused = () => inBrowser<string>(page, 'document.activeElement.textContent');
    expect(await focused()).toBe('d');
    await register('a');
    await register('c');
    await page.getByRole('button', { name: '2 changes · Apply' }).waitFor();
    await page.keyboard.press('a');
    await eventually(() => names(page)).toEqual(['a', 'b', 'c', 'd']);
    expect(await focused()).toBe('d');
    await page.keyboard.press('k');
    expect(await focused()).toBe('c');
    await page.keyboard.press('Enter');
    await page.waitForURL(`**/tasks/${idOf('c')}`);
  });

  it('`?` helps, and the single keys can be turned off', async () => {
    const page = await watching(['a']);
    await page.keyboard.press('?');
    const help = page.getByRole('dialog', { name: 'Keyboard' });
    await help.getByLabel('Shortcuts of one key').uncheck();
    await page.keyboard.press('Escape');
    await help.waitFor({ state: 'hidden' });
    // The browser takes the focus off the hidden box with the next frame.
    await eventually(() => page.locator('input:focus').count()).toBe(0);
    await page.keyboard.press('/');
    await page.keyboard.press('j');
    expect(await page.locator('input:focus, a[data-row]:focus').count()).toBe(0);
  });
});

describe('paused', () => {
  it('nothing moves, and the page says since when; going on shows everything', async () => {
    const page = await watching(['b']);
    await page.keyboard.press('p');
    expect(await page.locator('.fresh').innerText()).toMatch(/^Paused, data from \d\d:\d\d:\d\d/);
    await register('b', 'finish');
    await register('a');
    await page.getByRole('button', { name: '2 changes · Apply' }).waitFor();
    expect(await columnOf(page, 'status')).toEqual(['running']);
    await page.getByRole('button', { name: 'Go on' }).click();
    await eventually(() => names(page)).toEqual(['a', 'b']);
    await waitUntilLive(page);
  });
});

describe('a lost connection', () => {
  it('is said with the age of the data, and resumes by itself with nothing missed', async () => {
    const page = await watching(['b', 'c']);
    proxy.goAway();
    await eventually(() => page.locator('.fresh').innerText()).toMatch(/Reconnecting, data from \d+ seconds? ago/);
    await register('a');
    await register('b', 'finish');
    await register('c', 'running', { group_id: 'elsewhere' });
    proxy.restore();
    await waitUntilLive(page);
    await eventually(() => names(page)).toEqual(['a', 'b']);
    expect(await columnOf(page, 'status')).toEqual(['running', 'finish']);
  });

  it('cut again and again while changes arrive, ends with what the server knows', async () => {
    const page = await watching(['a']);
    for (let round = 0; round < 12; round++) {
      await register(`t${round % 5}`, round % 2 === 0 ? 'running' : 'finish');
      if (round % 3 === 0) proxy.cut();
    }
    await waitUntilLive(page);
    await eventually(() => names(page)).toEqual(['a', 't0', 't1', 't2', 't3', 't4']);
    const live = await columnOf(page, 'status');
    await page.reload();
    await eventually(() => rowsOf(page).count()).toBe(6);
    expect(await columnOf(page, 'status')).toEqual(live);
  });
});

describe('access that changes', () => {
  it('shows by itself: a group that is taken away, and one that is given', async () => {
    const page = await watching(['a']);
    const user = await app.storage.identity.findUser(`viewer-of-${group}`);
    if (!user) throw new Error('the viewer is not there');
    await app.storage.identity.saveUser({ ...user, memberships: new Map() });
    await page.getByRole('heading', { name: 'You belong to no group yet' }).waitFor();
    await app.storage.identity.saveUser(user);
    await eventually(() => names(page)).toEqual(['a']);
  });
});
