/**
 * A client that means well, in a process of its own: it calls at a steady pace over gRPC and HTTP, and asks /healthz as a
 * load balancer does, over a new connection each time.
 */
import { get } from 'node:http';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import { createClient, type Client } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport } from '@connectrpc/connect-node';
import { authorized } from '../../client/authorized-transport.js';
import { TaskService } from '../../proto/gen/taskdash/task/v1/task_service_pb.js';
import { Companion, serve } from './companion.js';

/** Where it calls, and as whom. */
export interface GoodClientPlan {
  readonly http: string;
  readonly grpc: string;
  readonly token: string;
}

/** How a while was. */
export interface Experience {
  readonly callsPerSecond: number;
  /** The fewest calls that were answered in a second. */
  readonly worstSecond: number;
  readonly failures: number;
  readonly healthP99Ms: number;
  /** How late its own event loop was at most: by so much what it measured may be the machine's matter. */
  readonly latestMs: number;
}

/** Callers on each of the two doors, and how often each calls. */
const CALLERS = 5;
const CALL_EVERY_MS = 100;
/**
 * Often enough for 200 answers during an attack: with fewer than 100, the 99th of 100 would be the slowest of all. A server
 * accepts one connection a turn of its event loop: asked much more often, it would be the questions that wait.
 */
const ASK_HEALTH_EVERY_MS = 40;
/** Another address than that of the attackers. */
const LOCAL_ADDRESS = '127.0.0.2';
const PATIENCE_MS = 5_000;

/** A client that calls for so many milliseconds when it is told to, and tells how that was. */
export function launchGoodClient(plan: GoodClientPlan): Promise<Companion<number, Experience>> {
  return Companion.launch(fileURLToPath(import.meta.url), plan);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  serve((plan: GoodClientPlan) => {
    const transports = [
      createGrpcTransport({ baseUrl: `http://${plan.grpc}`, nodeOptions: { localAddress: LOCAL_ADDRESS } as object }),
      createConnectTransport({ baseUrl: plan.http, httpVersion: '1.1', nodeOptions: { localAddress: LOCAL_ADDRESS } }),
    ];
    const clients = transports.map((transport) => createClient(TaskService, authorized(transport, plan.token)));
    return (forMs: number) => measure(plan, clients, forMs);
  });
}

async function measure(
  plan: GoodClientPlan,
  clients: readonly Client<typeof TaskService>[],
  forMs: number,
): Promise<Experience> {
  const seconds = Array.from({ length: Math.floor(forMs / 1_000) }, () => 0);
  const lateness = monitorEventLoopDelay({ resolution: 10 });
  lateness.enable();
  const beganMs = performance.now();
  const isOn = () => performance.now() - beganMs < forMs;
  let failures = 0;
  const callers = clients.flatMap((client, door) =>
    Array.from({ length: CALLERS }, async (_, number) => {
      await delay((CALL_EVERY_MS / CALLERS) * number);
      for (let call = 0; isOn(); call++) {
        const pause = delay(CALL_EVERY_MS);
        const went = await callOnce(client, `good-${door}-${number}`, call);
        const second = Math.floor((performance.now() - beganMs) / 1_000);
        if (!went) failures++;
        else if (second < seconds.length) seconds[second] = (seconds[second] ?? 0) + 1;
        await pause;
      }
    }),
  );
  const times: number[] = [];
  const asking = (async () => {
    const asked: Promise<unknown>[] = [];
    for (; isOn(); await delay(ASK_HEALTH_EVERY_MS)) asked.push(askHealth(plan.http).then((ms) => times.push(ms)));
    await Promise.all(asked);
  })();
  await Promise.all([...callers, asking]);
  lateness.disable();
  return {
    callsPerSecond: seconds.reduce((sum, calls) => sum + calls, 0) / seconds.length,
    worstSecond: Math.min(...seconds),
    failures,
    healthP99Ms: times.sort((one, other) => one - other)[Math.floor(times.length * 0.99)] ?? PATIENCE_MS,
    latestMs: lateness.max / 1e6,
  };
}

async function callOnce(client: Client<typeof TaskService>, id: string, call: number): Promise<boolean> {
  const options = { timeoutMs: PATIENCE_MS };
  try {
    if (call % 2 === 0) await client.registerTask({ task: { id, groupId: 'mx', description: `${call}` } }, options);
    else await client.getTask({ id }, options);
    return true;
  } catch {
    return false;
  }
}

/** How long an answer took; one that failed counts as long as patience lasts. */
function askHealth(http: string): Promise<number> {
  const beganMs = performance.now();
  return new Promise((resolve) => {
    const failed = () => resolve(PATIENCE_MS);
    const request = get(
      `${http}/healthz`,
      { agent: false, timeout: PATIENCE_MS, localAddress: LOCAL_ADDRESS },
      (response) => {
        response.resume().once('end', () => resolve(performance.now() - beganMs));
        response.once('error', failed);
      },
    );
    request.once('timeout', () => request.destroy());
    request.once('error', failed);
  });
}
