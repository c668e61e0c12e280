import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { AxeBuilder } from '@axe-core/playwright';
import type { Browser, Page } from '@playwright/test';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TEST_PASSWORD, type TestApp } from '../../support/app.js';
import { launchChromium } from '../../support/chromium.js';
import { TcpxClient } from '../../support/tcpx-client.js';
import {
  eventually,
  inBrowser,
  logIn,
  openPage,
  rowsOf,
  waitUntilLive,
  type Viewer,
  startWebTestApp,
} from '../../support/web-page.js';
import { tellOfMassSilence } from '../../support/web-protection.js';

let app: TestApp;
let service: TcpxClient;
let browser: Browser;

beforeAll(async () => {
  [app, browser] = await Promise.all([startWebTestApp(), launchChromium()]);
  service = await TcpxClient.connect(app.tcp);
  const statuses = ['running', 'restart', 'shutdown', 'finish', 'queued'];
  for (const [index, status] of statuses.entries()) {
    await service.register({
      id: `t${index}`,
      name: index === 4 ? '夜间导入 with a rather long name that has to go somewhere' : `job ${index}`,
      user: 'anna',
      group_id: 'mx',
      url: 'http://127.0.0.1:8080/v1/task',
      description: 'Reads what arrived since yesterday',
      status,
      start_time: '2026-01-15T08:00:00Z',
    });
  }
  await service.register({ id: 't2', name: 'job 2', user: 'anna', group_id: 'mx', status: 'finish' });
  await app.addUser('vera', { mx: 'viewer' });
  await app.addUser('boss', {}, true);
  await app.addUser('newcomer', { empty: 'viewer' });
});
afterAll(async () => {
  await browser.close();
  await service.close();
  await app.stop();
});

async function see(viewer: Viewer, look: (page: Page) => Promise<void>): Promise<void> {
  const open = await openPage(browser, app.http, viewer);
  try {
    await look(open.page);
    expect(open.complaints).toEqual([]);
  } finally {
    await open.close();
  }
}

/** The colour behind everything. */
const GROUND = 'getComputedStyle(document.documentElement).backgroundColor';

/** What moved on the page since it was loaded, as the browser counts it. */
const SHIFTS = `new Promise((resolve) => {
  const moved = [];
  const note = (list) => moved.push(...list.getEntries().flatMap((shift) => shift.sources.map(({ node }) => node?.outerHTML.slice(0, 120))));
  new PerformanceObserver(note).observe({ type: 'layout-shift', buffered: true });
  setTimeout(() => resolve(moved), 500);
})`;

/** Every page and every state of one that looks different. */
const VIEWS: readonly { name: string; show: (page: Page) => Promise<void> }[] = [
  {
    name: 'login',
    show: async (page) => {
      await page.goto('/login');
      await page.locator('form').waitFor();
    },
  },
  {
    name: 'failed login',
    show: async (page) => {
      await page.goto('/login');
      await page.locator('input[name=username]').fill('stranger');
      await page.locator('input[name=password]').fill('wrong');
      await page.keyboard.press('Enter');
      await page.getByRole('alert').waitFor();
    },
  },
  {
    name: 'list',
    show: async (page) => {
      await logIn(page, 'vera', '/tasks?q=group:mx&sort=name');
      await eventually(() => rowsOf(page).count()).toBe(5);
      await waitUntilLive(page);
    },
  },
  {
    name: 'list with waiting changes and the story of a status',
    show: async (page) => {
      await logIn(page, 'vera');
      await eventually(() => rowsOf(page).count()).toBe(5);
      await waitUntilLive(page);
      await page.locator('td.status .badge').first().hover();
      await page.getByRole('tooltip').waitFor();
      await service.register({ id: 't0', name: 'job 0', user: 'anna', group_id: 'mx', status: 'running' });
      await service.register({ id: 't1', name: 'job 1', user: 'anna', group_id: 'mx', status: 'restart' });
      await page.locator('.pending button').waitFor();
    },
  },
  {
    name: 'list whose stream is held, and why that is',
    show: async (page) => {
      await page.route('**/taskdash.task.v1.TaskService/WatchTasks', () => {});
      await logIn(page, 'vera');
      await page.locator('.fresh.held button.words').click();
      await page.locator('#held-why').waitFor();
    },
  },
  {
    name: 'empty list',
    show: async (page) => {
      await logIn(page, 'newcomer');
      await page.locator('.empty').waitFor();
    },
  },
  {
    name: 'task',
    show: async (page) => {
      await logIn(page, 'vera', '/tasks/t2');
      await page.locator('td.what').first().waitFor();
      await page.locator('summary').click();
    },
  },
  {
    name: 'connections',
    show: async (page) => {
      await logIn(page, 'vera', '/connections');
      await eventually(() => rowsOf(page).count()).toBe(1);
    },
  },
  {
    name: 'no connections',
    show: async (page) => {
      await logIn(page, 'newcomer', '/connections');
      await page.locator('.empty').waitFor();
    },
  },
  {
    name: 'mass silence',
    show: async (page) => {
      await tellOfMassSilence(page);
      await logIn(page, 'boss');
      await eventually(() => rowsOf(page).count()).toBe(5);
      await page.locator('aside h2').waitFor();
    },
  },
  {
    name: 'the question what is to expire',
    show: async (page) => {
      await tellOfMassSilence(page);
      await logIn(page, 'boss', '/connections?show=held');
      await page.getByRole('button', { name: /^(Expire now…|立即过期…)$/ }).click();
      await page.locator('dialog button.danger:enabled').waitFor();
    },
  },
  {
    name: 'no such task',
    show: async (page) => {
      await logIn(page, 'vera', '/tasks/nothing');
      await page.getByRole('alert').waitFor();
    },
  },
  {
    name: 'menu',
    show: async (page) => {
      await logIn(page, 'vera');
      await page.locator('.opener').click();
      await page.locator('#user-menu').waitFor();
    },
  },
  {
    name: 'help',
    show: async (page) => {
      await logIn(page, 'vera');
      await eventually(() => rowsOf(page).count()).toBe(5);
      await page.keyboard.press('?');
      await page.getByRole('dialog').waitFor();
    },
  },
  {
    name: 'change of password',
    show: async (page) => {
      await logIn(page, 'vera');
      await page.goto('/password');
      await page.locator('input[name=new-password]').waitFor();
    },
  },
  {
    name: 'unknown page',
    show: async (page) => {
      await logIn(page, 'vera', '/nowhere');
      await page.locator('h1').waitFor();
    },
  },
];

describe.each(VIEWS)('$name', ({ show }) => {
  it.each(['light', 'dark'] as const)('has nothing that axe finds in the %s theme', (theme) =>
    see({ theme, calm: true, language: theme === 'light' ? 'en-US' : 'zh-CN' }, async (page) => {
      await show(page);
      const { violations } = await new AxeBuilder({ page })
        .withTags(['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'])
        .analyze();
      expect(
        violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(' ')).join(' | ')}`),
      ).toEqual([]);
    }),
  );

  it('fits into 320 px without scrolling sideways', () =>
    see({ width: 320, height: 640, calm: true }, async (page) => {
      await show(page);
      expect(await inBrowser(page, 'document.documentElement.scrollWidth')).toBe(320);
    }));
});

describe('while it loads', () => {
  const load = async (page: Page, path: string) => {
    await logIn(page, 'boss', path);
    await page.goto(path);
    await waitUntilLive(page);
    await page.locator('td').first().waitFor();
  };
  const paths = ['/tasks', '/tasks/t2', '/connections'];

  it.each(paths)('nothing moves at %s', (path) =>
    see({}, async (page) => {
      await load(page, path);
      expect(await inBrowser(page, SHIFTS)).toEqual([]);
    }),
  );

  it.each(paths)('no row moves at %s when the bar of mass silence appears; only what is below the rows', (path) =>
    see({}, async (page) => {
      await tellOfMassSilence(page);
      await load(page, path);
      await page.locator('aside h2').waitFor();
      const moved = await inBrowser<string[]>(page, SHIFTS);
      expect(moved.filter((element) => !/^<(div class="bottom|nav)/.test(element))).toEqual([]);
    }),
  );
});

describe('the theme', () => {
  it('follows the system, and needs nothing of the page itself, so that nothing flashes', () =>
    see({ theme: 'dark' }, async (page) => {
      await page.route('**/assets/*.js', (route) => route.abort());
      await page.goto('/login');
      expect(await page.locator('html').getAttribute('data-theme')).toBe('dark');
      expect(await inBrowser(page, GROUND)).toBe('rgb(16, 18, 23)');
    }));

  it('can be chosen, is remembered, and needs no time to come back', () =>
    see({ theme: 'light' }, async (page) => {
      await page.goto('/login');
      const root = page.locator('html');
      const light = await inBrowser(page, GROUND);
      await page.getByRole('button', { name: 'Theme: Dark' }).click();
      expect(await root.getAttribute('data-theme')).toBe('dark');
      expect(await inBrowser(page, GROUND)).not.toBe(light);
      await page.reload({ waitUntil: 'commit' });
      await page.locator('body').waitFor({ state: 'attached' });
      expect(await root.getAttribute('data-theme')).toBe('dark');
    }));
});

describe('the language', () => {
  it.each([
    ['en-US', 'en', 'Log in'],
    ['zh-CN', 'zh-CN', '登录'],
    ['fr-FR', 'en', 'Log in'],
  ] as const)('of a browser that wishes %s is %s', (language, lang, title) =>
    see({ language }, async (page) => {
      await page.goto('/login');
      await page.getByRole('heading', { name: title }).waitFor();
      expect(await page.locator('html').getAttribute('lang')).toBe(lang);
      expect(await page.title()).toContain(title);
    }),
  );

  it('can be switched and is remembered, on every page', () =>
    see({ language: 'zh-CN' }, async (page) => {
      await page.goto('/login');
      await page.getByRole('button', { name: 'English' }).click();
      await page.getByLabel('User').fill('vera');
      await page.getByLabel('Password', { exact: true }).fill(TEST_PASSWORD);
      await page.keyboard.press('Enter');
      await page.getByRole('columnheader', { name: 'StartTime' }).waitFor();
      await page.locator('.opener').click();
      await page.getByRole('radio', { name: '中文' }).check({ force: true });
      await page.keyboard.press('Escape');
      await page.getByRole('columnheader', { name: '开始时间' }).waitFor();
      await page.reload();
      await page.getByRole('columnheader', { name: '开始时间' }).waitFor();
      await eventually(() =>
        page
          .locator('td.status')
          .allInnerTexts()
          .then((texts) => texts.includes('运行中')),
      ).toBe(true);
    }));
});

describe('the build', () => {
  const folder = fileURLToPath(new URL('../../../dist/web', import.meta.url));

  it('loads less than 120 kB of compressed script, and the server sends it compressed', () =>
    see({}, async (page) => {
      const scripts: { encoding: string | undefined; bytes: number }[] = [];
      page.on('response', (response) => {
        const { 'content-encoding': encoding, 'content-length': length } = response.headers();
        if (response.url().endsWith('.js')) scripts.push({ encoding, bytes: Number(length) });
      });
      await logIn(page, 'vera');
      await eventually(() => rowsOf(page).count()).toBe(5);
      expect(scripts.length).toBeGreaterThan(1);
      expect(scripts.every(({ encoding }) => encoding === 'br' || encoding === 'gzip')).toBe(true);
      expect(scripts.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThan(120_000);
    }));

  it('is below 120 kB also for a browser that only knows gzip', () => {
    // The list of common passwords is loaded only where somebody sets one.
    const scripts = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(
      (name) => name.endsWith('.js') && !name.startsWith('assets/password-estimator'),
    );
    const contents = scripts.map((name) => readFileSync(`${folder}/${name}`));
    const total = (compress: (content: Buffer) => Buffer) =>
      contents.reduce((sum, content) => sum + compress(content).length, 0);
    expect(total((content) => gzipSync(content, { level: 9 }))).toBeLessThan(120_000);
    expect(total((content) => brotliCompressSync(content))).toBeLessThan(120_000);
  });

  it('asks nobody but its own server for anything', () =>
    see({}, async (page) => {
      const origins = new Set<string>();
      page.on('request', (request) => origins.add(new URL(request.url()).origin));
      await logIn(page, 'vera', '/tasks/t2');
      await page.locator('td.what').first().waitFor();
      expect([...origins]).toEqual([app.http]);
    }));
});
