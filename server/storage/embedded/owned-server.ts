import type { Launch } from './cluster.js';
import type { DataFolderLock } from './data-folder-lock.js';
import { reasonOf } from './embedded-postgres-error.js';
import type { GuardedExit } from './guardian.js';
import type { RunningServer } from './launcher.js';
import { endLeftover } from './leftover.js';

/** Is told, in a sentence for people, that PostgreSQL ended although nobody stopped it. */
type Listener = (what: string) => void;

const FAST_SHUTDOWN_MS = 20_000;
const IMMEDIATE_SHUTDOWN_MS = 5_000;
const FORCED_END_MS = 5_000;

/** A running PostgreSQL together with what this process holds for it: the folder's lock and the open log. */
export class OwnedServer {
  readonly connectionString: string;
  readonly #launch: Launch;
  readonly #lock: DataFolderLock;
  readonly #server: RunningServer;
  readonly #listeners: Listener[] = [];
  #lost: string | undefined;
  #stopped: Promise<void> | undefined;

  constructor(launch: Launch, lock: DataFolderLock, server: RunningServer, connectionString: string) {
    this.#launch = launch;
    this.#lock = lock;
    this.#server = server;
    this.connectionString = connectionString;
    void server.guardian.exited.then((exit) => {
      if (!this.#stopped) this.#stopped = this.#cleanUpAfterLoss(exit);
    });
  }

  /** Stops PostgreSQL and gives the folder back; the second call waits for the first. */
  stop(): Promise<void> {
    return (this.#stopped ??= this.#stop());
  }

  /** Calls back once when PostgreSQL ends by itself, at once if it already has. */
  onUnexpectedExit(listener: Listener): void {
    const lost = this.#lost;
    if (lost !== undefined) queueMicrotask(() => listener(lost));
    else this.#listeners.push(listener);
  }

  async #stop(): Promise<void> {
    const { guardian } = this.#server;
    try {
      for (const [signal, patienceMs] of [
        ['INT', FAST_SHUTDOWN_MS],
        ['QUIT', IMMEDIATE_SHUTDOWN_MS],
        ['KILL', FORCED_END_MS],
      ] as const) {
        guardian.signal(signal);
        if (await this.#endsWithin(patienceMs)) break;
        this.#launch.log('warn', 'PostgreSQL does not stop; insisting', { signal, waitedMs: patienceMs });
      }
      // Only a killed guardian leaves anything here.
      await endLeftover(this.#launch.folder, this.#launch.log);
    } finally {
      await this.#letGo();
    }
  }

  #endsWithin(patienceMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      // The timer also keeps this process alive for as long as it waits: the guardian does not.
      const timer = setTimeout(() => resolve(false), patienceMs);
      void this.#server.guardian.exited.then(() => {
        clearTimeout(timer);
        resolve(true);
      });
    });
  }

  async #cleanUpAfterLoss({ code }: GuardedExit): Promise<void> {
    const { folder, log, serverLog } = this.#launch;
    // The log may be what was lost, with the whole folder.
    const lastLogLines = await serverLog.tail(0).catch((error: unknown) => [reasonOf(error)]);
    const how = code === null ? 'its guardian was killed' : `exit code ${code}`;
    this.#lost = `The embedded PostgreSQL on ${folder.root} ended unexpectedly (${how}).`;
    log('error', this.#lost, { log: folder.log, lastLogLines });
    for (const listener of this.#listeners.splice(0)) listener(this.#lost);
    try {
      await endLeftover(folder, log);
      await this.#letGo();
    } catch (error) {
      log('error', 'What is left of the embedded PostgreSQL cannot be cleared away', { reason: reasonOf(error) });
    }
  }

  async #letGo(): Promise<void> {
    await this.#launch.serverLog.close();
    await this.#lock.release();
  }
}
