/**
 * A TCP proxy in front of a database that ends a connection right behind the message that says that it is ready, or refuses
 * it as the database would.
 */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** A running proxy. */
export interface FatalProxy {
  /** The database's URL, through the proxy. */
  readonly url: string;
  /** How many of the next connections are ended so. */
  end(connections: number): void;
  /** Refuses every new connection with this SQLSTATE, or none any more, and cuts those that are there. */
  refuse(sqlState: string | undefined): void;
  /** How many have been. */
  readonly ended: number;
  stop(): Promise<void>;
}

const READY_FOR_QUERY = Buffer.from('5a0000000549', 'hex');
const FATAL = errorResponse({
  S: 'FATAL',
  V: 'FATAL',
  C: '57P01',
  M: 'terminating connection due to administrator command',
});

/** Starts a proxy in front of a postgres:// URL. */
export async function startFatalProxy(targetUrl: string): Promise<FatalProxy> {
  const target = new URL(targetUrl);
  let toEnd = 0;
  let ended = 0;
  let refusal: Buffer | undefined;
  const open = new Set<Socket>();
  const server = createServer((inward) => {
    open.add(inward);
    if (refusal) return refuseOnce(inward, refusal);
    const outward = connect(Number(target.port), target.hostname);
    let isDoomed = toEnd > 0 && toEnd-- > 0;
    inward.pipe(outward);
    for (const socket of [inward, outward]) socket.on('error', () => socket.destroy());
    outward.on('close', () => inward.destroy());
    inward.on('close', () => {
      open.delete(inward);
      outward.destroy();
    });
    outward.on('data', (chunk) => {
      if (!isDoomed || !chunk.subarray(-6).equals(READY_FOR_QUERY)) return void inward.write(chunk);
      isDoomed = false;
      ended++;
      inward.end(Buffer.concat([chunk, FATAL]));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = new URL(targetUrl);
  url.hostname = '127.0.0.1';
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    end: (connections) => (toEnd = connections),
    refuse(sqlState) {
      refusal =
        sqlState === undefined
          ? undefined
          : errorResponse({ S: 'FATAL', V: 'FATAL', C: sqlState, M: `refused with ${sqlState}` });
      for (const socket of open) socket.destroy();
    },
    get ended() {
      return ended;
    },
    stop: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

/** Answers what a client begins with. */
function refuseOnce(socket: Socket, refusal: Buffer): void {
  socket.on('error', () => socket.destroy());
  socket.once('data', () => socket.end(refusal));
}

function errorResponse(fields: Readonly<Record<string, string>>): Buffer {
  const body = Buffer.from(
    `${Object.entries(fields)
      .map(([name, text]) => `${name}${text}\0`)
      .join('')}\0`,
  );
  const head = Buffer.alloc(5);
  head.write('E');
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}
