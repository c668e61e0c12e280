/** Who reports in the demo. */
import { TaskDashClient, type TaskReport } from '../../client/client.js';
import { LegacyService, type TaskRecord } from './legacy-service.js';

/** Something that reports until it is stopped. */
export interface Service {
  stop(): Promise<void> | void;
}

const STEP_MS = 1_500;

function record(
  id: string,
  name: string,
  user: string,
  groupId: string,
  status: string,
  more: Partial<TaskRecord> = {},
): TaskRecord {
  const start = new Date(Date.now() - Math.random() * 48 * 3_600_000).toISOString().slice(0, 19);
  const base = {
    id,
    name,
    url: `http://${name}.internal.example/tasks/${id}`,
    user,
    group_id: groupId,
    description: '',
    status,
  };
  return { ...base, start_time: `${start}Z`, stop_time: '', ...more };
}

/** The five tasks of the interface document, each from a service of its own. */
export function startExample(tcp: string): Promise<Service[]> {
  const rows: [string, string, string, string, string][] = [
    ['133', 'zxf', 'running', '2020.07.01', '2020.07.05'],
    ['132', 'lxq', 'finish', '2020.07.16', '2020.07.27'],
    ['131', 'lb', 'shutdown', '2020.07.03', '2020.07.06'],
    ['130', 'zgl', 'restart', '2020.07.04', '2020.07.15'],
    ['137', 'zy', 'running', '2020.07.15', '2020.07.18'],
  ];
  const services = rows.map(([id, name, status, start_time, stop_time]) => {
    const service = new LegacyService(tcp);
    service.register(record(id, name, 'ssx', 'mx', status, { start_time, stop_time, description: `${name} 的任务` }));
    service.start();
    return service;
  });
  return Promise.resolve(services);
}

const WORK: Readonly<Record<string, readonly string[]>> = {
  etl: ['orders-import', 'clickstream-compact', 'warehouse-sync', 'dedupe-customers', 'nightly-export'],
  billing: ['invoice-run', 'dunning', 'fx-rates', 'ledger-close'],
  mx: ['mail-queue', 'spam-train', 'dkim-rotate', '发信队列', '垃圾邮件训练'],
};
const USERS = ['wsg', 'anna', 'li', 'tomas', 'yuki'];

const pick = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)] as T;

/** Some dozens of services over raw frames, and a render farm over gRPC. */
export async function startFleet(tcp: string, grpc: string, group: string, token: string): Promise<Service[]> {
  const legacy = Object.entries(WORK).flatMap(([groupId, names]) =>
    names.map((name) => startLegacy(tcp, groupId, name)),
  );
  return [...legacy, await startRenderFarm(grpc, group, token)];
}

function startLegacy(tcp: string, groupId: string, name: string): Service {
  const service = new LegacyService(tcp);
  const user = pick(USERS);
  for (let n = 1; n <= 4; n++) service.register(record(`${groupId}-${name}-${n}`, name, user, groupId, 'running'));
  service.start();
  const timer = setInterval(() => live(service), STEP_MS * (5 + Math.random() * 20));
  return {
    stop: () => {
      clearInterval(timer);
      service.stop();
    },
  };
}

/** One step in the life of a service: mostly work, now and then trouble. */
function live(service: LegacyService): void {
  const task = pick(service.tasks);
  const chance = Math.random();
  if (chance < 0.05) return service.fallSilent(40_000);
  if (chance < 0.1) return service.restart();
  if (task.status === 'finish')
    return service.update(task.id, { status: 'restart', start_time: new Date().toISOString(), stop_time: '' });
  if (task.status === 'restart') return service.update(task.id, { status: 'running' });
  if (chance < 0.4) return service.update(task.id, { status: 'finish', stop_time: new Date().toISOString() });
  service.update(task.id, { description: `${Math.floor(Math.random() * 100)} % done` });
}

/** A render farm that reports over gRPC, with the client of the package. */
async function startRenderFarm(grpc: string, groupId: string, token: string): Promise<Service> {
  const client = new TaskDashClient({
    url: `http://${grpc}`,
    token,
    onState: (state, error) => error && process.stderr.write(`render farm: ${state}, ${error.message}\n`),
  });
  const ids = Array.from({ length: 30 }, (_, n) => `frame-${String(n + 1).padStart(4, '0')}`);
  await Promise.all(ids.map((id) => client.register(toReport(record(id, 'render', pick(USERS), groupId, 'running')))));
  const timer = setInterval(() => {
    const status = pick(['running', 'running', 'finish', 'restart', 'encoding']);
    client
      .update(pick(ids), { status })
      .catch((error: unknown) => process.stderr.write(`render farm: ${String(error)}\n`));
  }, STEP_MS);
  return {
    stop: async () => {
      clearInterval(timer);
      await client.stop();
    },
  };
}

function toReport(task: TaskRecord): TaskReport {
  const { group_id: groupId, start_time: startTime, stop_time: stopTime, ...rest } = task;
  return { ...rest, groupId, startTime, stopTime };
}
