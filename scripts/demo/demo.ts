/**
 * A TaskDash with users to log in as and services that really report, over raw frames and over gRPC: the example of the
 * interface document (user ssx, group mx, tasks 130 to 133 and 137) and a fleet that works, pauses, falls silent and
 * comes back. Everything lives in a folder of its own, `.taskdash-demo`.
 */
import { randomBytes } from 'node:crypto';
import { startApp } from '../../server/app.js';
import { withStorage } from '../../server/cli/with-storage.js';
import { readConfig, type Config } from '../../server/config.js';
import type { Role } from '../../server/domain/access.js';
import { systemClock } from '../../server/domain/clock.js';
import { Users } from '../../server/domain/users.js';
import { Argon2Hasher } from '../../server/identity/argon2-hasher.js';
import { createLog } from '../../server/logging.js';
import { nextSignal } from '../../server/signals.js';
import { startExample, startFleet, type Service } from './services.js';

const PEOPLE: readonly { id: string; name: string; says: string; administrator?: boolean; groups: [string, Role][] }[] =
  [
    { id: 'ssx', name: '孙小小', says: 'member of mx: the five tasks of the example', groups: [['mx', 'member']] },
    {
      id: 'lena',
      name: 'Lena Vogt',
      says: 'viewer of mx and render',
      groups: [
        ['mx', 'viewer'],
        ['render', 'viewer'],
      ],
    },
    { id: 'mo', name: 'Mo Chen', says: 'manager of etl', groups: [['etl', 'manager']] },
    { id: 'root', name: 'Administrator', says: 'sees everything', administrator: true, groups: [] },
  ];
const TOKEN_GROUP = 'render';

/** Adds the people, each with a new password, and makes a token for the services that speak gRPC. */
async function addPeople(config: Config): Promise<{ passwords: Map<string, string>; token: string }> {
  const passwords = new Map<string, string>();
  let token = '';
  await withStorage(config, async (storage) => {
    const users = new Users(storage.identity, new Argon2Hasher(), systemClock);
    for (const { id, name, administrator, groups } of PEOPLE) {
      const password = randomBytes(9).toString('base64url');
      passwords.set(id, password);
      const memberships = new Map(groups);
      await users.add({ id, displayName: name, password, administrator: administrator ?? false, memberships });
    }
    const name = `demo-${randomBytes(4).toString('hex')}`;
    token = (await users.createToken({ name, groupId: TOKEN_GROUP, scopes: ['register', 'read'] })).secret;
    return 0;
  });
  return { passwords, token };
}

const config = readConfig({
  TASKDASH_DATA_DIR: '.taskdash-demo',
  TASKDASH_HEARTBEAT_TTL: '15s',
  TASKDASH_LOG_LEVEL: 'warn',
  TASKDASH_ADMIN_USERNAME: 'root',
  ...process.env,
});
const ended = nextSignal();
const app = await startApp(config, createLog(config));
const { passwords, token } = await addPeople(config);
const services: Service[] = [
  ...(await startExample(app.addresses.tcp)),
  ...(await startFleet(app.addresses.tcp, app.addresses.grpc, TOKEN_GROUP, token)),
];

process.stdout.write(
  `TaskDash ready: page ${app.addresses.http}  gRPC ${app.addresses.grpc}  TCP ${app.addresses.tcp}\n\n`,
);
for (const { id, says } of PEOPLE)
  process.stdout.write(`  ${id.padEnd(6)} ${(passwords.get(id) ?? '').padEnd(14)} ${says}\n`);
process.stdout.write(`\n${services.length} services report. Ctrl-C ends everything.\n`);

const lost = await Promise.race([ended.then(() => undefined), app.lost]);
if (lost !== undefined) process.stderr.write(`${lost}\n`);
await Promise.all(services.map(async (service) => service.stop()));
await app.stop();
process.exit(lost === undefined ? 0 : 1);
