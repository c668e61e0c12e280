/**
 * The HTTP door: Connect, gRPC-Web and plain JSON over HTTP/1.1, with the page and the addresses of operators on the same
 * port.
 */
import { setMaxListeners } from 'node:events';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { SecureContextOptions } from 'node:tls';
import { createContextValues } from '@connectrpc/connect';
import { errorToJsonBytes } from '@connectrpc/connect/protocol-connect';
import type { Authenticator } from '../domain/authenticator.js';
import type { Clock } from '../domain/clock.js';
import { TaskDashError } from '../domain/errors.js';
import type { Log } from '../domain/ports.js';
import { allowedHosts, type HostCheck } from './allowed-hosts.js';
import { allowOnly, forwardedAddress, plainAddress } from './client-address.js';
import { createConnectCalls, type Handler } from './connect-calls.js';
import { ConnectionGate } from './connection-gate.js';
import { nameOf } from './connection-name.js';
import { HttpConnections } from './connect-connections.js';
import { HttpEnding } from './connect-ending.js';
import { feedInPieces } from './connect-pieces.js';
import { Kept } from './kept.js';
import type { Readiness } from './readiness.js';
import type { Gate, ReadingTurns } from './reading-turns.js';
import type { Arrivals } from './rpc/arrivals.js';
import { describeError } from './rpc/errors.js';
import { callerKey, credentialsIn, hangUpKey, type Caller } from './rpc/guard.js';
import {
  ACCEPT_BACKLOG,
  CALLS_A_TURN,
  MAX_CONNECTIONS,
  MAX_HEADERS,
  MAX_HTTP_CONNECTIONS,
  MAX_REFUSED_MS,
  MAX_STRANGER_BYTES,
  MAX_TIMEOUT_MS,
  QUICK_A_TURN,
  type RpcLimits,
} from './rpc/limits.js';
import type { RpcService } from './rpc/services.js';
import { TurnQueue } from './rpc/turn-queue.js';
import type { Unsent } from './rpc/unsent.js';
import { createPageHandler, plain, type PageHandler } from './static-files.js';

/** What the door works with. */
export interface HttpServerOptions {
  readonly services: readonly RpcService[];
  readonly auth: Pick<Authenticator, 'authenticate'>;
  readonly readiness: Readiness;
  readonly metrics: () => Promise<{ contentType: string; body: string }>;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: RpcLimits;
  readonly arrivals: Arrivals;
  readonly unsent: Unsent;
  readonly turns: ReadingTurns;
  /** Connections beyond are closed at once. */
  readonly maxConnections?: number;
  /** The folder of the page's build. */
  readonly pageFolder: string;
  /** The certificate and its key; absent: plain HTTP. */
  readonly tls?: Pick<SecureContextOptions, 'cert' | 'key'>;
  /** By which URLs people reach the server, beside where it listens; absent: none. */
  readonly publicUrls?: readonly string[];
  /** Addresses and ranges of proxies whose X-Forwarded-For is believed; absent: none. */
  readonly trustedProxies?: readonly string[];
}

const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
const KEEP_ALIVE_TIMEOUT_MS = 60_000;
/** How often connections that are late with their request are looked for. */
const LATE_CHECK_MS = 5_000;

/** No code, style, frame or request that is not ours; no guessing of types. */
const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  'X-Frame-Options': 'DENY',
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Permissions-Policy': 'camera=(), geolocation=(), microphone=()',
  // Answers belong to whoever asked; only the files of the page say otherwise.
  'Cache-Control': 'no-store',
};
/** Calls may be streams: no proxy is to hold back what it has of them, or to pack it. */
const PASSED_AT_ONCE = [
  ['X-Accel-Buffering', 'no'],
  ['Cache-Control', 'no-store, no-transform'],
] as const;
const TOO_MANY_HEADERS = `The request has more than ${MAX_HEADERS.count} headers, as many as it may have; send fewer.`;
const STRICT_TRANSPORT = 'max-age=31536000';

export class HttpServer {
  readonly #server: Server;
  readonly #page: PageHandler;
  readonly #isProxy: (address: string) => boolean;
  readonly #publicOrigins: readonly string[];
  #answersFor: HostCheck = () => false;
  /** For callers whose credentials have been judged. */
  readonly #rpc: Handler;
  /** For what is small in any case, and for strangers. */
  readonly #smallRpc: Handler;
  readonly #turns = new TurnQueue(CALLS_A_TURN);
  /** For what operators ask, and what is refused unread: no call may keep them waiting. */
  readonly #quickTurns = new TurnQueue(QUICK_A_TURN);
  readonly #metrics: Kept<{ contentType: string; body: string }>;
  readonly #connections = new HttpConnections();
  readonly #ending: HttpEnding;
  readonly #shutdown = new AbortController();
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;

  constructor(private readonly options: HttpServerOptions) {
    this.#page = createPageHandler(options.pageFolder);
    this.#isProxy = options.trustedProxies?.length ? allowOnly(options.trustedProxies) : () => false;
    this.#publicOrigins = originsIn(options.publicUrls ?? []);
    this.#metrics = new Kept(options.metrics, options.clock);
    const { maxMessageBytes } = options.limits;
    this.#rpc = this.#adapter(maxMessageBytes);
    this.#smallRpc = this.#adapter(Math.min(maxMessageBytes, MAX_STRANGER_BYTES));
    // Every call listens for the stop; Node warns of more than ten as of a leak.
    setMaxListeners(Infinity, this.#shutdown.signal);
    this.#server = createListener(options.tls, (request, response) =>
      this.#guard(request, response, () => this.#begin(request, response)),
    );
    // The word to go on is given where the body is wanted; whoever expects anything else is answered as ever.
    for (const event of ['checkContinue', 'checkExpectation']) {
      this.#server.on(event, (request: IncomingMessage, response: ServerResponse) =>
        this.#guard(request, response, () => this.#begin(request, response)),
      );
    }
    const [server, connections] = [this.#server, this.#connections];
    this.#ending = new HttpEnding({ server, connections, turns: options.turns, clock: options.clock });
    this.#server.maxHeadersCount = MAX_HEADERS.count + 1;
    this.#server.prependListener('connection', (socket) => this.#connections.onOpen(socket));
    // Where Node's parser has begun to listen to what comes.
    this.#server.on(options.tls ? 'secureConnection' : 'connection', (socket: Socket) =>
      feedInPieces(socket, options.turns),
    );
  }

  #adapter(readMaxBytes: number): Handler {
    const { options } = this;
    return createConnectCalls({
      services: options.services,
      fallback: this.#page,
      contextValues: (request) =>
        createContextValues()
          .set(callerKey, this.#callerOf(request))
          // The connection is the call's alone while it lasts.
          .set(hangUpKey, () => request.socket.destroy()),
      readMaxBytes,
      writeMaxBytes: options.limits.maxMessageBytes,
      maxTimeoutMs: MAX_TIMEOUT_MS,
      shutdownSignal: this.#shutdown.signal,
      arrivals: options.arrivals,
      unsent: options.unsent,
      log: options.log,
    });
  }

  /** Listens; rejects when the address is not to be had; idempotent. */
  start({ host, port }: { host: string; port: number }): Promise<void> {
    this.#answersFor = allowedHosts(host, this.options.publicUrls ?? []);
    this.#starting ??= new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ port, host, backlog: ACCEPT_BACKLOG }, () => {
        this.#server.off('error', reject);
        this.#server.on('error', (error) =>
          this.options.log.error({ err: error }, 'the HTTP door cannot accept connections'),
        );
        this.options.turns.begin(this.#server, this.#gate());
        resolve();
      });
    });
    return this.#starting;
  }

  #gate(): Gate {
    const { maxConnections: together = MAX_CONNECTIONS } = this.options;
    const gate = new ConnectionGate({ together, network: MAX_HTTP_CONNECTIONS, isProxy: this.#isProxy });
    return this.#ending.counting(gate);
  }

  /** Where the door listens, as a URL; empty while it does not. */
  get address(): string {
    const bound = this.#server.address() as AddressInfo | null;
    if (!bound) return '';
    const host = bound.family === 'IPv6' ? `[${bound.address}]` : bound.address;
    return `${this.options.tls ? 'https' : 'http'}://${host}:${bound.port}`;
  }

  /**
   * Ends streams with STOPPING, answers what was asked before, and waits a moment for requests that are arriving; cuts what is
   * left after `deadlineMs`. Idempotent.
   */
  stop(deadlineMs: number): Promise<void> {
    this.#stopping ??= this.#stop(deadlineMs);
    return this.#stopping;
  }

  async #stop(deadlineMs: number): Promise<void> {
    this.#shutdown.abort(describeError(new TaskDashError('STOPPING')));
    if (this.#server.listening) await this.#ending.end(deadlineMs);
  }

  /** Keeps a defect in answering one request from ending the server. */
  #guard(request: IncomingMessage, response: ServerResponse, work: () => void): void {
    try {
      work();
    } catch (defect) {
      this.#failed(defect, request, response);
    }
  }

  #failed(defect: unknown, request: IncomingMessage, response: ServerResponse): void {
    this.options.log.error({ err: defect, method: request.method }, 'a request failed by a defect');
    if (response.headersSent) response.destroy();
    else plain(response, 500, 'Something went wrong on the server; the log says what.');
  }

  #begin(request: IncomingMessage, response: ServerResponse): void {
    if (!this.#connections.takes(request, response)) return;
    response.once('finish', () => this.#endLate(request));
    takeTarget(request);
    this.#answer(request, response);
  }

  /** A request that is answered before it has arrived would be kept for as long as it arrives. */
  #endLate(request: IncomingMessage): void {
    if (request.complete) return;
    const cut = this.options.clock.schedule(MAX_REFUSED_MS, () => request.socket.destroy());
    request.once('close', () => cut.cancel());
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    for (const [name, value] of Object.entries(SECURITY_HEADERS)) response.setHeader(name, value);
    if (this.options.tls) response.setHeader('Strict-Transport-Security', STRICT_TRANSPORT);
    // A connection whose last answer went out while the door closes would wait for its keep-alive to end.
    response.once('close', () => this.#ending.look());
    response.once('close', () => leaveNothingWaiting(response));
    const path = request.url?.split('?', 1)[0]?.replace(/(?<=.)\/$/, '');
    const quick = this.#quickAnswer(path, request);
    // Whoever waits for a word before they send the body may send it or not, once they are refused.
    if (quick && expectsWord(request)) response.setHeader('Connection', 'close');
    if (quick) return this.#quickTurns.enter(() => void (response.destroyed || quick(response)));
    if (request.method === 'POST') for (const [name, value] of PASSED_AT_ONCE) response.setHeader(name, value);
    this.#turns.enter(() => this.#guard(request, response, () => this.#call(request, response)));
  }

  /** How to answer what is no call and no page. */
  #quickAnswer(path: string | undefined, request: IncomingMessage): ((response: ServerResponse) => void) | undefined {
    // Before everything else: load balancers ask these without naming a host.
    if (path === '/healthz') return (response) => plain(response, 200, 'ok');
    if (path === '/readyz') return (response) => void this.#ready(response);
    if (path === '/metrics') return (response) => void this.#tellMetrics(response);
    if (request.rawHeaders.length > 2 * MAX_HEADERS.count) return (response) => plain(response, 431, TOO_MANY_HEADERS);
    if (hostsOf(request) > 1) return (response) => plain(response, 400, 'There is more than one Host header.');
    if (!namesHost(request)) return (response) => plain(response, 400, 'The Host header does not name a host.');
    if (!this.#isMeant(request)) return (response) => plain(response, 421, notMeant(request));
    return undefined;
  }

  #call(request: IncomingMessage, response: ServerResponse): void {
    if (isOver(response)) return;
    if (request.method !== 'POST' || isSmall(request)) return handOver(this.#smallRpc, request, response);
    this.#admit(request, response).catch((defect: unknown) => this.#failed(defect, request, response));
  }

  /** What a proxy of ours calls the server is the proxy's matter. */
  #isMeant({ headers, socket }: IncomingMessage): boolean {
    return this.#answersFor(headers.host ?? '') || this.#isProxy(plainAddress(socket.remoteAddress ?? ''));
  }

  /** Judges the credentials before a body is read that may be large. What is wrong with them the handler says better. */
  async #admit(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const credentials = credentialsIn((name) => request.headers[name]?.toString(), this.#callerOf(request));
    const isKnown = await this.options.auth.authenticate(credentials).then(
      (principal) => principal !== undefined,
      () => false,
    );
    if (isOver(response)) return;
    if (isKnown) return handOver(this.#rpc, request, response);
    if (Number(request.headers['content-length'] ?? 0) <= MAX_STRANGER_BYTES)
      return handOver(this.#smallRpc, request, response);
    const message = `Without valid credentials a request may have ${MAX_STRANGER_BYTES} bytes at most.`;
    response.writeHead(401, { 'content-type': 'application/json', connection: 'close' });
    const error = describeError(new TaskDashError('NOT_LOGGED_IN', { message }));
    response.end(errorToJsonBytes(error, undefined));
  }

  /** Whoever claims a proxy that speaks TLS and is not there only gets a cookie that browsers guard more strictly. */
  #callerOf({ socket, headers }: IncomingMessage): Caller {
    const forwardedFor = headers['x-forwarded-for']?.toString();
    const address = forwardedAddress(socket.remoteAddress ?? '', forwardedFor, this.#isProxy);
    const isEncrypted = 'encrypted' in socket || headers['x-forwarded-proto'] === 'https';
    const connection = nameOf(socket);
    return { door: 'http', address, connection, isEncrypted, origins: this.#originsOf(socket, headers) };
  }

  /** By which addresses browsers know this server: the public ones, and what a proxy of ours says that it was asked for. */
  #originsOf({ remoteAddress = '' }: Socket, headers: IncomingHttpHeaders): readonly string[] {
    const forwardedHost = this.#isProxy(plainAddress(remoteAddress))
      ? headers['x-forwarded-host']?.toString()
      : undefined;
    const forwarded = forwardedHost?.split(',').flatMap((host) => [`http://${host.trim()}`, `https://${host.trim()}`]);
    return forwarded ? [...this.#publicOrigins, ...originsIn(forwarded)] : this.#publicOrigins;
  }

  async #ready(response: ServerResponse): Promise<void> {
    const problem = await this.options.readiness.problem();
    plain(response, problem === undefined ? 200 : 503, problem === undefined ? 'ready' : `not ready: ${problem}`);
  }

  async #tellMetrics(response: ServerResponse): Promise<void> {
    try {
      const { contentType, body } = await this.#metrics.get();
      response.writeHead(200, { 'content-type': contentType, 'cache-control': 'no-store' });
      response.end(body);
    } catch (error) {
      this.options.log.error({ err: error }, 'the metrics could not be read');
      plain(response, 500, 'The metrics could not be read; the log says why.');
    }
  }
}

/** Whether there is nobody to be answered, or they have been. */
function isOver({ destroyed, writableEnded }: ServerResponse): boolean {
  return destroyed || writableEnded;
}

function handOver(handler: Handler, request: IncomingMessage, response: ServerResponse): void {
  if (expectsWord(request)) response.writeContinue();
  handler(request, response);
}

/** Whether the caller waits to be told that the body is wanted. */
function expectsWord({ headers }: IncomingMessage): boolean {
  return headers.expect?.toLowerCase() === '100-continue';
}

/** A request may name the host in its target, as to a proxy: then that one counts (RFC 9112, 3.2.2). */
function takeTarget(request: IncomingMessage): void {
  const [, host, path = ''] = /^https?:\/\/([^/?#]*)(.*)$/i.exec(request.url ?? '') ?? [];
  if (host === undefined) return;
  request.headers.host = host;
  request.url = path.startsWith('/') ? path : `/${path}`;
}

function originsIn(urls: readonly string[]): string[] {
  return urls.filter((url) => URL.canParse(url)).map((url) => new URL(url).origin);
}

function hostsOf({ rawHeaders }: IncomingMessage): number {
  return rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === 'host').length;
}

function createListener(tls: HttpServerOptions['tls'], handler: Handler): Server {
  const options: ServerOptions = {
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    maxHeaderSize: MAX_HEADERS.bytes,
    connectionsCheckingInterval: LATE_CHECK_MS,
    noDelay: true,
    // Answered here, with the headers of every answer.
    requireHostHeader: false,
  };
  return tls ? createTlsServer({ ...options, ...tls }, handler) : createServer(options, handler);
}

/** Connect waits for a reader to take more also when there is no connection any more: its stream would never end. */
function leaveNothingWaiting(response: ServerResponse): void {
  if (response.listenerCount('drain') > 0) response.emit('drain');
}

/** Whether the headers tell that the message cannot be larger than strangers may send. */
function isSmall({ headers }: IncomingMessage): boolean {
  const isPacked = ['content-encoding', 'connect-content-encoding', 'grpc-encoding'].some((name) => name in headers);
  return !isPacked && Number(headers['content-length'] ?? Infinity) <= MAX_STRANGER_BYTES;
}

function notMeant({ headers }: IncomingMessage): string {
  const host = JSON.stringify(headers.host ?? '');
  return `This server does not answer for the host ${host}. If people are to reach it by that name, set TASKDASH_PUBLIC_URL.`;
}

/** Whether the request has an address as a whole; connect-node throws out of reach where it has none. */
function namesHost({ headers, url }: IncomingMessage): boolean {
  return URL.canParse(url ?? '', `http://${headers.host ?? ''}`);
}
