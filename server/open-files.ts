/** How many connections a process may have: each is an open file, of which the system gives so many. */
import { readFileSync } from 'node:fs';

/** Files that are no connection of a door: to the database, of the page, of the log. */
const OTHER_FILES = 512;
const DOORS = 3;

/** How many connections each of the doors may have, so that none of them takes the files of the others. */
export function connectionsADoor(openFiles: number): number {
  return Math.max(1, Math.floor((openFiles - OTHER_FILES) / DOORS));
}

/** How many files this process may have open; Infinity where the system does not tell. Node has raised it as far as it may. */
export function openFilesLimit(): number {
  try {
    return openFilesIn(readFileSync('/proc/self/limits', 'utf8'));
  } catch {
    return Infinity; // No Linux.
  }
}

/** The same from what Linux tells of a process. */
export function openFilesIn(limits: string): number {
  return Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? Infinity);
}
