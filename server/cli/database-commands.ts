/** `migrate`, `doctor`. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { missingAdministrator } from '../administrators.js';
import type { Config } from '../config.js';
import { doorPlaces, requireDoors, type DoorPlace } from '../doors.js';
import type { LivingNode } from '../storage/known-nodes.js';
import type { SchemaState } from '../storage/migrate.js';
import { print, sentenceOf } from './print.js';
import { databaseWords, placeOfNewDatabase, withStorageMade, withView } from './with-storage.js';

const ANSWER_MS = 3_000;

/** Brings the schema up to date; opening the storage does it. */
export function migrate(config: Config): Promise<number> {
  return withStorageMade(config, (storage) => {
    const { schemaVersion, migrated } = storage;
    const ran = migrated.length > 0 ? `ran ${migrated.length}: ${migrated.join(', ')}` : 'there was nothing to do';
    print(`The database has the schema ${schemaVersion}; ${ran}.`);
    return Promise.resolve(0);
  });
}

/** A TaskDash that answers where these settings have theirs. */
interface FoundServer {
  readonly url: string;
  /** What it says of itself; undefined: nothing. */
  readonly node: { readonly id: string; readonly name: string } | undefined;
}

/** What is known of the settings and of a server that was found. */
interface Findings {
  /** What is wrong with the administrators. */
  advice?: string | undefined;
  /** Whether the server works on this database; undefined: that cannot be known. */
  isOurs?: boolean | undefined;
  /** The servers that live on this database. */
  living?: readonly LivingNode[];
}

/** Checks what a start needs or, where a server of these settings runs, whether it is well: one line each. */
export async function doctor(config: Config): Promise<number> {
  const places = doorPlaces(config);
  const server = await findServer(places);
  const findings: Findings = {};
  const checks = [
    await check('Node.js', () => Promise.resolve(requireNode())),
    await check('database', () => describeDatabase(config, server, findings)),
  ];
  if (findings.advice !== undefined) print(`warn  administrator: ${findings.advice}`);
  const { living } = findings;
  if (living) checks.push(await check('servers', () => Promise.resolve(describeLiving(living, server))));
  if (server) checks.push(await check('server', () => describeServer(server, findings.isOurs)));
  const describePort = server && findings.isOurs !== false ? describeOpen : describeFree;
  for (const place of places) checks.push(await check(`${place.door} port`, () => describePort(place)));
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

async function describeDatabase(config: Config, server: FoundServer | undefined, findings: Findings): Promise<string> {
  const folder = await placeOfNewDatabase(config);
  if (folder !== undefined)
    return (
      `there is none yet in ${folder}; "taskdash serve" makes it. If there is to be one, run this in the folder of the server, ` +
      'or name the database in TASKDASH_DATA_DIR or TASKDASH_DATABASE_URL.'
    );
  return withView(config, async ({ schema, health, identity, knownNodes }) => {
    if (schema.ran.length === 0)
      return `${databaseWords(config)} answers and is empty; a start, or "taskdash migrate", makes the tables`;
    await health.check();
    findings.advice = await missingAdministrator(identity);
    findings.living = await knownNodes.living();
    findings.isOurs = server?.node && (await knownNodes.has(server.node.id));
    return `${databaseWords(config)} answers, ${describeSchema(schema)}`;
  });
}

function describeSchema({ ran, missing }: SchemaState): string {
  const now = `schema ${ran.at(-1)}`;
  return missing.length === 0 ? now : `${now}; a start, or "taskdash migrate", still has to run ${missing.join(', ')}`;
}

/** '2 live on this database: "a" (heard of 1 s ago), "b" (heard of 3 s ago)' */
function describeLiving(living: readonly LivingNode[], server: FoundServer | undefined): string {
  if (living.length === 0) return 'none lives on this database';
  const names = living.map(({ name, heardAgo }) => `${JSON.stringify(name)} (heard of ${Math.round(heardAgo)} s ago)`);
  const isHere = living.some(({ id }) => id === server?.node?.id);
  const where = isHere ? '' : '; none of them at the ports of these settings';
  return `${living.length} ${living.length === 1 ? 'lives' : 'live'} on this database: ${names.join(', ')}${where}`;
}

async function describeFree(place: DoorPlace): Promise<string> {
  await requireDoors([place]);
  return place.port === 0 ? 'any free one' : `${place.host}:${place.port} is free`;
}

/** Where a running TaskDash answers over HTTP, as its metrics tell; undefined: nothing does, or something else. */
async function findServer(places: readonly DoorPlace[]): Promise<FoundServer | undefined> {
  const http = places.find(({ door }) => door === 'HTTP');
  if (!http || http.port === 0) return undefined;
  const url = `http://${http.host.includes(':') ? `[${http.host}]` : http.host}:${http.port}`;
  try {
    const { body } = await ask(`${url}/metrics`);
    const [, id, name] = /^taskdash_node_info\{id="(.*)",name="(.*)"\} 1$/m.exec(body) ?? [];
    const node = id === undefined || name === undefined ? undefined : { id, name };
    return body.includes('taskdash_') ? { url, node } : undefined;
  } catch {
    // Nobody is there, which is what a start needs.
    return undefined;
  }
}

async function describeServer({ url, node }: FoundServer, isOurs: boolean | undefined): Promise<string> {
  if (isOurs === false)
    throw new Error(
      `another TaskDash (node ${node?.name}) runs at ${url}, on another database than this one. Run this with its settings ` +
        'to look at it, or set other ports.',
    );
  const { isWell, body } = await ask(`${url}/readyz`);
  const doubt = isOurs ? '' : '; whether it works on this database cannot be known';
  if (isWell) return `runs and is ready at ${url}${doubt}`;
  throw new Error(`runs at ${url}, but is not ready: ${body.trim()}${doubt}`);
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
