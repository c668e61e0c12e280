import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DataFolder } from './data-folder.js';

/** What a running PostgreSQL says of itself in `postmaster.pid`, one fact a line. */
export interface PostmasterFile {
  readonly pid: number;
  /** NaN while PostgreSQL has not come to writing it. */
  readonly port: number;
  /** `starting`, `ready`, `stopping`, `standby`; empty while it has not come to writing it. */
  readonly status: string;
}

/** Reads `postmaster.pid`; undefined when there is none, or when its first line has not been written yet. */
export async function readPostmasterFile(folder: DataFolder): Promise<PostmasterFile | undefined> {
  const text = await readFile(join(folder.cluster, 'postmaster.pid'), 'utf8').catch(() => '');
  // Lines: process, data directory, start time, port, socket folder, listen address, shared memory, status.
  const [pid = '', , , port = '', , , , status = ''] = text.split('\n');
  // A negative number is a single-user PostgreSQL's.
  const number = Math.abs(Number.parseInt(pid, 10));
  if (!Number.isInteger(number) || number === 0) return undefined;
  return { pid: number, port: Number.parseInt(port, 10), status: status.trim() };
}
