/**
 * Load on the legacy door, in a process of its own: some connections, each with some requests always under way. Ids are
 * distinct within a run. Prints one JSON line with what it counted.
 *
 * It shares the machine with what it measures, so it works for a request as little as pgbench does for a statement:
 * frames are copies of one template with another number in the id, replies are told by their length and their last bytes.
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

const HEAD_BYTES = 16;
const LENGTH_BYTES = 4;
const SUCCESS = Buffer.from(',"errid":0,"errmsg":"正确"}');
const DIGITS = 8;
const ZERO = 48;

function frame(verb: string, body: object): Buffer {
  const header = Buffer.from(`{"RequestID":"${verb}"}`);
  const bytes = Buffer.from(JSON.stringify(body));
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32BE(HEAD_BYTES - LENGTH_BYTES + header.length + bytes.length, 0);
  head.writeInt32BE(2, 4);
  head.writeUInt32BE(header.length, 8);
  head.writeUInt32BE(bytes.length, 12);
  return Buffer.concat([head, header, bytes]);
}

/** The requests of one connection. */
class Requests {
  readonly #template: Buffer;
  readonly #lastDigit: number;
  readonly #cycle: number;
  #next = 0;

  constructor(load: TcpxLoad, connection: number) {
    const id = `${load.prefix}-${connection}-${'0'.repeat(DIGITS)}`;
    const record = {
      ...{ id, name: 'nightly-export', url: 'http://localhost:8080/v1/task', user: 'wsg', group_id: 'mx' },
      ...{ description: 'add data', status: load.verb === 'Update' ? 'restart' : 'running' },
      ...{ start_time: '2020-07-01 12:00:00', stop_time: '' },
    };
    this.#template = frame(load.verb, load.verb === 'Find' ? { id } : record);
    this.#lastDigit = this.#template.indexOf(id) + id.length - 1;
    this.#cycle = load.verb === 'Register' ? Infinity : load.idsPerConnection;
  }

  /** The next requests, one behind the other. */
  take(count: number): Buffer {
    const size = this.#template.length;
    const bytes = Buffer.allocUnsafe(count * size);
    for (let n = 0; n < count; n++) {
      this.#template.copy(bytes, n * size);
      this.#number(bytes, n * size + this.#lastDigit);
    }
    return bytes;
  }

  #number(bytes: Buffer, lastDigit: number): void {
    let rest = this.#next++ % this.#cycle;
    for (let at = lastDigit; rest > 0; at--, rest = Math.floor(rest / 10)) bytes[at] = ZERO + (rest % 10);
  }
}

class Client {
  operations = 0;
  errors = 0;
  readonly latenciesMs: number[] = [];
  readonly #requests: Requests;
  /** When the requests under way were sent, as a ring: replies come in their order. */
  readonly #sentAtMs: Float64Array;
  #sent = 0;
  #rest: Buffer = Buffer.alloc(0);
  #ended = false;
  #done: () => void = () => {};

  constructor(
    private readonly load: TcpxLoad,
    index: number,
    private readonly socket: Socket,
  ) {
    this.#requests = new Requests(load, index);
    this.#sentAtMs = new Float64Array(load.depth);
  }

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
    const nowMs = performance.now();
    for (let n = 0; n < count; n++) this.#sentAtMs[this.#sent++ % this.load.depth] = nowMs;
    this.socket.write(this.#requests.take(count));
  }

  #read(chunk: Buffer): void {
    const bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    const nowMs = performance.now();
    let offset = 0;
    let answered = 0;
    while (bytes.length - offset >= LENGTH_BYTES) {
      const end = offset + LENGTH_BYTES + bytes.readUInt32BE(offset);
      if (end > bytes.length) break;
      if (bytes.compare(SUCCESS, 0, SUCCESS.length, end - SUCCESS.length, end) !== 0) this.errors++;
      this.latenciesMs.push(nowMs - (this.#sentAtMs[this.operations++ % this.load.depth] ?? 0));
      offset = end;
      answered++;
    }
    this.#rest = bytes.subarray(offset);
    if (!this.#ended && answered > 0) this.#send(answered);
    else if (this.#ended && this.operations === this.#sent) this.#done();
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

function quantile(sorted: Float64Array, share: number): number {
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
  const latenciesMs = Float64Array.from(clients.flatMap((client) => client.latenciesMs)).sort();
  return {
    operations: clients.reduce((sum, client) => sum + client.operations, 0),
    errors: clients.reduce((sum, client) => sum + client.errors, 0),
    elapsedMs,
    p50Ms: quantile(latenciesMs, 0.5),
    p99Ms: quantile(latenciesMs, 0.99),
  };
}

process.stdout.write(`${JSON.stringify(await run(JSON.parse(process.argv[2] ?? '{}') as TcpxLoad))}\n`);
