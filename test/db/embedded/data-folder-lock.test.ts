import { mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openDataFolder, type DataFolder } from '../../../server/storage/embedded/data-folder.js';
import { liveHolder, lockDataFolder, type LockRecord } from '../../../server/storage/embedded/data-folder-lock.js';
import { currentProcessSpace, processStart } from '../../../server/storage/embedded/process-table.js';
import { Sandbox } from './sandbox.js';
import { buildProject } from './standalone.js';

const sandbox = new Sandbox();

async function newFolder(): Promise<DataFolder> {
  return openDataFolder(await sandbox.path('locked'));
}

/** Leaves a record as an owner with these properties would have left it. */
async function leaveRecord(folder: DataFolder, changes: Partial<LockRecord>, number = 7): Promise<string> {
  const record: LockRecord = {
    ...(await currentProcessSpace()),
    pid: process.ppid,
    startedAt: (await processStart(process.ppid)) ?? '',
    command: 'server/main.js serve',
    since: '2024-01-01T00:00:00.000Z',
    released: false,
    ...changes,
  };
  const path = join(folder.lock, `owner.${number}`);
  await writeFile(path, JSON.stringify(record));
  return path;
}

describe('a data folder', () => {
  it('is refused to a second server, with the process that has it, until kill -9 takes that one away', async () => {
    const project = await sandbox.path('project');
    await buildProject(project, 'linked');
    const dataDir = await sandbox.seeded('data');
    const server = sandbox.spawn(process.execPath, project, dataDir);
    await server.told('url');
    await expect(sandbox.start(dataDir)).rejects.toThrow(
      new RegExp(`${dataDir} is in use by process ${server.pid} \\(.*serve\\.mjs .*TASKDASH_DATA_DIR`),
    );
    const second = sandbox.spawn(process.execPath, project, dataDir);
    expect(await second.told('error')).toContain(`is in use by process ${server.pid}`);

    await server.kill();
    await sandbox.start(dataDir);
  });

  it('is refused twice in one process', async () => {
    const folder = await newFolder();
    const lock = await lockDataFolder(folder);
    await expect(lockDataFolder(folder)).rejects.toThrow('in use by this very process');
    await lock.release();
    await (await lockDataFolder(folder)).release();
  });

  it('goes to exactly one of many who want it at once, also when they find a dead owner', async () => {
    const folder = await newFolder();
    await leaveRecord(folder, { startedAt: 'another time' });
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => lockDataFolder(folder)));
    const locks = outcomes.filter((outcome) => outcome.status === 'fulfilled');
    expect(locks).toHaveLength(1);
    expect(await readdir(folder.lock)).toEqual(['owner.8']);
    for (const { value } of locks) await value.release();
  });

  it('has no holder to talk to before, and after the release', async () => {
    const folder = await newFolder();
    expect(await liveHolder(folder)).toBeUndefined();
    const lock = await lockDataFolder(folder);
    expect(await liveHolder(folder)).toMatchObject({ pid: process.pid });
    await lock.release();
    await lock.release();
    expect(await liveHolder(folder)).toBeUndefined();
  });
});

describe('a record', () => {
  it('of a running process keeps others off', async () => {
    const folder = await newFolder();
    await leaveRecord(folder, {});
    await expect(lockDataFolder(folder)).rejects.toThrow(`in use by process ${process.ppid} (server/main.js serve)`);
  });

  it('of a process whose number another one has by now does not', async () => {
    const folder = await newFolder();
    await leaveRecord(folder, { startedAt: '1' });
    await (await lockDataFolder(folder)).release();
  });

  it('from before the last boot of the same host does not', async () => {
    const folder = await newFolder();
    await leaveRecord(folder, { bootId: 'another boot' });
    await (await lockDataFolder(folder)).release();
  });

  it('of another container keeps others off while it is touched', async () => {
    const folder = await newFolder();
    const path = await leaveRecord(folder, { host: 'elsewhere', pidNamespace: 'pid:[1]' });
    const touch = setInterval(() => void utimes(path, new Date(), new Date()), 300);
    try {
      await expect(lockDataFolder(folder)).rejects.toThrow('on elsewhere');
    } finally {
      clearInterval(touch);
    }
  });

  it('of another container that has gone still does not, save when others came and took the folder meanwhile', async () => {
    const elsewhere = { host: 'elsewhere', pidNamespace: 'pid:[1]' };
    const [abandoned, overtaken] = [await newFolder(), await newFolder()];
    await leaveRecord(abandoned, elsewhere);
    await leaveRecord(overtaken, elsewhere);
    const outcomes = Promise.allSettled([lockDataFolder(abandoned), lockDataFolder(overtaken)]);
    await leaveRecord(overtaken, { command: 'the quicker one' }, 9);

    const [first, second] = await outcomes;
    expect(first.status).toBe('fulfilled');
    if (first.status === 'fulfilled') await first.value.release();
    expect(second).toMatchObject({ reason: { message: expect.stringContaining('(the quicker one)') as string } });
    expect(await liveHolder(overtaken)).toMatchObject({ command: 'the quicker one' });
  });

  it('that is damaged is told by its path, not overwritten', async () => {
    const folder = await newFolder();
    await mkdir(folder.lock, { recursive: true });
    const path = join(folder.lock, 'owner.3');
    await writeFile(path, '{"pid":');
    await expect(lockDataFolder(folder)).rejects.toThrow(path);
    expect(await readFile(path, 'utf8')).toBe('{"pid":');
  });
});
