/** A TCP proxy in front of a database that a test turns into a black hole: connections stay open, nothing passes. */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** A running proxy. */
export interface StallingProxy {
  /** The database's URL, through the proxy. */
  readonly url: string;
  /** Swallows everything from now on, on connections that are open and on new ones. */
  stall(): void;
  /** Swallows what the database says from now on, while it still hears everything. */
  swallowAnswers(): void;
  /** Passes new connections on again; what was swallowed stays lost. */
  restore(): void;
  /** Cuts every connection that is open. */
  cut(): void;
  stop(): Promise<void>;
}

/** Starts a proxy in front of a postgres:// URL. */
export async function startStallingProxy(targetUrl: string): Promise<StallingProxy> {
  const target = new URL(targetUrl);
  const sockets = new Set<Socket>();
  let isStalled = false;
  let isDeaf = false;
  const server = createServer((inward) => {
    const outward = connect(Number(target.port), target.hostname);
    for (const socket of [inward, outward]) {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
    }
    pass(inward, outward, () => isStalled);
    pass(outward, inward, () => isStalled || isDeaf);
  });
  function pass(from: Socket, to: Socket, isSwallowed: () => boolean): void {
    let isLost = isSwallowed();
    from.on('data', (chunk) => {
      isLost ||= isSwallowed();
      if (!isLost) to.write(chunk);
    });
    from.on('close', () => {
      sockets.delete(from);
      to.destroy();
    });
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = new URL(targetUrl);
  url.hostname = '127.0.0.1';
  url.port = String((server.address() as AddressInfo).port);
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: url.href,
    stall: () => (isStalled = true),
    swallowAnswers: () => (isDeaf = true),
    restore: () => (isStalled = isDeaf = false),
    cut,
    stop() {
      cut();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
