/** Where the doors are to listen, and whether they can: asked before a start begins, and by `taskdash doctor`. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { SETTINGS, type Config } from './config.js';

/** One door as it is set up. */
export interface DoorPlace {
  readonly door: 'HTTP' | 'gRPC' | 'TCP';
  readonly host: string;
  readonly port: number;
  /** The variables that decide where it is. */
  readonly hostVariable: string;
  readonly portVariable: string;
}

/** A door cannot listen where it is told to. */
export class DoorError extends Error {
  override readonly name = 'DoorError';
}

/** All doors. */
export function doorPlaces(config: Config): readonly DoorPlace[] {
  const place = (door: DoorPlace['door'], name: 'http' | 'grpc' | 'tcp'): DoorPlace => ({
    door,
    host: config[`${name}Host`] ?? config.host,
    port: config[`${name}Port`],
    hostVariable: (config[`${name}Host`] === undefined ? SETTINGS.host : SETTINGS[`${name}Host`]).env,
    portVariable: SETTINGS[`${name}Port`].env,
  });
  return [place('HTTP', 'http'), place('gRPC', 'grpc'), place('TCP', 'tcp')];
}

/** Throws DoorError for the first of the doors that cannot listen; all are tried at once, so that no two take one port. */
export async function requireDoors(places: readonly DoorPlace[]): Promise<void> {
  const probes: Server[] = [];
  try {
    for (const place of places) probes.push(await probe(place));
  } finally {
    await Promise.all(probes.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

async function probe(place: DoorPlace): Promise<Server> {
  const server = createServer((socket) => socket.destroy()).listen(place.port, place.host);
  try {
    await once(server, 'listening');
    server.on('error', () => {}); // It was to be had, which is all there is to know.
    return server;
  } catch (error) {
    throw new DoorError(explain(place, error as NodeJS.ErrnoException), { cause: error });
  }
}

function explain({ door, host, port, hostVariable, portVariable }: DoorPlace, error: NodeJS.ErrnoException): string {
  const otherPort = `set ${portVariable} to another port; 0 takes any free one.`;
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE: `the port is in use, perhaps by another TaskDash. Stop that, or ${otherPort}`,
    EACCES: `this user may not take that port. Take one above 1023: ${otherPort}`,
    EADDRNOTAVAIL: `this machine has no such address. Mend ${hostVariable}.`,
    ENOTFOUND: `there is no host of that name. Mend ${hostVariable}.`,
    EAI_AGAIN: `the name of the host could not be looked up. Mend ${hostVariable}, or try again.`,
  };
  return `The ${door} door cannot listen on ${host}:${port}: ${reasons[error.code ?? ''] ?? `${error.message}.`}`;
}
