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
    private readonly target: () => { host: string; port: number },
  ) {
    server.on('connection', (inward) => this.#lay(inward));
  }

  /** `target` is asked anew for each connection. */
  static async lay(target: () => { host: string; port: number }): Promise<Cable> {
    const server = createServer({ pauseOnConnect: true });
    const cable = new Cable(server, target);
    await new Promise<void>((resolve) => server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, resolve));
    return cable;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
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
    // The client's own address goes along, so that the server tells clients apart as it would without us.
    const localAddress = inward.remoteAddress;
    const outward = connect({ ...this.target(), ...(localAddress && { localAddress }) });
    const wire = { inward, outward };
    this.#wires.add(wire);
    join(inward, outward);
    join(outward, inward);
    inward.on('close', () => this.#wires.delete(wire));
    if (this.#swallows(localAddress ?? '')) pause(wire);
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
