/**
 * Load on the legacy door, in a process of its own: some connections, each with some requests always under way. Ids are
 * distinct within a run. Prints one JSON line with what it counted.
 */
import { connect, type Socket } from 'node:net';

/** What to do; the only argument, as JSON. */
export interface TcpxLoad {
  readonly address: string;
  readonly verb: 'Register' | 'Update' | 'Find';
  readonly connections: number;
  /** Requests of one connection under way at once. */
  readonly depth: number;
  readonly durationMs: number;
  /** Ids are `<prefix>-<connection>-<number>`. */
  readonly prefix: string;
  /** How many ids a connection goes through before it begins again; registers never begin again. */
  readonly idsPerConnection: number;
}

/** What came of it; times in milliseconds. */
export interface LoadResult {
  readonly operations: number;
  readonly errors: number;
  readonly elapsedMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

const HEAD = 16;
const OK = Buffer.from('"errid":0');

function frame(verb: string, body: object): Buffer {
  const header = Buffer.from(`{"RequestID":"${verb}"}`);
  const bytes = Buffer.from(JSON.stringify(body));
  const head = Buffer.alloc(HEAD);
  head.writeUInt32BE(12 + header.length + bytes.length, 0);
  head.writeInt32BE(2, 4);
  head.writeUInt32BE(header.length, 8);
  head.writeUInt32BE(bytes.length, 12);
  return Buffer.concat([head, header, bytes]);
}

function requestOf(load: TcpxLoad, connection: number, number: number): Buffer {
  const id = `${load.prefix}-${connection}-${load.verb === 'Register' ? number : number % load.idsPerConnection}`;
  if (load.verb === 'Find') return frame('Find', { id });
  return frame(load.verb, {
    ...{ id, name: 'nightly-export', url: 'http://localhost:8080/v1/task', user: 'wsg', group_id: 'mx' },
    ...{ description: 'add data', status: load.verb === 'Update' ? 'restart' : 'running' },
    ...{ start_time: '2020-07-01 12:00:00', stop_time: '' },
  });
}

class Client {
  operations = 0;
  errors = 0;
  readonly latenciesMs: number[] = [];
  readonly #sentAt: number[] = [];
  #next = 0;
  #rest: Buffer = Buffer.alloc(0);
  #ended = false;
  #done: () => void = () => {};

  constructor(
    private readonly load: TcpxLoad,
    private readonly index: number,
    private readonly socket: Socket,
  ) {}

  run(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#done = resolve;
      this.socket.on('data', (chunk: Buffer) => this.#read(chunk));
      this.socket.on('error', reject);
      this.#send(this.load.depth);
    });
  }

  /** Sends nothing more; `run` resolves when all answers are there. */
  finish(): void {
    this.#ended = true;
  }

  #send(count: number): void {
    const frames = Array.from({ length: count }, () => requestOf(this.load, this.index, this.#next++));
    const now = performance.now();
    for (let n = 0; n < count; n++) this.#sentAt.push(now);
    this.socket.write(Buffer.concat(frames));
  }

  #read(chunk: Buffer): void {
    const bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    let offset = 0;
    let answered = 0;
    while (bytes.length - offset >= 4 && bytes.length - offset >= 4 + bytes.readUInt32BE(offset)) {
      const end = offset + 4 + bytes.readUInt32BE(offset);
      if (bytes.indexOf(OK, offset) === -1 || bytes.indexOf(OK, offset) >= end) this.errors++;
      offset = end;
      answered++;
    }
    this.#rest = bytes.subarray(offset);
    const now = performance.now();
    for (const sentAt of this.#sentAt.splice(0, answered)) this.latenciesMs.push(now - sentAt);
    this.operations += answered;
    if (!this.#ended && answered > 0) this.#send(answered);
    else if (this.#ended && this.#sentAt.length === 0) this.#done();
  }
}

function open(address: string): Promise<Socket> {
  const colon = address.lastIndexOf(':');
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address.slice(0, colon), port: Number(address.slice(colon + 1)), noDelay: true });
    socket.once('connect', () => resolve(socket));
    socket.once('error', reject);
  });
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

async function run(load: TcpxLoad): Promise<LoadResult> {
  const sockets = await Promise.all(Array.from({ length: load.connections }, () => open(load.address)));
  const clients = sockets.map((socket, index) => new Client(load, index, socket));
  const startedMs = performance.now();
  setTimeout(() => clients.forEach((client) => client.finish()), load.durationMs);
  await Promise.all(clients.map((client) => client.run()));
  const elapsedMs = performance.now() - startedMs;
  for (const socket of sockets) socket.destroy();
  const sorted = Float64Array.from(clients.flatMap((client) => client.latenciesMs)).sort();
  const times = Array.from(sorted);
  return {
    operations: clients.reduce((sum, client) => sum + client.operations, 0),
    errors: clients.reduce((sum, client) => sum + client.errors, 0),
    elapsedMs,
    p50Ms: quantile(times, 0.5),
    p99Ms: quantile(times, 0.99),
  };
}

process.stdout.write(`${JSON.stringify(await run(JSON.parse(process.argv[2] ?? '{}') as TcpxLoad))}\n`);
