import type { UserRecord } from '../../../server/domain/ports.js';
import type { Browser, Page } from '@playwright/test';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
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
  waitUntilLive,
  type OpenPage,
} from '../../support/web-page.js';
import { tellOfMassSilence } from '../../support/web-protection.js';

/** Old and new controls, a text that is turned around, one without width, an end of line. */
const ODD = [0x1b, 0x7f, 0x9b, 0x202e, 0x2066, 0x200b, 0x2028, 0x0a].map((code) => String.fromCodePoint(code)).join('');
const ODD_SHOWN = '␛␡\\u009b\\u202e\\u2066\\u200b\\u2028␊';
const TURNED = `vera${String.fromCodePoint(0x202e)}`;
const odd = (name: string) => `${name}${ODD}.`;
const shown = (name: string) => `${name}${ODD_SHOWN}.`;

let app: TestApp;
let service: TcpxClient;
let browser: Browser;
let open: OpenPage;

beforeAll(async () => {
  [app, browser] = await Promise.all([startWebTestApp(), launchChromium()]);
  service = await TcpxClient.connect(app.tcp);
  await service.register({
    ...{ id: odd('id'), name: odd('name'), url: odd('url'), user: odd('user'), group_id: odd('group') },
    ...{ description: odd('description'), status: odd('status') },
    ...{ start_time: odd('start'), stop_time: odd('stop') },
  });
  await service.register({ id: 'linked', url: `https://example.test/${odd('path')}`, group_id: odd('group') });
  await addUserOfOld(TURNED);
  await app.addUser('boss', {}, true);
});
afterAll(async () => {
  await browser.close();
  await service.close();
  await app.stop();
});
beforeEach(async () => {
  open = await openPage(browser, app.http, { calm: true });
  await open.context.grantPermissions(['clipboard-read', 'clipboard-write']);
});
afterEach(async () => {
  expect(open.complaints).toEqual([]);
  await open.close();
});

/** One from before such names were refused. */
async function addUserOfOld(id: string): Promise<void> {
  await app.addUser('vera');
  const vera = (await app.storage.identity.findUser('vera')) as UserRecord;
  await app.storage.identity.saveUser({
    ...vera,
    id,
    displayName: id,
    memberships: new Map([[`group${id}`, 'viewer']]),
  });
}

/** Every text and every attribute of the page that has a character without a form; addresses are for the browser. */
const FORMLESS = `(() => {
  const formless = /[\\p{Cc}\\p{Zl}\\p{Zp}\\p{DI}]/u;
  // Lines of titles and of indented markup.
  const isOdd = (text) => formless.test(text.replace(/[\\n\\t]/g, ''));
  const found = [];
  const walk = document.createTreeWalker(document, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
  while (walk.nextNode()) {
    const node = walk.currentNode;
    if (node.nodeType === 3 && isOdd(node.data)) found.push(node.parentElement.tagName + ': ' + JSON.stringify(node.data));
    for (const { name, value } of node.attributes ?? []) {
      if (!['href', 'value', 'data-row'].includes(name) && isOdd(value)) found.push(name + ': ' + JSON.stringify(value));
    }
  }
  return found;
})()`;

async function expectForms(page: Page): Promise<void> {
  expect(await inBrowser<string[]>(page, FORMLESS)).toEqual([]);
}

describe('a stored text with characters that have no form', () => {
  it('has one everywhere in the list, and its search is for the real text', async () => {
    const { page } = open;
    await logIn(
      page,
      'boss',
      `/tasks?sort=-name&${new URLSearchParams({ q: `status:"${odd('status')}"` }).toString()}`,
    );
    await eventually(() => rowsOf(page).count()).toBe(1);
    for (const column of ['id', 'name', 'url', 'user', 'group', 'description', 'status', 'start', 'stop']) {
      expect(await columnOf(page, column), column).toEqual([shown(column)]);
    }
    await page.locator('td.status .badge').hover();
    await page.getByRole('tooltip').waitFor();
    await expectForms(page);
    await page.getByRole('button', { name: /^Remove the filter Status/ }).click();
    await eventually(() => rowsOf(page).count()).toBe(2);
    await expectForms(page);
  });

  it('has one on the page of its task, where it is still copied as it is', async () => {
    const { page } = open;
    await logIn(page, 'boss', `/tasks/${encodeURIComponent(odd('id'))}`);
    await page.locator('td.what').first().waitFor();
    await page.locator('summary').click();
    await page.locator('.span').first().hover();
    await page.getByRole('tooltip').waitFor();
    await expectForms(page);
    expect(await page.getByRole('heading', { level: 1 }).innerText()).toBe(shown('name'));
    expect(JSON.parse(await page.locator('pre').innerText())).toMatchObject({ id: odd('id'), status: odd('status') });
    await page.getByRole('button', { name: 'Copy ID' }).first().click();
    await eventually(() => inBrowser<string>(page, 'navigator.clipboard.readText()')).toBe(odd('id'));
  });

  it('has one in links, on pages that are not there, and in what connections and servers are called', async () => {
    const { page } = open;
    await tellOfMassSilence(page, odd('node'));
    await logIn(page, 'boss', '/connections');
    await eventually(() => rowsOf(page).count()).toBe(1);
    await page.locator('aside h2').waitFor();
    await expectForms(page);
    await page.getByRole('button', { name: 'Expire now…' }).click();
    await page.locator('dialog button.danger:enabled').waitFor();
    await expectForms(page);
    for (const path of [`/tasks/${encodeURIComponent(odd('nothing'))}`, `/${encodeURIComponent(odd('nowhere'))}`]) {
      await page.goto(path);
      await page.locator('h1').waitFor();
      await waitUntilLive(page);
      await expectForms(page);
    }
    await page.goto('/tasks/linked');
    await page.locator('dd a').waitFor();
    await expectForms(page);
  });

  it('has one in the menu of a user', async () => {
    const { page } = open;
    await logIn(page, TURNED);
    await page.locator('.opener').click();
    await page.locator('#user-menu').waitFor();
    await expectForms(page);
    expect(await page.locator('#user-menu strong').innerText()).toBe('vera\\u202e');
  });
});
