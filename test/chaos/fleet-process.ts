/** A fleet in a process of its own, so that servers, clients and tests do not share an event loop, nor a limit of files. */
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { spawnNode } from '../support/spawn-node.js';
import { idOf, type Fleet, type FleetStatus } from './fleet.js';
import { LeaseFleet, type LeaseFleetPlan } from './lease-fleet.js';
import { RoamingFleet, type RoamingFleetPlan } from './roaming-fleet.js';
import { TcpFleet, type TcpFleetPlan } from './tcp-fleet.js';

/** What a fleet in a process may be. */
export type FleetProcessPlan = TcpFleetPlan | LeaseFleetPlan | RoamingFleetPlan;
type Method = keyof TcpFleet;

interface Answer {
  readonly value?: unknown;
  readonly error?: string;
}

/** The fleet as the scenario drives it. */
export class FleetProcess {
  /** The tasks of services that are not to be kept alive: they fell silent, died, or were given up. */
  readonly gone = new Set<string>();
  #queue: Promise<unknown> = Promise.resolve();
  #last: FleetStatus | undefined;

  private constructor(
    private readonly child: ChildProcess,
    private readonly plan: FleetProcessPlan,
  ) {}

  /** Starts the process, by a wrapper if there is one; it ends with this process. */
  static async launch(plan: FleetProcessPlan, wrapper: readonly string[] = []): Promise<FleetProcess> {
    const args = ['--import', 'tsx', fileURLToPath(import.meta.url)];
    const env = { ...process.env, TASKDASH_FLEET: JSON.stringify(plan) };
    const child = spawnNode(args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], env }, wrapper);
    await new Promise<void>((resolve, reject) => {
      child.once('message', () => resolve());
      child.once('exit', (code) => reject(new Error(`the fleet ended with ${code}`)));
    });
    return new FleetProcess(child, plan);
  }

  get count(): number {
    return this.plan.count;
  }

  start = (deadlineMs: number) => this.#call('start', deadlineMs);
  settled = (deadlineMs: number) => this.#call('settled', deadlineMs);
  registerAgain = () => this.#call('registerAgain');
  comeBack = (spreadMs: number) => this.#call('comeBack', spreadMs);

  silence(from: number, to: number): Promise<unknown> {
    this.giveUp(from, to);
    return this.#call('silence', from, to);
  }

  die(from: number, to: number): Promise<unknown> {
    this.giveUp(from, to);
    return this.#call('die', from, to);
  }

  /** The network takes these away: from now on they are to be shut down. */
  giveUp(from: number, to: number): void {
    for (let number = from; number < to; number++) this.gone.add(idOf(number));
  }

  /** How it stands, or how it stood before it was frozen. */
  async status(): Promise<FleetStatus> {
    return this.#last ?? ((await this.#call('status')) as FleetStatus);
  }

  /** All services stand still, in the middle of whatever they do: nobody moves to another server before the `kill`. */
  async freeze(): Promise<void> {
    this.#last = await this.status();
    this.child.kill('SIGSTOP');
  }

  /** kill -9 of a frozen fleet: all services are gone. */
  async kill(): Promise<void> {
    this.giveUp(this.plan.first, this.plan.first + this.plan.count);
    await this.end();
  }

  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGKILL');
    await exited;
  }

  #call(method: Method, ...args: unknown[]): Promise<unknown> {
    const answer = this.#queue.then(() => this.#ask([method, ...args]));
    this.#queue = answer.catch(() => {});
    return answer;
  }

  #ask(call: readonly unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const onExit = (code: number | null) => reject(new Error(`the fleet ended with ${code}`));
      this.child.once('exit', onExit);
      this.child.once('message', ({ value, error }: Answer) => {
        this.child.off('exit', onExit);
        if (error === undefined) resolve(value);
        else reject(new Error(error));
      });
      this.child.send(call);
    });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) serve();

function serve(): void {
  const plan = JSON.parse(process.env['TASKDASH_FLEET'] ?? '{}') as FleetProcessPlan;
  const fleet = fleetOf(plan);
  process.on('message', (call: [Method, ...unknown[]]) => void answer(fleet, call));
  process.on('disconnect', () => process.exit());
  process.send?.('ready');
}

function fleetOf(plan: FleetProcessPlan): Fleet {
  if (plan.door === 'tcp') return new TcpFleet(plan);
  return plan.door === 'grpc' ? new LeaseFleet(plan) : new RoamingFleet(plan);
}

async function answer(fleet: Fleet, [method, ...args]: [Method, ...unknown[]]): Promise<void> {
  try {
    const callable = fleet as unknown as Record<string, (...args: unknown[]) => unknown>;
    if (!(method in fleet)) throw new Error(`this fleet has no ${method}`);
    process.send?.({ value: await callable[method]?.(...args) });
  } catch (error) {
    process.send?.({ error: String(error) });
  }
}
