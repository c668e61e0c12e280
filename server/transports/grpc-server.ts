/** The gRPC door: the services of the contract, health and reflection. */
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { Health } from '../../proto/gen/grpc/health/v1/health_pb.js';
import { ServerReflection } from '../../proto/gen/grpc/reflection/v1/reflection_pb.js';
import type { Clock } from '../domain/clock.js';
import { addService } from './grpc-bridge.js';
import { createHealth } from './grpc-health.js';
import { createReflection } from './grpc-reflection.js';
import type { Readiness } from './readiness.js';
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

export class GrpcServer {
  readonly #server: Server;
  readonly #clock: Clock;
  #address = '';
  #stopping: Promise<void> | undefined;

  constructor({ services, readiness, clock, limits }: GrpcServerOptions) {
    this.#clock = clock;
    this.#server = new Server({
      'grpc.max_receive_message_length': limits.maxMessageBytes,
      'grpc.max_send_message_length': limits.maxMessageBytes,
      'grpc.keepalive_time_ms': KEEP_ALIVE_MS,
      'grpc.keepalive_timeout_ms': KEEP_ALIVE_TIMEOUT_MS,
      'grpc.max_concurrent_streams': MAX_STREAMS_PER_CONNECTION,
    });
    const contract = services.map(({ service }) => service);
    const names = contract.map(({ typeName }) => typeName);
    for (const { service, implementation } of services) addService(this.#server, service, implementation);
    addService(this.#server, Health, createHealth(names, readiness, clock));
    addService(this.#server, ServerReflection, createReflection([...contract, Health, ServerReflection]));
  }

  /** Listens; rejects when the address is not to be had. */
  start({ host, port }: { host: string; port: number }): Promise<void> {
    const shownHost = host.includes(':') ? `[${host}]` : host;
    return new Promise((resolve, reject) => {
      this.#server.bindAsync(`${shownHost}:${port}`, ServerCredentials.createInsecure(), (error, realPort) => {
        if (error) return reject(error);
        this.#address = `${shownHost}:${realPort}`;
        resolve();
      });
    });
  }

  /** Where the door listens, as host:port. */
  get address(): string {
    return this.#address;
  }

  /** Tells clients to go, lets calls end, and cuts what is left after `deadlineMs`; idempotent. */
  stop(deadlineMs: number): Promise<void> {
    this.#stopping ??= new Promise((resolve) => {
      const cut = this.#clock.schedule(deadlineMs, () => this.#server.forceShutdown());
      this.#server.tryShutdown(() => {
        cut.cancel();
        resolve();
      });
    });
    return this.#stopping;
  }
}
