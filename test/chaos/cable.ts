/**
 * A cable that a test can pull: a TCP proxy whose black hole swallows bytes without a word, as a network does that loses
 * every packet. No connection is closed by it; what was on its way goes on when the cable is mended.
 */
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

interface Wire {
  readonly inward: Socket;
  readonly outward: Socket;
}

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

  async remove(): Promise<void> {
    for (const { inward, outward } of this.#wires) {
      inward.destroy();
      outward.destroy();
    }
    await new Promise((resolve) => this.server.close(resolve));
  }

  #lay(inward: Socket): void {
    const client = inward.remoteAddress ?? '';
    const [host = '', port = ''] = this.target().split(':');
    // A client's own loopback address goes along, so that the server tells clients apart as it would without us.
    const localAddress = client.startsWith('127.') ? { localAddress: client } : {};
    const outward = connect({ host, port: Number(port), ...localAddress });
    const wire = { inward, outward };
    this.#wires.add(wire);
    join(inward, outward);
    join(outward, inward);
    inward.on('close', () => this.#wires.delete(wire));
    if (this.#swallows(client)) pause(wire);
    else resume(wire);
  }
}

function join(from: Socket, to: Socket): void {
  from.setNoDelay(true);
  from.on('data', (chunk) => to.write(chunk));
  from.on('error', () => from.destroy());
  from.on('close', () => to.destroy());
}

function pause({ inward, outward }: Wire): void {
  inward.pause();
  outward.pause();
}

function resume({ inward, outward }: Wire): void {
  inward.resume();
  outward.resume();
}
