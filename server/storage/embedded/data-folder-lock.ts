/*
 * One process owns a data folder. Node.js has no lock that the kernel gives back when a process dies, so ownership is a
 * record (`lock/owner.N`: process number, when that process started, boot, process-number space) that anybody can judge:
 *
 *   released   the owner put the folder down
 *   alive      same space, and the process of that number started when the record says
 *   dead       same space and no such process (kill -9, reuse of the number), or the same host after another boot
 *   elsewhere  written in another container or on another machine: the owner touches its record every two seconds, so
 *              whoever sees it touched knows that it lives, and whoever sees five seconds of stillness takes it for dead
 *
 * Taking over must not race. The record with the highest N counts. A starter that finds it released or dead links its own
 * complete record as N + 1; linking fails when that name exists, so one starter wins each number. The winner looks once more,
 * for while it was slow others may have come and gone, and gives way when there is a higher number. Lower records are
 * deleted by the winner alone, and the highest is never deleted, only marked as released: numbers never come back.
 */
import { randomUUID } from 'node:crypto';
import { link, readdir, readFile, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { writeDurably, type DataFolder } from './data-folder.js';
import { codeOf, EmbeddedPostgresError, reasonOf } from './embedded-postgres-error.js';
import { currentProcessSpace, processStart, type ProcessSpace } from './process-table.js';

/** Who owns a data folder. */
export interface LockRecord extends ProcessSpace {
  readonly pid: number;
  /** See processStart. */
  readonly startedAt: string;
  /** What the process was started as, for people. */
  readonly command: string;
  /** When it took the folder, ISO 8601. */
  readonly since: string;
  readonly released: boolean;
}

/** Ownership of a data folder, until it is released. */
export interface DataFolderLock {
  /** Lets the next process have the folder. Idempotent. */
  release(): Promise<void>;
}

const TOUCH_EVERY_MS = 2_000;
const STILL_FOR_MS = 5_000;
const LOOK_EVERY_MS = 200;
const MAX_ROUNDS = 20;
const DRAFT_AGE_MS = 60_000;

type Standing = 'released' | 'alive' | 'dead' | 'elsewhere';

/**
 * Takes the folder for this process.
 * @throws EmbeddedPostgresError that names the process that has it.
 */
export async function lockDataFolder(folder: DataFolder): Promise<DataFolderLock> {
  const record = await ownRecord();
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const number = await highestNumber(folder);
    const path = recordPath(folder, number);
    const holder = await readRecord(path);
    if (holder && (await livesStill(path, holder))) throw inUse(folder, holder);
    const lock = await claim(folder, number + 1, record);
    if (lock) return lock;
  }
  throw new EmbeddedPostgresError(
    `Other processes kept taking the data folder ${folder.root}. Stop them, or set TASKDASH_DATA_DIR to another folder.`,
  );
}

/** The process that has the folder, if it lives in the same process-number space as this one, so that it can be reached. */
export async function liveHolder(folder: DataFolder): Promise<LockRecord | undefined> {
  const number = await highestNumber(folder);
  const holder = await readRecord(recordPath(folder, number));
  return holder && (await standingOf(holder)) === 'alive' ? holder : undefined;
}

async function claim(folder: DataFolder, number: number, record: LockRecord): Promise<DataFolderLock | undefined> {
  const path = recordPath(folder, number);
  const draft = join(folder.lock, `draft.${randomUUID()}`);
  await writeDurably(folder, draft, JSON.stringify(record));
  const won = await linkedAs(draft, path);
  await rm(draft, { force: true });
  if (!won) return undefined;
  if ((await highestNumber(folder)) > number) {
    await rm(path, { force: true });
    return undefined;
  }
  await removeOutdated(folder, number);
  return keepTouched(folder, path, record);
}

async function linkedAs(draft: string, path: string): Promise<boolean> {
  try {
    await link(draft, path);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  }
}

function keepTouched(folder: DataFolder, path: string, record: LockRecord): DataFolderLock {
  const touch = setInterval(() => {
    const now = new Date();
    // A failure here leaves the record still; only another container looks at that, and PostgreSQL guards itself too.
    utimes(path, now, now).catch(() => {});
  }, TOUCH_EVERY_MS);
  touch.unref();
  let released: Promise<void> | undefined;
  const release = async (): Promise<void> => {
    clearInterval(touch);
    try {
      await writeDurably(folder, path, JSON.stringify({ ...record, released: true }));
    } catch (error) {
      // A folder that has been deleted needs nobody to give it back.
      if (codeOf(error) !== 'ENOENT') throw error;
    }
  };
  return { release: () => (released ??= release()) };
}

async function livesStill(path: string, holder: LockRecord): Promise<boolean> {
  const standing = await standingOf(holder);
  if (standing !== 'elsewhere') return standing === 'alive';
  const touchedAt = await lastTouch(path);
  for (let waitedMs = 0; waitedMs < STILL_FOR_MS; waitedMs += LOOK_EVERY_MS) {
    await delay(LOOK_EVERY_MS);
    if ((await lastTouch(path)) !== touchedAt) return true;
  }
  return false;
}

async function lastTouch(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).mtimeMs;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function standingOf(holder: LockRecord): Promise<Standing> {
  if (holder.released) return 'released';
  const here = await currentProcessSpace();
  const sameBoot = holder.bootId === here.bootId;
  if (sameBoot && holder.pidNamespace === here.pidNamespace && (here.bootId !== '' || holder.host === here.host)) {
    const start = await processStart(holder.pid);
    return start !== undefined && (start === '' || start === holder.startedAt) ? 'alive' : 'dead';
  }
  return holder.host === here.host && !sameBoot ? 'dead' : 'elsewhere';
}

async function ownRecord(): Promise<LockRecord> {
  return {
    ...(await currentProcessSpace()),
    pid: process.pid,
    startedAt: (await processStart(process.pid)) ?? '',
    command: process.argv.slice(1, 4).join(' ').slice(0, 200),
    since: new Date().toISOString(),
    released: false,
  };
}

function inUse(folder: DataFolder, holder: LockRecord): EmbeddedPostgresError {
  const who = holder.pid === process.pid ? 'this very process' : `process ${holder.pid} (${holder.command})`;
  return new EmbeddedPostgresError(
    `The data folder ${folder.root} is in use by ${who} on ${holder.host} since ${holder.since}. ` +
      'Stop that process first, or set TASKDASH_DATA_DIR to another folder.',
  );
}

function recordPath(folder: DataFolder, number: number): string {
  return join(folder.lock, `owner.${number}`);
}

/** The highest record's number; 0 when there is none. */
async function highestNumber(folder: DataFolder): Promise<number> {
  return Math.max(0, ...(await recordNumbers(folder)));
}

async function recordNumbers(folder: DataFolder): Promise<number[]> {
  try {
    const names = await readdir(folder.lock);
    return names.map((name) => Number(/^owner\.(\d+)$/.exec(name)?.[1] ?? 0));
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Deletes the lower records, and what a kill left between drafting a record and linking it. */
async function removeOutdated(folder: DataFolder, number: number): Promise<void> {
  const lower = (await recordNumbers(folder)).filter((candidate) => candidate > 0 && candidate < number);
  const drafts = (await readdir(folder.lock)).filter((name) => name.startsWith('draft.'));
  const outdated = lower.map((candidate) => recordPath(folder, candidate));
  for (const draft of drafts.map((name) => join(folder.lock, name))) {
    const touchedAt = await lastTouch(draft);
    if (touchedAt !== undefined && touchedAt < Date.now() - DRAFT_AGE_MS) outdated.push(draft);
  }
  await Promise.all(outdated.map((path) => rm(path, { force: true })));
}

async function readRecord(path: string): Promise<LockRecord | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as LockRecord;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw new EmbeddedPostgresError(
      `The lock record ${path} cannot be read: ${reasonOf(error)}. Run this as the user that the folder belongs to; ` +
        'should the record be damaged and no TaskDash server run on the folder, delete it.',
      { cause: error },
    );
  }
}
