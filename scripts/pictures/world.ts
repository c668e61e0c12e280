/**
 * A TaskDash to take pictures of: the people and services of the demo in a folder of their own, one service that was lost
 * for a while and came back, and a crowd of workers that can fall silent all at once.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pass } from 'node:timers/promises';
import { startApp } from '../../server/app.js';
import { readConfig } from '../../server/config.js';
import { createLog } from '../../server/logging.js';
import { LegacyService } from '../demo/legacy-service.js';
import { addPeople, TOKEN_GROUP } from '../demo/people.js';
import { startExample, startFleet } from '../demo/services.js';

/** The world of the pictures. */
export interface World {
  /** The address of the page. */
  readonly http: string;
  readonly passwords: ReadonlyMap<string, string>;
  /** The task of the service that was lost and came back. */
  readonly restoredTask: string;
  /** Most of the crowd falls silent, as when a network is cut; protection begins after the TTL. */
  cutNetwork(): void;
  stop(): Promise<void>;
}

const TTL_MS = 15_000;
/** How long the fleet lives before anybody looks. */
const SETTLE_MS = 30_000;
const WORKERS = 60;
const SILENT_WORKERS = 48;

/** Starts everything and lets it live for a while. */
export async function startWorld(): Promise<World> {
  const dataDir = await mkdtemp(join(tmpdir(), 'taskdash-pictures-'));
  const config = readConfig({
    TASKDASH_DATA_DIR: join(dataDir, 'data'),
    TASKDASH_HTTP_PORT: '0',
    TASKDASH_GRPC_PORT: '0',
    TASKDASH_TCP_PORT: '0',
    TASKDASH_NODE_NAME: 'node-1',
    TASKDASH_HEARTBEAT_TTL: `${TTL_MS}ms`,
    TASKDASH_LOG_LEVEL: 'error',
    TASKDASH_ADMIN_USERNAME: 'root',
  });
  const app = await startApp(config, createLog(config));
  const { http, grpc, tcp } = app.addresses;
  const { passwords, token } = await addPeople(config);
  const services = [...(await startExample(tcp)), ...(await startFleet(tcp, grpc, TOKEN_GROUP, token))];
  const crowd = startCrowd(tcp);
  const restored = startWorker(tcp, 'mail-relay', 'mx', 'wsg');
  await pass(TTL_MS / 2);
  restored.fallSilent(TTL_MS + 5_000);
  await pass(SETTLE_MS);
  return {
    http,
    passwords,
    restoredTask: 'mail-relay',
    cutNetwork: () => crowd.slice(0, SILENT_WORKERS).forEach((worker) => worker.fallSilent(10 * 60_000)),
    stop: async () => {
      await Promise.all([...services, ...crowd, restored].map(async (service) => service.stop()));
      await app.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

function startCrowd(tcp: string): LegacyService[] {
  return Array.from({ length: WORKERS }, (_, index) => {
    const id = `edge-${String(index + 1).padStart(3, '0')}`;
    return startWorker(tcp, id, 'edge', 'yuki');
  });
}

function startWorker(tcp: string, id: string, group_id: string, user: string): LegacyService {
  const service = new LegacyService(tcp);
  const start_time = new Date(Date.now() - 3_600_000).toISOString();
  const url = `http://${id}.internal.example/status`;
  const description = `Forwards what ${group_id} receives`;
  service.register({ id, name: id, url, user, group_id, description, status: 'running', start_time, stop_time: '' });
  service.start();
  return service;
}
