/** Two servers of one name. */
import { expect, it, onTestFinished } from 'vitest';
import { watchForNamesakes } from '../../server/namesakes.js';
import { startTestApp, type TestApp } from '../support/app.js';
import { ManualClock } from '../support/manual-clock.js';
import { silentLog } from '../support/silent-log.js';

const NAMESAKE = /^another server that runs has the name of this one.* set TASKDASH_NODE_NAME/;
const NODE = { id: '00000000-0000-4000-8000-000000000001', name: 'a' };

/** A log that keeps the warnings. */
function warnings(): { log: typeof silentLog; told: string[] } {
  const told: string[] = [];
  return { log: { ...silentLog, warn: (_details: object, message: string) => void told.push(message) }, told };
}

async function start(name: string, first?: TestApp): Promise<{ app: TestApp; told: string[] }> {
  const { log, told } = warnings();
  const settings = { TASKDASH_NODE_NAME: name, TASKDASH_NODE_LEASE: '1s' };
  const app = await startTestApp({ settings, log, ...(first && { database: first.database }) });
  onTestFinished(() => app.stop());
  return { app, told };
}

it('that run at once are told of by the later one, and none of another name is', async () => {
  const first = await start('a');
  const other = await start('b', first.app);
  const second = await start('a', first.app);
  await expect.poll(() => second.told, { timeout: 10_000 }).toContainEqual(expect.stringMatching(NAMESAKE));
  expect(other.told.filter((message) => NAMESAKE.test(message))).toEqual([]);
});

it('are looked for when the lease of a former one has run out, and not after a stop', async () => {
  const clock = new ManualClock();
  const { log, told } = warnings();
  let isAsked = 0;
  const nodes = {
    hasNamesake: () => {
      isAsked++;
      return Promise.resolve(true);
    },
  };
  const options = { nodes, clock, log, leaseMs: 10_000 };
  watchForNamesakes(NODE, options)();
  watchForNamesakes(NODE, options);
  clock.advance(10_000);
  expect(isAsked).toBe(0);
  clock.advance(1_000);
  await expect.poll(() => told.length).toBe(1);
  expect([isAsked, told[0]]).toEqual([1, expect.stringMatching(NAMESAKE)]);
});
