/** The gRPC door: the services of the contract, health and reflection. */
import { setMaxListeners } from 'node:events';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { Health } from '../../proto/gen/grpc/health/v1/health_pb.js';
import { ServerReflection } from '../../proto/gen/grpc/reflection/v1/reflection_pb.js';
import type { DescService } from '@bufbuild/protobuf';
import type { ServiceImpl } from '@connectrpc/connect';
import type { Clock, Timer } from '../domain/clock.js';
import { TaskDashError } from '../domain/errors.js';
import { addService, type CallHost } from './grpc-bridge.js';
import { createHealth } from './grpc-health.js';
import { createReflection } from './grpc-reflection.js';
import type { Readiness } from './readiness.js';
import { describeError } from './rpc/errors.js';
import type { RpcLimits } from './rpc/limits.js';
import type { RpcService } from './rpc/services.js';

/** What the door works with. */
export interface GrpcServerOptions {
  readonly services: readonly RpcService[];
  readonly readiness: Readiness;
  readonly clock: Clock;
  readonly limits: RpcLimits;
}

const KEEP_ALIVE_MS = 30_000;
const KEEP_ALIVE_TIMEOUT_MS = 10_000;
const MAX_STREAMS_PER_CONNECTION = 1_000;
/** How long clients may keep connections open while the server stops and has answered everything. */
const LINGER_MS = 500;

export class GrpcServer {
  readonly #server: Server;
  readonly #clock: Clock;
  readonly #shutdown = new AbortController();
  #address = '';
  #openCalls = 0;
  #onAnswered: () => void = () => {};
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;

  constructor({ services, readiness, clock, limits }: GrpcServerOptions) {
    this.#clock = clock;
    // Every call listens for the stop; Node warns of more than ten as of a leak.
    setMaxListeners(Infinity, this.#shutdown.signal);
    this.#server = new Server({
      'grpc.max_receive_message_length': limits.maxMessageBytes,
      'grpc.max_send_message_length': limits.maxMessageBytes,
      'grpc.keepalive_time_ms': KEEP_ALIVE_MS,
      'grpc.keepalive_timeout_ms': KEEP_ALIVE_TIMEOUT_MS,
      'grpc.max_concurrent_streams': MAX_STREAMS_PER_CONNECTION,
    });
    const contract = services.map(({ service }) => service);
    const names = contract.map(({ typeName }) => typeName);
    const host: CallHost = { shutdown: this.#shutdown.signal, onCall: (change) => this.#count(change) };
    const mount = <S extends DescService>(service: S, implementation: ServiceImpl<S>) =>
      addService(this.#server, service, implementation, host);
    for (const { service, implementation } of services) mount(service, implementation);
    mount(Health, createHealth(names, readiness, clock));
    mount(ServerReflection, createReflection([...contract, Health, ServerReflection]));
  }

  /** Listens; rejects when the address is not to be had; idempotent. */
  start({ host, port }: { host: string; port: number }): Promise<void> {
    const shownHost = host.includes(':') ? `[${host}]` : host;
    this.#starting ??= new Promise((resolve, reject) => {
      this.#server.bindAsync(`${shownHost}:${port}`, ServerCredentials.createInsecure(), (error, realPort) => {
        if (error) return reject(error);
        this.#address = `${shownHost}:${realPort}`;
        resolve();
      });
    });
    return this.#starting;
  }

  /** Where the door listens, as host:port. */
  get address(): string {
    return this.#address;
  }

  /** Tells clients to go, ends streams with STOPPING, lets calls end, cuts what is left after `deadlineMs`; idempotent. */
  stop(deadlineMs: number): Promise<void> {
    this.#stopping ??= new Promise((resolve) => {
      const cut = this.#clock.schedule(deadlineMs, () => this.#server.forceShutdown());
      let lingering: Timer | undefined;
      this.#server.tryShutdown(() => {
        cut.cancel();
        lingering?.cancel();
        resolve();
      });
      // Some clients never end their side of a stream, whatever they are told.
      this.#onAnswered = () => (lingering ??= this.#clock.schedule(LINGER_MS, () => this.#server.forceShutdown()));
      // After the goodbye of the connections, so that nobody tries again on one of them.
      this.#shutdown.abort(describeError(new TaskDashError('STOPPING')));
      this.#count(0);
    });
    return this.#stopping;
  }

  #count(change: 1 | 0 | -1): void {
    this.#openCalls += change;
    if (this.#openCalls === 0) this.#onAnswered();
  }
}
