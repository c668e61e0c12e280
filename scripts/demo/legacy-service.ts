/** A service of the field: raw frames over TCP, heartbeats, and a new connection when the old one is lost. */
import { connect, type Socket } from 'node:net';

const HEARTBEAT_ID = 1392;
const REQUEST_ID = 2;
const HEARTBEAT_MS = 5_000;
const RECONNECT_MS = 2_000;

/** The record of a task as it travels. */
export interface TaskRecord {
  id: string;
  name: string;
  url: string;
  user: string;
  group_id: string;
  description: string;
  status: string;
  start_time: string;
  stop_time: string;
}

function frame(messageId: number, header: unknown, body: unknown): Buffer {
  const headerBytes = Buffer.from(JSON.stringify(header));
  const bodyBytes = body === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(body));
  const head = Buffer.alloc(16);
  head.writeUInt32BE(12 + headerBytes.length + bodyBytes.length, 0);
  head.writeInt32BE(messageId, 4);
  head.writeUInt32BE(headerBytes.length, 8);
  head.writeUInt32BE(bodyBytes.length, 12);
  return Buffer.concat([head, headerBytes, bodyBytes]);
}

export class LegacyService {
  readonly #host: string;
  readonly #port: number;
  readonly #tasks = new Map<string, TaskRecord>();
  #socket: Socket | undefined;
  #beat: NodeJS.Timeout | undefined;
  #stopped = false;
  #mute = false;

  constructor(address: string) {
    const colon = address.lastIndexOf(':');
    this.#host = address.slice(0, colon).replace(/^\[|\]$/g, '');
    this.#port = Number(address.slice(colon + 1));
  }

  /** Connects, and registers again whatever it has. */
  start(): void {
    if (this.#stopped) return;
    const socket = connect(this.#port, this.#host);
    this.#socket = socket;
    // Replies are only drained: the demo looks at the page, not at them.
    socket.resume();
    socket.on('error', () => socket.destroy());
    socket.on('connect', () => this.#tasks.forEach((task) => this.#send('Register', task)));
    socket.on('close', () => {
      clearInterval(this.#beat);
      if (!this.#stopped) setTimeout(() => this.start(), RECONNECT_MS);
    });
    this.#beat = setInterval(() => this.#mute || socket.write(frame(HEARTBEAT_ID, null, undefined)), HEARTBEAT_MS);
  }

  /** Registers a task, or registers it again. */
  register(task: TaskRecord): void {
    this.#tasks.set(task.id, task);
    this.#send('Register', task);
  }

  /** Reports what changed of a task. */
  update(id: string, changes: Partial<TaskRecord>): void {
    const task = this.#tasks.get(id);
    if (!task) return;
    Object.assign(task, changes);
    this.#send('Update', { id, ...changes });
  }

  get tasks(): readonly TaskRecord[] {
    return [...this.#tasks.values()];
  }

  /** Stops sending heartbeats for a while, as a service that hangs. */
  fallSilent(forMs: number): void {
    this.#mute = true;
    setTimeout(() => (this.#mute = false), forMs).unref();
  }

  /** Loses the connection, as a service that restarts. */
  restart(): void {
    this.#socket?.destroy();
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#beat);
    this.#socket?.destroy();
  }

  #send(request: string, body: object): void {
    if (this.#socket?.readyState === 'open') this.#socket.write(frame(REQUEST_ID, { RequestID: request }, body));
  }
}
