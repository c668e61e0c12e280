/**
 * Services on the legacy door, each with one connection and one task: they register, beat, come back when their
 * connection breaks, and note what was acknowledged.
 */
import { connect, type Socket } from 'node:net';
import { heartbeatFrame, readFrame, registerFrame, updateFrame } from '../support/tcpx-frames.js';
import { idOf, StandstillWatch, sum, untilSettled, type Fleet, type FleetPlan, type FleetStatus } from './fleet.js';

/** How a fleet on the legacy door is made. */
export interface TcpFleetPlan extends FleetPlan {
  readonly door: 'tcp';
  /** host:port of the servers. */
  readonly servers: readonly string[];
  readonly beatMs: number;
  /** Whether the services start at all servers, or all at the first; one goes on to the next when one fails. */
  readonly startAt: 'all' | 'first';
  /** What a service does after a reconnect: register again, or believe that it is still registered. */
  readonly onReturn: 'register' | 'beat';
  /** How many services in a row share an address in 127.0.0.0/8. */
  readonly sharing: number;
}

const RETRY_MIN_MS = 200;
const RETRY_MAX_MS = 1500;
const SLICES = 50;

export class TcpFleet implements Fleet {
  readonly #services: Service[];
  readonly #standstill = new StandstillWatch();
  #slice = 0;

  constructor(readonly plan: TcpFleetPlan) {
    this.#services = Array.from({ length: plan.count }, (_, i) => new Service(plan, plan.first + i));
    setInterval(() => this.#beatSlice(), plan.beatMs / SLICES);
  }

  async start(deadlineMs: number): Promise<void> {
    for (const service of this.#services) service.begin(Math.random() * this.plan.spreadMs);
    await this.settled(deadlineMs);
  }

  settled(deadlineMs: number): Promise<void> {
    const isSettled = () => !this.#services.some((service) => service.isExpected && !service.isSettled);
    return untilSettled(deadlineMs, isSettled, () => `${this.status().settled} of ${this.plan.count}`);
  }

  /** These fall silent; their connections stay. */
  silence(from: number, to: number): void {
    for (const service of this.#range(from, to)) service.isSilent = true;
  }

  /** These are gone for good, as by kill -9 of each. */
  die(from: number, to: number): void {
    for (const service of this.#range(from, to)) service.die();
  }

  /** All break their connections and come back, spread over a time. */
  comeBack(spreadMs: number): void {
    for (const service of this.#services) if (service.isExpected) service.comeBack(Math.random() * spreadMs);
  }

  /** All register what they have said before; they are settled when that is acknowledged. */
  registerAgain(): void {
    for (const service of this.#services) if (service.isExpected) service.registerAgain();
  }

  status(): FleetStatus {
    const registered = this.#services.filter(({ writes }) => writes > 0);
    const gone = this.#services.filter(({ isExpected }) => !isExpected);
    return {
      settled: this.#services.filter(({ isExpected, isSettled }) => isExpected && isSettled).length,
      reconnects: sum(this.#services.map(({ reconnects }) => reconnects)),
      writes: sum(this.#services.map(({ writes }) => writes)),
      acknowledged: Object.fromEntries(registered.map(({ id, acknowledged }) => [id, acknowledged])),
      silentSince: Object.fromEntries(gone.map(({ id, lastSentAt }) => [id, lastSentAt])),
      stoodStillMs: this.#standstill.longestMs,
    };
  }

  #range(from: number, to: number): Service[] {
    return this.#services.filter(({ number }) => number >= from && number < to);
  }

  /** Beats are spread over the interval, as those of real fleets are. */
  #beatSlice(): void {
    this.#slice = (this.#slice + 1) % SLICES;
    for (const service of this.#services) if (service.number % SLICES === this.#slice) service.beat();
  }
}

const HEARTBEAT = heartbeatFrame();

class Service {
  readonly id: string;
  isSilent = false;
  isDead = false;
  isSettled = false;
  reconnects = 0;
  writes = 0;
  acknowledged = 0;
  lastSentAt = 0;
  #socket: Socket | undefined;
  #isConnected = false;
  #server: number;
  #retryMs = RETRY_MIN_MS;
  #rest: Buffer = Buffer.alloc(0);
  #count = 0;
  #waitsFor: 'register' | 'update' | undefined;

  constructor(
    private readonly plan: TcpFleetPlan,
    readonly number: number,
  ) {
    this.id = idOf(number);
    this.#server = plan.startAt === 'first' ? 0 : number % plan.servers.length;
  }

  get isExpected(): boolean {
    return !this.isDead && !this.isSilent;
  }

  get #works(): boolean {
    return this.number % this.plan.workEvery === 0;
  }

  begin(delayMs: number): void {
    setTimeout(() => this.#connect(), delayMs);
  }

  beat(): void {
    if (this.#isConnected && !this.isSilent) this.#write(HEARTBEAT);
  }

  die(): void {
    this.isDead = true;
    this.#socket?.destroy();
  }

  comeBack(delayMs: number): void {
    setTimeout(() => this.#socket?.destroy(), delayMs);
  }

  registerAgain(): void {
    if (!this.#isConnected) throw new Error(`${this.id} is not connected`);
    this.isSettled = false;
    this.#send('register');
  }

  #connect(): void {
    if (this.isDead) return;
    const server = this.plan.servers[this.#server] ?? '';
    const colon = server.lastIndexOf(':');
    const localAddress = addressOf(Math.floor(this.number / this.plan.sharing));
    const socket = connect({ host: server.slice(0, colon), port: Number(server.slice(colon + 1)), localAddress });
    this.#socket = socket;
    this.#rest = Buffer.alloc(0);
    this.#waitsFor = undefined;
    socket.on('connect', () => this.#onConnected());
    socket.on('data', (chunk) => this.#onData(chunk));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#onClosed());
  }

  #onConnected(): void {
    this.#isConnected = true;
    this.#retryMs = RETRY_MIN_MS;
    if (this.isSilent) return;
    this.#write(HEARTBEAT);
    if (this.writes === 0 || this.plan.onReturn === 'register') return this.#send('register');
    this.isSettled = true;
    if (this.#works) this.#report();
  }

  #write(bytes: Buffer): void {
    this.lastSentAt = Date.now();
    this.#socket?.write(bytes);
  }

  #send(what: 'register' | 'update'): void {
    const task = { id: this.id, name: 'fleet', user: 'ssx', group_id: 'mx', description: String(this.#count) };
    this.#waitsFor = what;
    this.#write(what === 'register' ? registerFrame({ ...task, status: 'running' }) : updateFrame(task));
  }

  #report(): void {
    if (!this.isExpected || !this.isSettled || this.#waitsFor) return;
    this.#count++;
    this.#send('update');
  }

  #onData(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    for (let read = readFrame(this.#rest); read; read = readFrame(this.#rest)) {
      this.#rest = this.#rest.subarray(read.size);
      this.#onReply((JSON.parse(read.frame.body) as { errid: number }).errid);
    }
  }

  #onReply(errid: number): void {
    const answered = this.#waitsFor;
    this.#waitsFor = undefined;
    if (errid === 0) {
      this.acknowledged = this.#count;
      this.writes++;
      this.isSettled = true;
    } else if (answered === 'register') {
      setTimeout(() => this.#isConnected && this.isExpected && !this.#waitsFor && this.#send('register'), RETRY_MIN_MS);
      return;
    }
    if (this.#works) setTimeout(() => this.#report(), this.plan.workPauseMs);
  }

  #onClosed(): void {
    this.#isConnected = false;
    this.isSettled = false;
    if (!this.isExpected) return;
    this.reconnects++;
    this.#server = (this.#server + 1) % this.plan.servers.length;
    setTimeout(() => this.#connect(), this.#retryMs * (0.5 + Math.random()));
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
  }
}

/** 127.1.0.0 and on. */
export function addressOf(number: number): string {
  return `127.${1 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
}
