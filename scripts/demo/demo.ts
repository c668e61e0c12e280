/**
 * A TaskDash with users to log in as and services that really report, over raw frames and over gRPC: the example of the
 * interface document (user ssx, group mx, tasks 130 to 133 and 137) and a fleet that works, pauses, falls silent and
 * comes back. Everything lives in a folder of its own, `.taskdash-demo`.
 */
import { startApp } from '../../server/app.js';
import { readConfig } from '../../server/config.js';
import { createLog } from '../../server/logging.js';
import { nextSignal } from '../../server/signals.js';
import { demoSettings } from './settings.js';
import { addPeople, PEOPLE, TOKEN_GROUP } from './people.js';
import { startExample, startFleet, type Service } from './services.js';

const config = readConfig(demoSettings(process.env));
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
