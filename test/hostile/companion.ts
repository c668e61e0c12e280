/** A process beside a scenario that does one thing when it is told to, and answers with what came of it. */
import type { ChildProcess } from 'node:child_process';
import { spawnNode } from '../support/spawn-node.js';

const PLAN = 'TASKDASH_COMPANION';

/** The process as a scenario drives it. */
export class Companion<Order, Answer> {
  private constructor(private readonly child: ChildProcess) {}

  /** Starts a module with a plan, which it gets by `serve`; returns when it is ready. */
  static async launch<Order, Answer>(module: string, plan: unknown): Promise<Companion<Order, Answer>> {
    const env = { ...process.env, [PLAN]: JSON.stringify(plan) };
    const child = spawnNode(['--import', 'tsx', module], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], env });
    const companion = new Companion<Order, Answer>(child);
    await companion.#answer();
    return companion;
  }

  /** Has it do its work, and waits for the answer. */
  do(order: Order): Promise<Answer> {
    this.child.send(order as object);
    return this.#answer() as Promise<Answer>;
  }

  /** Ends it as it is, with all that it has open. */
  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGKILL');
    await exited;
  }

  #answer(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const onExit = (code: number | null) => reject(new Error(`the process ended with ${code}`));
      this.child.once('exit', onExit);
      this.child.once('message', (answer) => {
        this.child.off('exit', onExit);
        resolve(answer);
      });
    });
  }
}

/** In the process: takes orders until the scenario ends. */
export function serve<Plan, Order, Answer>(work: (plan: Plan) => (order: Order) => Promise<Answer>): void {
  const carryOut = work(JSON.parse(process.env[PLAN] ?? '{}') as Plan);
  process.on('message', (order: Order) => void carryOut(order).then((answer) => process.send?.(answer)));
  process.on('disconnect', () => process.exit());
  process.send?.('ready');
}
