import type { Browser, Page } from '@playwright/test';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startTestApp, type TestApp } from '../../support/app.js';
import { launchChromium } from '../../support/chromium.js';
import { TcpxClient } from '../../support/tcpx-client.js';
import { columnOf, eventually, inBrowser, logIn, openPage, rowsOf, type OpenPage } from '../../support/web-page.js';
import { tellOfMassSilence } from '../../support/web-protection.js';

const TTL_MS = 3_000;
const BEAT_MS = 500;
const CLIENTS = 30;
const SILENT = 12;
const QUESTION = '**/taskdash.task.v1.SessionService/ListProtections*';

let browser: Browser;

beforeAll(async () => {
  browser = await launchChromium();
});
afterAll(() => browser.close());

/** A server, and services of which twelve can be cut off. */
class Crowd {
  private constructor(
    readonly app: TestApp,
    readonly clients: readonly TcpxClient[],
    readonly stopBeating: readonly (() => void)[],
  ) {}

  static async start(): Promise<Crowd> {
    const settings = { TASKDASH_HEARTBEAT_TTL: `${TTL_MS}ms`, TASKDASH_NODE_NAME: 'node-1' };
    const app = await startTestApp({ settings });
    await app.addUser('boss', {}, true);
    await app.addUser('vera', { mx: 'viewer' });
    const clients = await Promise.all(Array.from({ length: CLIENTS }, () => TcpxClient.connect(app.tcp)));
    const beats = clients.map((client) => client.beatEvery(BEAT_MS));
    const register = (client: TcpxClient, index: number) =>
      client.register({ id: `t${index}`, name: `job ${index}`, user: 'anna', group_id: 'mx', status: 'running' });
    await Promise.all(clients.map(register));
    return new Crowd(app, clients, beats);
  }

  cutOff(): void {
    for (const stop of this.stopBeating.slice(0, SILENT)) stop();
  }

  comeBack(): void {
    for (const client of this.clients.slice(0, SILENT)) client.beatEvery(BEAT_MS);
  }

  async stop(): Promise<void> {
    await Promise.all(this.clients.map((client) => client.close()));
    await this.app.stop();
  }
}

const banner = (page: Page) => page.getByRole('complementary', { name: 'Mass silence' });
const heading = (page: Page) =>
  banner(page).getByRole('heading', { name: /^Mass silence on node-1: \d+ connections? (is|are) held$/ });

describe('when many services fall silent at once', () => {
  let crowd: Crowd;
  let open: OpenPage;

  beforeEach(async () => {
    crowd = await Crowd.start();
    open = await openPage(browser, crowd.app.http);
  });
  afterEach(async () => {
    expect(open.complaints).toEqual([]);
    await open.close();
    await crowd.stop();
  });

  it('everybody is told on every page, without a reload, and told no more when they are back', async () => {
    const { page } = open;
    await logIn(page, 'vera', '/tasks?q=status:running&sort=id');
    await eventually(() => rowsOf(page).count()).toBe(CLIENTS);
    expect(await banner(page).count()).toBe(0);
    crowd.cutOff();
    await heading(page).waitFor();
    await eventually(() => banner(page).innerText()).toContain('more likely the network than the services');
    expect(await banner(page).innerText()).toMatch(/Since \d\d:\d\d:\d\d\. Ends when most are back, at the latest at/);
    expect(
      await banner(page)
        .getByRole('button', { name: /Expire|Hold/ })
        .count(),
    ).toBe(0);
    await page.getByRole('link', { name: 'job 1', exact: true }).click();
    await heading(page).waitFor();
    expect(await columnOf(page, 'what')).toEqual(['registered as running']);
    crowd.comeBack();
    await heading(page).waitFor({ state: 'detached' });
    await page.getByText('The mass silence has ended').waitFor({ state: 'attached' });
    expect(await banner(page).count()).toBe(0);
  });

  it('an administrator sees what is held, holds longer, and lets it expire knowing what that does', async () => {
    const { page } = open;
    await logIn(page, 'boss', '/tasks?q=status:running&sort=id');
    crowd.cutOff();
    await heading(page).waitFor();
    await banner(page).getByRole('link', { name: 'Show them' }).click();
    await page.waitForURL('**/connections?show=held');
    await eventually(() => rowsOf(page).count()).toBe(SILENT);
    await eventually(() => columnOf(page, 'state')).toEqual(Array<string>(SILENT).fill('connected\nprotected'));

    await banner(page).getByRole('button', { name: 'Hold longer' }).click();
    await eventually(() => banner(page).innerText()).toMatch(/Held by user boss until \d\d:\d\d:\d\d/);
    expect(await banner(page).innerText()).toContain('to hold on node-1');

    await banner(page).getByRole('button', { name: 'Expire now…' }).click();
    const dialog = page.getByRole('dialog', { name: 'Expire what is silent on node-1?' });
    await eventually(() => dialog.innerText()).toContain(
      '12 silent connections with 12 tasks would end: what is held at once',
    );
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    await dialog.waitFor({ state: 'detached' });
    expect(await heading(page).count()).toBe(1);

    await banner(page).getByRole('button', { name: 'Expire now…' }).click();
    await dialog.getByRole('button', { name: 'Expire now' }).click();
    await heading(page).waitFor({ state: 'detached' });
    expect(await banner(page).innerText()).toMatch(
      /You let what is silent on node-1 expire at \d\d:\d\d:\d\d: what was held/,
    );
    await page.getByRole('link', { name: 'Tasks', exact: true }).click();
    await eventually(() => rowsOf(page).count()).toBe(CLIENTS - SILENT);
    await banner(page).getByRole('button', { name: 'Close' }).click();
    await banner(page).waitFor({ state: 'detached' });
  });

  it('a decision that comes too late is said to be', async () => {
    const { page } = open;
    await tellOfMassSilence(page);
    await logIn(page, 'boss');
    await banner(page).getByRole('button', { name: 'Hold longer' }).click();
    await banner(page).getByRole('alert').waitFor();
    expect(await banner(page).getByRole('alert').innerText()).toContain('it ended before this reached it');
  });

  it('a page that cannot be seen asks nothing', async () => {
    const { page } = open;
    let asked = 0;
    await page.route(QUESTION, (route) => {
      asked++;
      return route.continue();
    });
    await logIn(page, 'vera');
    await eventually(() => asked).toBeGreaterThan(0);
    const hide = (state: string) =>
      inBrowser(
        page,
        `Object.defineProperty(document, 'visibilityState', { value: '${state}', configurable: true });
         document.dispatchEvent(new Event('visibilitychange'))`,
      );
    await hide('hidden');
    const before = asked;
    await page.waitForTimeout(6_000);
    expect(asked).toBe(before);
    await hide('visible');
    await eventually(() => asked).toBe(before + 1);
  });
});
