import { appendFile, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { dataFolderAt, type DataFolder } from '../../../server/storage/embedded/data-folder.js';
import { openServerLog } from '../../../server/storage/embedded/server-log.js';
import { Sandbox } from './sandbox.js';

const sandbox = new Sandbox();
const megabyte = 'x'.repeat(1024 * 1024);

afterEach(() => {
  vi.useRealTimers();
});

async function newFolder(): Promise<DataFolder> {
  const folder = dataFolderAt(await sandbox.path('logged'));
  await mkdir(folder.root);
  return folder;
}

describe("PostgreSQL's log", () => {
  it('is put aside when it is long at the start, in place of the one before', async () => {
    const folder = await newFolder();
    await writeFile(folder.log, `${megabyte}new`);
    await writeFile(`${folder.log}.1`, 'old');
    const log = await openServerLog(folder, () => {});
    expect(await log.sizeBytes()).toBe(0);
    expect(await readFile(`${folder.log}.1`, 'utf8')).toMatch(/xnew$/);
    await log.close();
  });

  it('goes on when it is short at the start', async () => {
    const folder = await newFolder();
    await writeFile(folder.log, 'before\n');
    const log = await openServerLog(folder, () => {});
    await appendFile(folder.log, 'one\n\ntwo\nthree\n');
    expect(await log.tail(0)).toEqual(['before', 'one', 'two', 'three']);
    expect(await log.tail(7, 2)).toEqual(['two', 'three']);
    await log.close();
  });

  it('is put aside while it grows, too', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    const folder = await newFolder();
    const log = await openServerLog(folder, () => {});
    await writeFile(folder.log, megabyte.repeat(17));
    vi.advanceTimersByTime(30_000);
    vi.useRealTimers();
    await vi.waitFor(async () => expect(await log.sizeBytes()).toBe(0), { timeout: 5_000, interval: 10 });
    expect((await stat(`${folder.log}.1`)).size).toBe(17 * megabyte.length);
    await log.close();
  });

  it('is for its owner alone, and shows only what came after a given size, also when it was emptied since', async () => {
    const folder = await newFolder();
    const log = await openServerLog(folder, () => {});
    expect((await stat(folder.log)).mode & 0o777).toBe(0o600);
    await appendFile(folder.log, 'short\n');
    expect(await log.tail(1_000_000)).toEqual([]);
    await log.close();
  });
});
