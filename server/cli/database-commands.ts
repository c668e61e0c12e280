/** `migrate`, `doctor`. */
import { createServer } from 'node:net';
import type { Config } from '../config.js';
import { print } from './print.js';
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
    await check('HTTP port', () => requirePort(config.httpHost ?? config.host, config.httpPort)),
    await check('gRPC port', () => requirePort(config.grpcHost ?? config.host, config.grpcPort)),
    await check('TCP port', () => requirePort(config.tcpHost ?? config.host, config.tcpPort)),
  ];
  return checks.every(Boolean) ? 0 : 1;
}

async function check(what: string, probe: () => Promise<string>): Promise<boolean> {
  try {
    print(`ok    ${what}: ${await probe()}`);
    return true;
  } catch (failure) {
    print(`wrong ${what}: ${failure instanceof Error ? failure.message : String(failure)}`);
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

function requirePort(host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why =
        error.code === 'EADDRINUSE' ? 'is in use (by a running TaskDash, perhaps); choose another or 0' : error.message;
      reject(new Error(`${host}:${port} ${why}`));
    });
    server.listen(port, host, () =>
      server.close(() => resolve(port === 0 ? 'any free one' : `${host}:${port} is free`)),
    );
  });
}
