/** `migrate`, `doctor`. */
import type { Config } from '../config.js';
import { doorPlaces, requireDoors, type DoorPlace } from '../doors.js';
import { print, sentenceOf } from './print.js';
import { withStorage } from './with-storage.js';

/** Brings the schema up to date; opening the storage does it. */
export function migrate(config: Config): Promise<number> {
  return withStorage(config, (storage) => {
    print(`The database has the schema ${storage.schemaVersion}.`);
    return Promise.resolve(0);
  });
}

/** Checks what a start needs, one line each, and says what is wrong. */
export async function doctor(config: Config): Promise<number> {
  const checks = [
    await check('Node.js', () => Promise.resolve(requireNode())),
    await check('database', () => describeDatabase(config)),
  ];
  for (const place of doorPlaces(config)) checks.push(await check(`${place.door} port`, () => describeDoor(place)));
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

async function describeDatabase(config: Config): Promise<string> {
  let found = '';
  await withStorage(config, async (storage) => {
    await storage.health.check();
    found = `answers, schema ${storage.schemaVersion}`;
    return 0;
  });
  return found;
}

async function describeDoor(place: DoorPlace): Promise<string> {
  await requireDoors([place]);
  return place.port === 0 ? 'any free one' : `${place.host}:${place.port} is free`;
}
