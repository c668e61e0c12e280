import { copyFile, open, truncate, type FileHandle } from 'node:fs/promises';
import { createFile, giveToFolderOwner, type DataFolder, type LaunchLog } from './data-folder.js';
import { reasonOf } from './embedded-postgres-error.js';

const MAX_AT_START_BYTES = 1024 * 1024;
const MAX_WHILE_RUNNING_BYTES = 16 * 1024 * 1024;
const LOOK_EVERY_MS = 30_000;
const TAIL_BYTES = 16 * 1024;

/** What PostgreSQL writes: one file, and the one before it as `postgres.log.1`. */
export interface ServerLog {
  /** The descriptor that PostgreSQL writes to, always at the end. */
  readonly fd: number;
  sizeBytes(): Promise<number>;
  /** The last lines written after the file had `fromBytes`. */
  tail(fromBytes: number, maxLines?: number): Promise<string[]>;
  close(): Promise<void>;
}

/** Opens the log, puts a long one aside, and goes on keeping it short while it is open. */
export async function openServerLog(folder: DataFolder, log: LaunchLog): Promise<ServerLog> {
  const file = await createFile(folder, folder.log, 'a');
  await putAside(folder, file, MAX_AT_START_BYTES);
  const look = setInterval(() => {
    putAside(folder, file, MAX_WHILE_RUNNING_BYTES).catch((error: unknown) => {
      log('warn', "PostgreSQL's log cannot be shortened", { file: folder.log, reason: reasonOf(error) });
    });
  }, LOOK_EVERY_MS);
  look.unref();
  return {
    fd: file.fd,
    sizeBytes: async () => (await file.stat()).size,
    tail: (fromBytes, maxLines = 12) => tail(folder.log, fromBytes, maxLines),
    close: async () => {
      clearInterval(look);
      await file.close();
    },
  };
}

/** Copies and empties: PostgreSQL holds the file open, and, as it appends, goes on at the new end. */
async function putAside(folder: DataFolder, file: FileHandle, maxBytes: number): Promise<void> {
  if ((await file.stat()).size <= maxBytes) return;
  await copyFile(folder.log, `${folder.log}.1`);
  await giveToFolderOwner(folder, `${folder.log}.1`);
  await truncate(folder.log, 0);
}

async function tail(path: string, fromBytes: number, maxLines: number): Promise<string[]> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const start = Math.max(Math.min(fromBytes, size), size - TAIL_BYTES);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start);
    const lines = buffer.toString('utf8', 0, bytesRead).split('\n');
    return lines.filter((line) => line.trim() !== '').slice(-maxLines);
  } finally {
    await file.close();
  }
}
