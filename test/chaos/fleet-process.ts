/** A fleet in a process of its own, so that servers, clients and tests do not share an event loop, nor a limit of files. */
import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Fleet, type FleetPlan, type FleetStatus } from './fleet.js';

interface Answer {
  readonly value?: unknown;
  readonly error?: string;
}

/** The fleet as the test drives it. */
export class FleetProcess {
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(private readonly child: ChildProcess) {}

  static async launch(plan: FleetPlan): Promise<FleetProcess> {
    const child = spawn(process.execPath, ['--import', 'tsx', fileURLToPath(import.meta.url)], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: { ...process.env, TASKDASH_FLEET: JSON.stringify(plan) },
    });
    await new Promise<void>((resolve, reject) => {
      child.once('message', () => resolve());
      child.once('exit', (code) => reject(new Error(`the fleet ended with ${code}`)));
    });
    return new FleetProcess(child);
  }

  start = (deadlineMs: number) => this.#call('start', deadlineMs);
  settled = (deadlineMs: number) => this.#call('settled', deadlineMs);
  silence = (from: number, to: number) => this.#call('silence', from, to);
  die = (from: number, to: number) => this.#call('die', from, to);
  comeBack = (spreadMs: number) => this.#call('comeBack', spreadMs);
  work = (pauseMs: number) => this.#call('work', pauseMs);
  status = () => this.#call('status') as Promise<FleetStatus>;

  /** Ends it at once. */
  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGKILL');
    await exited;
  }

  #call(method: keyof Fleet, ...args: unknown[]): Promise<unknown> {
    const answer = this.#queue.then(
      () =>
        new Promise<unknown>((resolve, reject) => {
          this.child.once('message', ({ value, error }: Answer) => (error ? reject(new Error(error)) : resolve(value)));
          this.child.send([method, ...args]);
        }),
    );
    this.#queue = answer.catch(() => {});
    return answer;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) serve();

function serve(): void {
  const fleet = new Fleet(JSON.parse(process.env['TASKDASH_FLEET'] ?? '{}') as FleetPlan);
  process.on('message', (call: [keyof Fleet, ...unknown[]]) => void answer(fleet, call));
  process.on('disconnect', () => process.exit());
  process.send?.('ready');
}

async function answer(fleet: Fleet, [method, ...args]: [keyof Fleet, ...unknown[]]): Promise<void> {
  try {
    const callable = fleet as unknown as Record<string, (...args: unknown[]) => unknown>;
    process.send?.({ value: await callable[method]?.(...args) });
  } catch (error) {
    process.send?.({ error: String(error) });
  }
}
