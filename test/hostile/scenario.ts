/**
 * An attack on a real server with a database of its own, beside a client that means well. Whatever is done to the server,
 * three things are asked: how much memory it took, whether it still tells in time that it lives, and how the good client
 * fared against before.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, type TestContext } from 'vitest';
import { createTestDatabase } from '../support/database.js';
import { ServerProcess, type ReadyLine } from '../support/server-process.js';
import { launchAttacker, type AttackName } from './attacker.js';
import { launchGoodClient } from './good-client.js';

declare module 'vitest' {
  interface TaskMeta {
    hostile?: Figures;
  }
}

/** What an attack showed. */
export interface Figures {
  readonly rssMib: number;
  readonly healthP99Ms: number;
  /** Before the attack: how busy the machine was anyway. */
  readonly healthP99BeforeMs: number;
  /** The longest time that the server's event loop was late, the attack apart and during it. */
  readonly longestTurnBeforeMs: number;
  readonly longestTurnMs: number;
  /** The same of the good client, which shares the machine. */
  readonly clientsLongestTurnMs: number;
  readonly before: number;
  readonly during: number;
  readonly worstSecond: number;
  readonly failures: number;
  readonly saw: string;
}

export const BOUNDS = { rssMib: 400, healthP99Ms: 200, rate: 0.5 } as const;
const BEFORE_MS = 3_000;
const DURING_MS = 8_000;
const ADMIN_PASSWORD = 'correct horse battery';
const MAIN = fileURLToPath(new URL('../../dist/server/main.js', import.meta.url));

/** Plays an attack on a server of its own; all of its figures must be within the bounds. */
export function scenario(attack: AttackName) {
  return async ({ task }: TestContext): Promise<void> => {
    const database = await createTestDatabase();
    const undo: (() => Promise<unknown>)[] = [() => database.drop()];
    try {
      const figures = await play(attack, database.url, undo);
      task.meta.hostile = figures;
      expectHeld(figures);
    } finally {
      for (const step of undo.reverse()) await step();
    }
  };
}

async function play(attack: AttackName, databaseUrl: string, undo: (() => Promise<unknown>)[]): Promise<Figures> {
  const env = {
    TASKDASH_DATABASE_URL: databaseUrl,
    TASKDASH_ADMIN_PASSWORD: ADMIN_PASSWORD,
    TASKDASH_LOG_LEVEL: 'error',
  };
  const server = await ServerProcess.start(env);
  undo.push(() => server.kill());
  const token = await createToken(databaseUrl);
  const good = await launchGoodClient({ ...server.ready, token });
  undo.push(() => good.end());
  const attacker = await launchAttacker({ attack, target: { ...server.ready, token } });
  undo.push(() => attacker.end());
  // Once unmeasured: the first calls of a process are slow.
  await good.do(1_000);
  await longestTurnMs(server.ready);
  const before = await good.do(BEFORE_MS);
  const longestTurnBeforeMs = await longestTurnMs(server.ready);
  const [during, saw] = await Promise.all([good.do(DURING_MS), attacker.do(DURING_MS)]);
  return {
    rssMib: peakMemory(server.pid),
    healthP99Ms: during.healthP99Ms,
    healthP99BeforeMs: before.healthP99Ms,
    longestTurnBeforeMs,
    longestTurnMs: await longestTurnMs(server.ready),
    clientsLongestTurnMs: during.latestMs,
    before: before.callsPerSecond,
    during: during.callsPerSecond,
    worstSecond: during.worstSecond,
    failures: during.failures,
    saw,
  };
}

/** What is wrong with the figures. */
export function brokenBounds({ rssMib, healthP99Ms, before, during }: Figures): string[] {
  return [
    ...(rssMib < BOUNDS.rssMib ? [] : ['memory']),
    ...(healthP99Ms < BOUNDS.healthP99Ms ? [] : ['/healthz']),
    ...(during >= before * BOUNDS.rate ? [] : ['good client']),
  ];
}

function expectHeld(figures: Figures): void {
  expect(brokenBounds(figures), JSON.stringify(figures)).toEqual([]);
}

/** The most that a process had of memory so far, in MiB. */
function peakMemory(pid: number): number {
  const kib = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib) / 1024;
}

/** The longest turn of the server's event loop since this was asked last. */
async function longestTurnMs({ http }: ReadyLine): Promise<number> {
  const metrics = await (await fetch(`${http}/metrics`)).text();
  return Number(/^nodejs_eventloop_lag_max_seconds (\S+)/m.exec(metrics)?.[1]) * 1000;
}

async function createToken(databaseUrl: string): Promise<string> {
  const args = [MAIN, 'token', 'create', 'someone', '--group', 'mx', '--scope', 'register', '--scope', 'read'];
  const env = { ...process.env, TASKDASH_DATABASE_URL: databaseUrl };
  return (await promisify(execFile)(process.execPath, args, { env })).stdout.trim();
}
