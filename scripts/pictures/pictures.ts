/** Takes the pictures of the documents: `docs/images`, from the data of the demo, in a real browser. */
import { fileURLToPath } from 'node:url';
import type { Page } from '@playwright/test';
import { launchChromium } from '../../test/support/chromium.js';
import { startWorld, type World } from './world.js';

interface Picture {
  readonly name: string;
  readonly theme: 'light' | 'dark';
  readonly user: string;
  readonly path: (world: World) => string;
  /** What must be seen before the picture is taken. */
  readonly shows: readonly string[];
}

const LIST = '/tasks?sort=start&size=25';
const CALM: readonly Picture[] = [
  { name: 'tasks-light', theme: 'light', user: 'root', path: () => LIST, shows: ['.fresh.live'] },
  { name: 'tasks-dark', theme: 'dark', user: 'root', path: () => LIST, shows: ['.fresh.live'] },
  { name: 'task', theme: 'light', user: 'root', path: (world) => `/tasks/${world.restoredTask}`, shows: ['td.what'] },
];
const ALARMED: readonly Picture[] = [
  {
    name: 'protection',
    theme: 'light',
    user: 'root',
    path: () => '/tasks?q=group:edge&sort=name',
    shows: ['aside h2 >> text=/\\b4\\d connections/', 'td.status >> text=protected'],
  },
];
const SIZE = { width: 1280, height: 760 };
const PATIENCE_MS = 60_000;
const folder = fileURLToPath(new URL('../../docs/images', import.meta.url));

const world = await startWorld();
const browser = await launchChromium();
try {
  for (const picture of CALM) await take(picture);
  world.cutNetwork();
  for (const picture of ALARMED) await take(picture);
} finally {
  await browser.close();
  await world.stop();
}

async function take({ name, theme, user, path, shows }: Picture): Promise<void> {
  const context = await browser.newContext({
    baseURL: world.http,
    locale: 'en-US',
    colorScheme: theme,
    reducedMotion: 'reduce',
    viewport: SIZE,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  await logIn(page, user, path(world));
  await page.locator('tbody tr').first().waitFor();
  await page.locator('[aria-busy=true]').waitFor({ state: 'detached' });
  for (const selector of shows) await page.locator(selector).first().waitFor();
  await page.screenshot({ path: `${folder}/${name}.png`, animations: 'disabled' });
  await context.close();
}

async function logIn(page: Page, user: string, path: string): Promise<void> {
  await page.goto(path);
  await page.getByLabel('User').fill(user);
  await page.getByLabel('Password', { exact: true }).fill(world.passwords.get(user) ?? '');
  await page.keyboard.press('Enter');
  await page.waitForURL((url) => url.pathname !== '/login');
}
