/** The page in a real browser, and what tests of it do again and again. */
import type { Browser, BrowserContext, Locator, Page } from '@playwright/test';
import { expect } from 'vitest';
import { startTestApp, TEST_PASSWORD, type TestApp } from './app.js';

/** How long the page may take to show what it should, on a busy machine. */
const PATIENCE_MS = 15_000;

/** A TaskDash whose services need no heartbeats while a browser takes its time. */
export function startWebTestApp(): Promise<TestApp> {
  return startTestApp({ settings: { TASKDASH_HEARTBEAT_TTL: '10m' } });
}

/** How a viewer comes. */
export interface Viewer {
  readonly language?: 'en-US' | 'zh-CN' | 'fr-FR';
  readonly theme?: 'light' | 'dark';
  readonly width?: number;
  readonly height?: number;
  readonly calm?: boolean;
}

/** A page, and everything that the browser complained about on it. */
export interface OpenPage {
  readonly page: Page;
  readonly context: BrowserContext;
  /** Errors of scripts, and what the content security policy refused. Failed requests are not among them. */
  readonly complaints: readonly string[];
  close(): Promise<void>;
}

/** Opens an empty page in a context of its own, in the time zone of Shanghai. */
export async function openPage(browser: Browser, baseUrl: string, viewer: Viewer = {}): Promise<OpenPage> {
  const context = await browser.newContext({
    baseURL: baseUrl,
    locale: viewer.language ?? 'en-US',
    timezoneId: 'Asia/Shanghai',
    colorScheme: viewer.theme ?? 'light',
    reducedMotion: viewer.calm ? 'reduce' : 'no-preference',
    viewport: { width: viewer.width ?? 1280, height: viewer.height ?? 800 },
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    const isRequest = message.text().startsWith('Failed to load resource');
    if (message.type() === 'error' && !isRequest) complaints.push(message.text());
  });
  return { page, context, complaints, close: () => context.close() };
}

/** Logs in through the form, from wherever the page leads there, and waits until it leads on. */
export async function logIn(page: Page, user: string, path = '/tasks', password = TEST_PASSWORD): Promise<void> {
  await page.goto(path);
  await page.getByLabel(/^(User|用户)$/).fill(user);
  await page.getByLabel(/^(Password|密码)$/).fill(password);
  await page.getByRole('button', { name: /^(Log in|登录)$/ }).click();
  await page.waitForURL((url) => url.pathname !== '/login');
}

/** The rows of the task table, without its head. */
export function rowsOf(page: Page): Locator {
  return page.locator('tbody').getByRole('row');
}

/** The texts of one column of the task table, from the first row to the last. */
export async function columnOf(page: Page, name: string): Promise<string[]> {
  return (await page.locator(`tbody td.${name}`).allInnerTexts()).map((text) => text.trim());
}

/** Waits until the indicator says that changes arrive. */
export async function waitUntilLive(page: Page): Promise<void> {
  await page.locator('.fresh.live').waitFor();
}

/** Looks again and again until the expectation that follows holds. */
export function eventually<T>(look: () => Promise<T> | T): ReturnType<typeof expect.poll<T>> {
  return expect.poll(look, { timeout: PATIENCE_MS });
}

/** The value of an expression in the page. It is a text because these files know no browser types. */
export function inBrowser<T>(page: Page, expression: string): Promise<T> {
  return page.evaluate<T>(expression);
}
