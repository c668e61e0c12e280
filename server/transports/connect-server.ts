/**
 * The HTTP door: Connect, gRPC-Web and plain JSON over HTTP/1.1, with the page and the addresses of operators on the same
 * port.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createContextValues } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import type { Clock } from '../domain/clock.js';
import type { Log } from '../domain/ports.js';
import type { RpcLimits } from './grpc-server.js';
import type { Readiness } from './readiness.js';
import { callerKey } from './rpc/guard.js';
import type { RpcService } from './rpc/services.js';
import { createPageHandler, plain, type PageHandler } from './static-files.js';

/** What the door works with. */
export interface HttpServerOptions {
  readonly services: readonly RpcService[];
  readonly readiness: Readiness;
  readonly metrics: () => Promise<{ contentType: string; body: string }>;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: RpcLimits;
  /** The folder of the page's build. */
  readonly pageFolder: string;
}

const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
const KEEP_ALIVE_TIMEOUT_MS = 60_000;
const MAX_CONNECTIONS = 20_000;

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
};

export class HttpServer {
  readonly #server: Server;
  readonly #page: PageHandler;
  #stopping: Promise<void> | undefined;

  constructor(private readonly options: HttpServerOptions) {
    this.#page = createPageHandler(options.pageFolder);
    const rpc = connectNodeAdapter({
      routes: (router) => {
        for (const { service, implementation } of options.services) router.service(service, implementation);
      },
      fallback: (request, response) => this.#fallback(request as IncomingMessage, response as ServerResponse),
      contextValues: (request) =>
        createContextValues().set(callerKey, { door: 'http', address: addressOf(request as IncomingMessage) }),
      readMaxBytes: options.limits.maxMessageBytes,
      writeMaxBytes: options.limits.maxMessageBytes,
      grpc: false,
    });
    this.#server = createServer(
      {
        headersTimeout: HEADERS_TIMEOUT_MS,
        requestTimeout: REQUEST_TIMEOUT_MS,
        keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
        noDelay: true,
      },
      (request, response) => {
        for (const [name, value] of Object.entries(SECURITY_HEADERS)) response.setHeader(name, value);
        rpc(request, response);
      },
    );
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Listens; rejects when the address is not to be had. */
  start({ host, port }: { host: string; port: number }): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host, () => {
        this.#server.off('error', reject);
        this.#server.on('error', (error) =>
          this.options.log.error({ err: error }, 'the HTTP door cannot accept connections'),
        );
        resolve();
      });
    });
  }

  /** Where the door listens, as a URL. */
  get address(): string {
    const { address, port, family } = this.#server.address() as AddressInfo;
    return family === 'IPv6' ? `http://[${address}]:${port}` : `http://${address}:${port}`;
  }

  /** Accepts nothing more, lets calls end, and cuts what is left after `deadlineMs`; idempotent. */
  stop(deadlineMs: number): Promise<void> {
    this.#stopping ??= new Promise((resolve) => {
      if (!this.#server.listening) return resolve();
      const cut = this.options.clock.schedule(deadlineMs, () => this.#server.closeAllConnections());
      this.#server.close(() => {
        cut.cancel();
        resolve();
      });
      this.#server.closeIdleConnections();
    });
    return this.#stopping;
  }

  #fallback(request: IncomingMessage, response: ServerResponse): void {
    const path = (request.url ?? '/').split('?', 1)[0];
    if (path === '/healthz') return plain(response, 200, 'ok');
    if (path === '/readyz') return void this.#ready(response);
    if (path === '/metrics') return void this.#metrics(response);
    this.#page(request, response);
  }

  async #ready(response: ServerResponse): Promise<void> {
    const problem = await this.options.readiness.problem();
    plain(response, problem === undefined ? 200 : 503, problem === undefined ? 'ready' : `not ready: ${problem}`);
  }

  async #metrics(response: ServerResponse): Promise<void> {
    try {
      const { contentType, body } = await this.options.metrics();
      response.writeHead(200, { 'content-type': contentType, 'cache-control': 'no-store' });
      response.end(body);
    } catch (error) {
      this.options.log.error({ err: error }, 'the metrics could not be read');
      plain(response, 500, 'The metrics could not be read; the log says why.');
    }
  }
}

function addressOf(request: IncomingMessage): string {
  return (request.socket.remoteAddress ?? '').replace(/^::ffff:(?=\d+\.)/, '');
}
