/** A plain TCP proxy that a test cuts: what a network does to a browser. */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** A running proxy. */
export interface CuttableProxy {
  /** Where the browser connects to, as a URL. */
  readonly url: string;
  /** Cuts every connection that is open now; new ones work. */
  cut(): void;
  /** Cuts every connection, and every new one at once, until `restore`. */
  goAway(): void;
  restore(): void;
  stop(): Promise<void>;
}

/** Starts a proxy in front of an http:// URL. */
export async function startCuttableProxy(target: string): Promise<CuttableProxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  let isAway = false;
  const server = createServer((inward) => {
    if (isAway) return void inward.destroy();
    const outward = connect(Number(port), hostname);
    for (const [socket, other] of [
      [inward, outward],
      [outward, inward],
    ] as const) {
      sockets.add(socket);
      socket.pipe(other);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    goAway() {
      isAway = true;
      cut();
    },
    restore() {
      isAway = false;
    },
    stop() {
      cut();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
