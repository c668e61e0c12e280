import type { Browser } from '@playwright/test';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { hashOf } from '../../../server/domain/secrets.js';
import { TEST_PASSWORD, type TestApp } from '../../support/app.js';
import { launchChromium } from '../../support/chromium.js';
import { startCuttableProxy, type CuttableProxy } from '../../support/cuttable-proxy.js';
import { logIn, openPage, waitUntilLive, type OpenPage, startWebTestApp } from '../../support/web-page.js';

let app: TestApp;
let proxy: CuttableProxy;
let browser: Browser;
let open: OpenPage;

beforeAll(async () => {
  [app, browser] = await Promise.all([startWebTestApp(), launchChromium()]);
  proxy = await startCuttableProxy(app.http);
  const ids = ['ssx', 'forgetful', 'mover', 'chooser', 'newbie', 'renewer'];
  await Promise.all(ids.map((id) => app.addUser(id, { mx: 'member' })));
  const newbie = await app.storage.identity.findUser('newbie');
  await app.storage.identity.setPassword('newbie', newbie?.passwordHash ?? '', true);
});
afterAll(async () => {
  await browser.close();
  await proxy.stop();
  await app.stop();
});
beforeEach(async () => {
  open = await openPage(browser, proxy.url);
});
afterEach(async () => {
  proxy.restore();
  expect(open.complaints).toEqual([]);
  await open.close();
});

describe('logging in', () => {
  it('leads on to where one was going, and stays over a reload', async () => {
    const { page } = open;
    await logIn(page, 'ssx', '/tasks?q=status:running&sort=name');
    expect(page.url()).toBe(`${proxy.url}/tasks?q=status:running&sort=name`);
    await page.reload();
    await page.getByRole('heading', { name: 'Tasks' }).waitFor({ state: 'attached' });
    expect(page.url()).toBe(`${proxy.url}/tasks?q=status:running&sort=name`);
  });

  it('never leads on to another site', async () => {
    const { page } = open;
    await logIn(page, 'ssx', '/login?next=//evil.test/tasks');
    await waitUntilLive(page);
    expect(page.url()).toBe(`${proxy.url}/tasks`);
  });

  it('has a form that password managers know', async () => {
    const { page } = open;
    await page.goto('/');
    const form = page.locator('form');
    await form.waitFor();
    const inputs = await form.locator('input').all();
    const fields = await Promise.all(
      inputs.map((input) => Promise.all(['name', 'autocomplete', 'type'].map((name) => input.getAttribute(name)))),
    );
    expect(fields).toEqual([
      ['username', 'username', null],
      ['password', 'current-password', 'password'],
    ]);
  });

  it('shows the password only when asked to', async () => {
    const { page } = open;
    await page.goto('/login');
    const password = page.getByLabel('Password', { exact: true });
    await page.getByRole('button', { name: 'Show password' }).click();
    expect(await password.getAttribute('type')).toBe('text');
    await page.getByRole('button', { name: 'Hide password' }).click();
    expect(await password.getAttribute('type')).toBe('password');
  });

  it('says what is wrong, then how long to wait after too many attempts', async () => {
    const { page } = open;
    await page.goto('/login');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByLabel('User').fill('forgetful');
    const alert = page.getByRole('alert');
    for (let attempt = 0; attempt < 12; attempt++) {
      await page.getByLabel('Password', { exact: true }).fill(`wrong ${attempt}`);
      await page.keyboard.press('Enter');
      await alert.filter({ hasText: /wrong|Too many/ }).waitFor();
      if ((await alert.innerText()).includes('Too many')) break;
      expect(await alert.innerText()).toContain('The user or the password is wrong');
      await page.getByRole('button', { name: 'Log in' }).and(page.locator(':enabled')).waitFor();
    }
    expect(await alert.innerText()).toMatch(/Too many failed logins\. Try again in \d+ (second|minute)/);
    expect(await page.getByRole('button', { name: 'Log in' }).isDisabled()).toBe(true);
  });

  it('says that the server is away, and goes on when it is back', async () => {
    const { page } = open;
    await page.goto('/login');
    await page.locator('form').waitFor();
    proxy.goAway();
    await page.getByLabel('User').fill('ssx');
    await page.getByLabel('Password', { exact: true }).fill(TEST_PASSWORD);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('alert').filter({ hasText: 'The server does not answer' }).waitFor();
    proxy.restore();
    await page.getByRole('button', { name: 'Log in' }).click();
    await waitUntilLive(page);
  });

  it('asks again by itself when the server did not answer the first question', async () => {
    const { page } = open;
    await page.route('**/GetCurrentUser', (route) => route.abort());
    await page.goto('/tasks');
    await page.getByRole('heading', { name: 'The server does not answer' }).waitFor();
    await page.unroute('**/GetCurrentUser');
    await page.getByRole('heading', { name: 'Log in' }).waitFor();
  });
});

describe('a login', () => {
  it('ends with logging out, and leaves nothing of the former user behind', async () => {
    const { page } = open;
    await logIn(page, 'ssx');
    await page.getByRole('button', { name: 'Menu of ssx' }).click();
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.waitForURL('**/login**');
    expect(await open.context.cookies()).toEqual([]);
    await page.goto('/tasks');
    await page.waitForURL('**/login**');
    expect(await page.locator('table').count()).toBe(0);
  });

  it('that ended elsewhere leads to the form with a word why, and back', async () => {
    const { page } = open;
    await logIn(page, 'ssx', '/tasks?sort=name');
    await waitUntilLive(page);
    await app.storage.identity.deleteSessionsOf('ssx', undefined);
    proxy.cut();
    await page.getByText('Your login has ended').waitFor();
    await page.getByLabel('User').fill('ssx');
    await page.getByLabel('Password', { exact: true }).fill(TEST_PASSWORD);
    await page.keyboard.press('Enter');
    await page.waitForURL('**/tasks?sort=name');
  });
});

describe('the password', () => {
  it('that somebody else set must be changed first, and then leads on', async () => {
    const { page } = open;
    await logIn(page, 'newbie', '/tasks?sort=name');
    await page.getByText('This password was set by somebody else').waitFor();
    expect(page.url()).toContain('/password');
    await page.goto('/tasks');
    await page.waitForURL('**/password**');
    const fill = async (current: string, next: string, again: string) => {
      await page.getByLabel('Password so far').fill(current);
      await page.getByLabel('New password', { exact: true }).fill(next);
      await page.getByLabel('New password again').fill(again);
      await page.getByRole('button', { name: 'Change password' }).click();
    };
    await fill(TEST_PASSWORD, 'short', 'short');
    await page.getByText('needs at least 8 characters').waitFor();
    await fill(TEST_PASSWORD, 'another good one', 'another good two');
    await page.getByText('are not the same').waitFor();
    await fill('not my password', 'another good one', 'another good one');
    await page.getByText('The password so far is wrong').waitFor();
    await fill(TEST_PASSWORD, 'another good one', 'another good one');
    await waitUntilLive(page);
    expect(new URL(page.url()).pathname).toBe('/tasks');
  });

  it('that is to be changed while somebody looks leads to the form, and from there back', async () => {
    const { page } = open;
    await logIn(page, 'renewer', '/tasks?sort=name');
    await waitUntilLive(page);
    const renewer = await app.storage.identity.findUser('renewer');
    const keepSession = hashOf((await open.context.cookies())[0]?.value ?? '');
    await app.storage.identity.setPassword('renewer', renewer?.passwordHash ?? '', true, { keepSession });
    await page.waitForURL('**/password**');
    await page.getByText('This password was set by somebody else').waitFor();
    await page.getByLabel('Password so far').fill(TEST_PASSWORD);
    await page.getByLabel('New password', { exact: true }).fill('another good one');
    await page.getByLabel('New password again').fill('another good one');
    await page.getByRole('button', { name: 'Change password' }).click();
    await page.waitForURL('**/tasks?sort=name');
  });

  it('is told how strong it is while it is typed, and why it must not be', async () => {
    const { page } = open;
    await logIn(page, 'chooser');
    await page.getByRole('button', { name: 'Menu of chooser' }).click();
    await page.getByRole('link', { name: 'Change password' }).click();
    const next = page.getByLabel('New password', { exact: true });
    const strength = page.getByRole('status').filter({ hasText: 'Strength' });
    for (const [password, words] of [
      ['12345678', 'Strength: very weak'],
      ['x8Kq2mZp', 'Strength: fair'],
      ['correct horse', 'Strength: good'],
      ['lamp river seven oak', 'Strength: strong'],
    ] as const) {
      await next.fill(password);
      await strength.filter({ hasText: words }).waitFor();
    }
    await page.getByLabel('Password so far').fill(TEST_PASSWORD);
    await next.fill('TaskDash2026');
    await page.getByLabel('New password again').fill('TaskDash2026');
    await page.getByRole('button', { name: 'Change password' }).click();
    await page.getByText('This is little more than your user name or the name of TaskDash.').waitFor();
    await next.fill('');
    await strength.waitFor({ state: 'detached' });
  });

  it('is told so in Chinese, too', async () => {
    const chinese = await openPage(browser, proxy.url, { language: 'zh-CN' });
    const { page } = chinese;
    await logIn(page, 'chooser');
    await page.goto('/password');
    const next = page.getByLabel('新密码', { exact: true });
    const strength = page.getByRole('status').filter({ hasText: '强度' });
    for (const [password, words] of [
      ['12345678', '强度：很弱'],
      ['woaini!1314', '强度：很弱'],
      ['wobuzhidao', '强度：很弱'],
      ['Summer2024!', '强度：弱'],
      ['x8Kq2mZp', '强度：一般'],
      ['correct horse', '强度：较强'],
      ['红烧肉配三杯清茶和一碟花生', '强度：强'],
    ] as const) {
      await next.fill(password);
      await page.getByText(words, { exact: true }).waitFor();
    }
    await page.getByLabel('当前密码').fill(TEST_PASSWORD);
    for (const [password, why] of [
      ['woaini1314', '这是最先被尝试的常见密码之一，或由它变化而来。'],
      ['TaskDash2026', '除用户名或 TaskDash 的名称之外，这个密码所剩无几。'],
      ['abcdefgh', '重复、连续的字符、日期或相邻的按键很容易被猜到。'],
    ] as const) {
      await next.fill(password);
      await page.getByLabel('再次输入新密码').fill(password);
      await page.getByRole('button', { name: '修改密码' }).click();
      await page.getByText(why).waitFor();
    }
    await next.fill('');
    await strength.waitFor({ state: 'detached' });
    expect(chinese.complaints).toEqual([]);
    await chinese.close();
  });

  it('can be changed from the menu, and returns to where one was', async () => {
    const { page } = open;
    await logIn(page, 'mover', '/tasks?sort=name');
    await page.getByRole('button', { name: 'Menu of mover' }).click();
    await page.getByRole('link', { name: 'Change password' }).click();
    await page.getByLabel('Password so far').fill(TEST_PASSWORD);
    await page.getByLabel('New password', { exact: true }).fill('a quite new one');
    await page.getByLabel('New password again').fill('a quite new one');
    await page.getByRole('button', { name: 'Change password' }).click();
    await page.waitForURL('**/tasks?sort=name');
  });
});
