/** The way to TaskDash: a transport that sends the token with every call, over a connection that may be thrown away. */
import type { Transport } from '@connectrpc/connect';
import {
  createConnectTransport,
  createGrpcTransport,
  Http2SessionManager,
  type GrpcTransportOptions,
} from '@connectrpc/connect-node';
import { authorized } from './authorized-transport.js';

/** Where TaskDash is, and who asks. */
export interface ChannelOptions {
  /** The gRPC door, such as http://127.0.0.1:50051; https:// where something in front of it speaks TLS. */
  readonly url: string;
  /** A service token with the scope "register". */
  readonly token: string;
  /**
   * "grpc" by default. "connect" goes to the HTTP door instead, such as http://127.0.0.1:8080, over HTTP/1.1: where a
   * proxy on the way does not let HTTP/2 pass.
   */
  readonly protocol?: 'grpc' | 'connect';
  /** For https://, as for Node's own clients: an authority of one's own, a client's certificate. */
  readonly tls?: TlsOptions;
}

/** What may be set of TLS; PEM texts. */
export interface TlsOptions {
  readonly ca?: string | readonly string[];
  readonly cert?: string;
  readonly key?: string;
  readonly servername?: string;
}

export interface Channel {
  readonly transport: Transport;
  /** Throws the connection away; the next call opens another. */
  reset(): void;
}

/** An idle connection that may be dead is asked before it is used again. */
const PING = { pingIntervalMs: 5_000, pingTimeoutMs: 3_000 };

/** Throws TypeError for options that cannot be right. */
export function openChannel(options: ChannelOptions): Channel {
  requireUrl(options.url);
  requireToken(options.token);
  const { url, token, protocol = 'grpc', tls } = options;
  const nodeOptions = { ...tls } as NonNullable<GrpcTransportOptions['nodeOptions']>;
  if (protocol === 'connect') {
    const transport = createConnectTransport({ baseUrl: url, httpVersion: '1.1', nodeOptions: { ...tls } as object });
    return { transport: authorized(transport, token), reset: () => {} };
  }
  const sessionManager = new Http2SessionManager(url, PING, nodeOptions);
  const transport = createGrpcTransport({ baseUrl: url, sessionManager });
  return { transport: authorized(transport, token), reset: () => sessionManager.abort() };
}

function requireUrl(url: string): void {
  if (/^https?:\/\/[^/]/.test(url) && URL.canParse(url)) return;
  throw new TypeError(`url: ${JSON.stringify(url)} is not allowed; it must be http://host:port or https://host:port.`);
}

function requireToken(token: string): void {
  if (/^[\x21-\x7e]+$/.test(token)) return;
  throw new TypeError('token: it is missing or no token; `npx taskdash token create` makes one.');
}
