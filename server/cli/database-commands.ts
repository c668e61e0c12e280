/** `migrate`, `doctor`. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { missingAdministrator } from '../administrators.js';
import type { Config } from '../config.js';
import { doorPlaces, requireDoors, type DoorPlace } from '../doors.js';
import { print, sentenceOf } from './print.js';
import { withStorage, withStorageMade } from './with-storage.js';

const ANSWER_MS = 3_000;

/** Brings the schema up to date; opening the storage does it. */
export function migrate(config: Config): Promise<number> {
  return withStorageMade(config, (storage) => {
    print(`The database has the schema ${storage.schemaVersion}.`);
    return Promise.resolve(0);
  });
}

/** Checks what a start needs or, where a server of these settings runs, whether it is well: one line each. */
export async function doctor(config: Config): Promise<number> {
  let advice: string | undefined;
  const checks = [
    await check('Node.js', () => Promise.resolve(requireNode())),
    await check('database', () => describeDatabase(config, (missing) => (advice = missing))),
  ];
  if (advice !== undefined) print(`warn  administrator: ${advice}`);
  const places = doorPlaces(config);
  const server = await findServer(places);
  if (server !== undefined) checks.push(await check('server', () => describeServer(server)));
  for (const place of places) {
    checks.push(await check(`${place.door} port`, () => (server === undefined ? describeFree : describeOpen)(place)));
  }
  return checks.every(Boolean) ? 0 : 1;
}

async function check(what: string, probe: () => Promise<string>): Promise<boolean> {
  try {
    print(`ok    ${what}: ${await probe()}`);
    return true;
  } catch (failure) {
    print(`wrong ${what}: ${sentenceOf(failure)}`);
    return false;
  }
}

function requireNode(): string {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19))
    throw new Error(`${process.version} is too old; install 20.19 or newer`);
  return process.version;
}

async function describeDatabase(config: Config, warn: (advice: string | undefined) => void): Promise<string> {
  let found = '';
  await withStorage(config, async (storage) => {
    await storage.health.check();
    found = `answers, schema ${storage.schemaVersion}`;
    warn(await missingAdministrator(storage.identity));
    return 0;
  });
  return found;
}

async function describeFree(place: DoorPlace): Promise<string> {
  await requireDoors([place]);
  return place.port === 0 ? 'any free one' : `${place.host}:${place.port} is free`;
}

/** Where a running TaskDash answers over HTTP, as its metrics tell; undefined: nothing does, or something else. */
async function findServer(places: readonly DoorPlace[]): Promise<string | undefined> {
  const http = places.find(({ door }) => door === 'HTTP');
  if (!http || http.port === 0) return undefined;
  const url = `http://${http.host.includes(':') ? `[${http.host}]` : http.host}:${http.port}`;
  try {
    return (await ask(`${url}/metrics`)).body.includes('taskdash_') ? url : undefined;
  } catch {
    // Nobody is there, which is what a start needs.
    return undefined;
  }
}

async function describeServer(url: string): Promise<string> {
  const { isWell, body } = await ask(`${url}/readyz`);
  if (isWell) return `runs and is ready at ${url}`;
  throw new Error(`runs at ${url}, but is not ready: ${body.trim()}`);
}

async function ask(url: string): Promise<{ isWell: boolean; body: string }> {
  const response = await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS) });
  return { isWell: response.ok, body: await response.text() };
}

async function describeOpen({ host, port }: DoorPlace): Promise<string> {
  if (port === 0) return 'any free one';
  const socket = connect(port, host);
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(ANSWER_MS) });
    return `${host}:${port} is open`;
  } finally {
    socket.destroy();
  }
}
