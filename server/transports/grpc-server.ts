/**
 * The gRPC door: the services of the contract, health and reflection.
 *
 * It accepts connections itself and hands them to grpc-js, which neither bounds their number nor ends one whose client
 * does not take part in ending it.
 */
import { setMaxListeners } from 'node:events';
import { createServer, type AddressInfo, type Server as Listener, type Socket } from 'node:net';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { Health } from '../../proto/gen/grpc/health/v1/health_pb.js';
import { ServerReflection } from '../../proto/gen/grpc/reflection/v1/reflection_pb.js';
import type { DescService } from '@bufbuild/protobuf';
import type { ServiceImpl } from '@connectrpc/connect';
import type { Authenticator } from '../domain/authenticator.js';
import type { Clock, Timer } from '../domain/clock.js';
import { TaskDashError } from '../domain/errors.js';
import type { Log } from '../domain/ports.js';
import { ConnectionGate } from './connection-gate.js';
import { addService, type CallHost } from './grpc-bridge.js';
import { refuseUnknownCalls, describeEveryStatus } from './grpc-described.js';
import { FloodGuard } from './grpc-floods.js';
import { createGrpcIntake } from './grpc-intake.js';
import { createHealth } from './grpc-health.js';
import { createReflection } from './grpc-reflection.js';
import { StrangerPortions } from './grpc-strangers.js';
import type { Readiness } from './readiness.js';
import type { Gate, ReadingTurns } from './reading-turns.js';
import type { Arrivals } from './rpc/arrivals.js';
import { describeError } from './rpc/errors.js';
import { ACCEPT_BACKLOG, MAX_CONNECTIONS, MAX_HEADER_BYTES, type RpcLimits } from './rpc/limits.js';
import type { RpcService } from './rpc/services.js';
import type { Unsent } from './rpc/unsent.js';

/** What the door works with. */
export interface GrpcServerOptions {
  readonly services: readonly RpcService[];
  readonly auth: Pick<Authenticator, 'authenticate'>;
  readonly readiness: Readiness;
  readonly clock: Clock;
  readonly limits: RpcLimits;
  readonly arrivals: Arrivals;
  readonly unsent: Unsent;
  readonly turns: ReadingTurns;
  readonly log: Log;
  /** Connections beyond are closed at once. */
  readonly maxConnections?: number;
}

/** What reflection was called before, with the same messages; grpc_cli and older tools ask for nothing else. */
const FORMER_REFLECTION = 'grpc.reflection.v1alpha.ServerReflection';
const KEEP_ALIVE_MS = 30_000;
const KEEP_ALIVE_TIMEOUT_MS = 10_000;
/** Each takes a third of a millisecond to begin, and all of a connection may begin in one turn of the event loop. */
const MAX_STREAMS_PER_CONNECTION = 128;
/** How long clients may keep connections open while the server stops and has answered everything. */
const LINGER_MS = 500;

export class GrpcServer {
  readonly #server: Server;
  readonly #listener: Listener;
  readonly #beginInTurns: () => void;
  readonly #sockets = new Set<Socket>();
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #shutdown = new AbortController();
  #address = '';
  #openCalls = 0;
  #onAnswered: () => void = () => {};
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;

  constructor(options: GrpcServerOptions) {
    const { services, readiness, clock, log, limits, turns, unsent, maxConnections = MAX_CONNECTIONS } = options;
    this.#log = log;
    this.#clock = clock;
    // Every call listens for the stop; Node warns of more than ten as of a leak.
    setMaxListeners(Infinity, this.#shutdown.signal);
    const floods = new FloodGuard(clock, log);
    const onWork = (peer: string) => turns.onWork(floods.socketOf(peer));
    this.#server = new Server({
      'grpc.max_receive_message_length': limits.maxMessageBytes,
      'grpc.max_send_message_length': limits.maxMessageBytes,
      'grpc.keepalive_time_ms': KEEP_ALIVE_MS,
      'grpc.keepalive_timeout_ms': KEEP_ALIVE_TIMEOUT_MS,
      'grpc.max_concurrent_streams': MAX_STREAMS_PER_CONNECTION,
      interceptors: [describeEveryStatus(log), createGrpcIntake({ ...options, floods, onWork })],
    });
    boundHeaders(this.#server);
    refuseUnknownCalls(this.#server, log);
    const contract = services.map(({ service }) => service);
    const names = contract.map(({ typeName }) => typeName);
    const host: CallHost = {
      shutdown: this.#shutdown.signal,
      unsent,
      log,
      onCall: (change) => this.#count(change),
      onRefusedStream: (peer) => floods.onRefusedStream(peer),
    };
    const mount = <S extends DescService>(service: S, implementation: ServiceImpl<S>, name?: string) =>
      addService(this.#server, service, implementation, host, name);
    for (const { service, implementation } of services) mount(service, implementation);
    const portions = new StrangerPortions(clock);
    mount(Health, createHealth(names, readiness, clock, portions));
    const reflection = createReflection([...contract, Health, ServerReflection], portions);
    for (const name of [ServerReflection.typeName, FORMER_REFLECTION]) mount(ServerReflection, reflection, name);
    const injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
    this.#listener = createServer((socket) => {
      floods.watch(socket);
      this.#sockets.add(socket);
      socket.on('error', (error) => this.#log.debug({ err: error }, 'a gRPC connection was lost'));
      socket.once('close', () => this.#sockets.delete(socket));
      injector.injectConnection(socket);
    });
    const counted = new ConnectionGate({ together: maxConnections, network: Math.ceil(maxConnections / 2) });
    const gate: Gate = {
      admits: (address) => floods.admits(address) && counted.admits(address),
      onClosed: (address) => counted.onClosed(address),
    };
    this.#beginInTurns = () => turns.begin(this.#listener, gate, { isHttp2: true });
  }

  /** Listens; rejects when the address is not to be had; idempotent. */
  start({ host, port }: { host: string; port: number }): Promise<void> {
    this.#starting ??= new Promise((resolve, reject) => {
      this.#listener.once('error', reject);
      this.#listener.listen({ port, host, backlog: ACCEPT_BACKLOG }, () => {
        this.#listener.off('error', reject);
        this.#listener.on('error', (error) =>
          this.#log.error({ err: error }, 'the gRPC door cannot accept connections'),
        );
        this.#beginInTurns();
        const { family, address, port: realPort } = this.#listener.address() as AddressInfo;
        this.#address = `${family === 'IPv6' ? `[${address}]` : address}:${realPort}`;
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
    this.#stopping ??= this.#stop(deadlineMs);
    return this.#stopping;
  }

  async #stop(deadlineMs: number): Promise<void> {
    const cut = this.#clock.schedule(deadlineMs, () => this.#cut());
    let lingering: Timer | undefined;
    const unbound = new Promise<void>((resolve) => this.#listener.close(() => resolve()));
    const ended = new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve()));
    // Some clients never end their side of a stream, or of the connection, whatever they are told.
    this.#onAnswered = () => (lingering ??= this.#clock.schedule(LINGER_MS, () => this.#cut()));
    // After the goodbye of the connections, so that nobody tries again on one of them.
    this.#shutdown.abort(describeError(new TaskDashError('STOPPING')));
    this.#count(0);
    await Promise.all([unbound, ended]);
    cut.cancel();
    lingering?.cancel();
  }

  /** grpc-js would wait for clients to close, also when it is told not to. */
  #cut(): void {
    this.#server.forceShutdown();
    for (const socket of this.#sockets) socket.destroy();
  }

  #count(change: 1 | 0 | -1): void {
    this.#openCalls += change;
    if (this.#openCalls === 0) this.#onAnswered();
  }
}

/** What grpc-js shows to nobody and has no option for; a test notices when it no longer heeds it. */
interface Inside {
  readonly commonServerOptions: { readonly settings: { maxHeaderListSize?: number } };
}

/** Clients are told how long headers may be; HTTP/2 refuses longer ones once the client has confirmed that it knows. */
function boundHeaders(server: Server): void {
  const { settings } = (server as unknown as Inside).commonServerOptions;
  settings.maxHeaderListSize = MAX_HEADER_BYTES;
}
