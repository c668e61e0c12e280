/**
 * A cable that a test can pull: a TCP proxy whose black hole swallows bytes without a word, as a network does that loses
 * every packet. No connection is closed by it; what was on its way goes on when the cable is mended. It can also break the
 * connections, with what was on its way lost or only late.
 */
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

interface Wire {
  readonly inward: Socket;
  readonly outward: Socket;
  /** What the client of a stranded connection had sent. */
  late: Buffer[] | undefined;
}

/** How long a stranded connection still takes what its client sends. */
const LAST_WORDS_MS = 50;

export class Cable {
  readonly #wires = new Set<Wire>();
  #swallows: (clientAddress: string) => boolean = () => false;

  private constructor(
    private readonly server: Server,
    private readonly target: () => string,
  ) {
    server.on('connection', (inward) => this.#lay(inward));
  }

  /** `target` is asked anew for each connection, and answers with host:port. */
  static async lay(target: () => string, host = '127.0.0.1'): Promise<Cable> {
    const server = createServer({ pauseOnConnect: true });
    const cable = new Cable(server, target);
    await new Promise<void>((resolve) => server.listen({ port: 0, host, backlog: 4096 }, resolve));
    return cable;
  }

  /** Where it listens, as host:port. */
  get at(): string {
    const { address, port } = this.server.address() as AddressInfo;
    return `${address}:${port}`;
  }

  /** Swallows what comes from, or goes to, clients whose addresses are named; new connections too. */
  pull(swallows: (clientAddress: string) => boolean = () => true): void {
    this.#swallows = swallows;
    for (const wire of this.#wires) if (swallows(wire.inward.remoteAddress ?? '')) pause(wire);
  }

  mend(): void {
    this.#swallows = () => false;
    for (const wire of this.#wires) resume(wire);
  }

  /** Breaks the connections that are open; new ones work. */
  cut(): void {
    for (const { inward, outward } of this.#wires) {
      inward.destroy();
      outward.destroy();
    }
  }

  /**
   * Breaks the connections that are open, and lets what their clients sent last arrive later: behind what they have sent on
   * new connections since.
   */
  strand(lateByMs: number): void {
    for (const wire of this.#wires) {
      if (wire.late) continue;
      wire.late = [];
      setTimeout(() => wire.inward.destroy(), LAST_WORDS_MS);
      setTimeout(() => deliver(wire), lateByMs);
    }
  }

  async remove(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }

  #lay(inward: Socket): void {
    const client = inward.remoteAddress ?? '';
    const [host = '', port = ''] = this.target().split(':');
    // A client's own loopback address goes along, so that the server tells clients apart as it would without us.
    const localAddress = client.startsWith('127.') ? { localAddress: client } : {};
    const outward = connect({ host, port: Number(port), ...localAddress });
    const wire: Wire = { inward, outward, late: undefined };
    this.#wires.add(wire);
    attend(inward, (chunk) => void (wire.late ? wire.late.push(chunk) : outward.write(chunk)));
    attend(outward, (chunk) => void inward.write(chunk));
    inward.on('close', () => wire.late ?? outward.destroy());
    outward.on('close', () => {
      inward.destroy();
      this.#wires.delete(wire);
    });
    if (this.#swallows(client)) pause(wire);
    else resume(wire);
  }
}

function attend(socket: Socket, onData: (chunk: Buffer) => void): void {
  socket.setNoDelay(true);
  socket.on('data', onData);
  socket.on('error', () => socket.destroy());
}

function deliver({ outward, late = [] }: Wire): void {
  for (const chunk of late) outward.write(chunk);
  outward.end();
}

function pause({ inward, outward }: Wire): void {
  inward.pause();
  outward.pause();
}

function resume({ inward, outward }: Wire): void {
  inward.resume();
  outward.resume();
}
