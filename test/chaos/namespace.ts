/**
 * A network namespace with a cable to this machine's own network that can be pulled: what a node sees whose way to the
 * database is cut. Its services are in the same namespace.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { installOnDebian } from '../support/debian-packages.js';

const run = promisify(execFile);

const NEED =
  'The scenario of the network cut needs the program ip: install it (on Debian or Ubuntu: apt-get install -y iproute2).';

export class Namespace {
  private constructor(
    readonly name: string,
    private readonly subnet: string,
  ) {}

  /** Makes the namespace and its cable. Throws where this needs root or `ip` and there is none. */
  static async make(): Promise<Namespace> {
    await ensureIp();
    if (process.getuid?.() !== 0)
      throw new Error(
        'The scenario of the network cut makes a network namespace: run it with sudo npm run test:chaos.',
      );
    const [id, octet] = [randomBytes(3).toString('hex'), randomBytes(1).readUInt8()];
    const namespace = new Namespace(`td${id}`, `10.213.${octet}`);
    await namespace.#lay();
    return namespace;
  }

  /** This machine's address, as seen from inside. */
  get hostAddress(): string {
    return `${this.subnet}.1`;
  }

  /** The program that starts another inside. */
  get wrapper(): readonly string[] {
    return ['ip', 'netns', 'exec', this.name];
  }

  /** Pulls the cable: nothing passes, and nobody is told. */
  cut(): Promise<void> {
    return ip('link', 'set', this.#outerEnd, 'down');
  }

  mend(): Promise<void> {
    return ip('link', 'set', this.#outerEnd, 'up');
  }

  async remove(): Promise<void> {
    await ip('link', 'del', this.#outerEnd);
    await ip('netns', 'del', this.name);
  }

  get #outerEnd(): string {
    return `${this.name}o`;
  }

  async #lay(): Promise<void> {
    const [inner, outer] = [`${this.name}i`, this.#outerEnd];
    await ip('netns', 'add', this.name);
    await ip('link', 'add', outer, 'type', 'veth', 'peer', 'name', inner, 'netns', this.name);
    await ip('addr', 'add', `${this.hostAddress}/30`, 'dev', outer);
    await ip('-n', this.name, 'addr', 'add', `${this.subnet}.2/30`, 'dev', inner);
    await ip('-n', this.name, 'link', 'set', inner, 'up');
    await ip('-n', this.name, 'link', 'set', 'lo', 'up');
    await this.mend();
  }
}

async function ip(...args: readonly string[]): Promise<void> {
  await run('ip', args);
}

async function ensureIp(): Promise<void> {
  if (await isThere()) return;
  await installOnDebian(['iproute2']).catch((cause: unknown) => {
    throw new Error(NEED, { cause });
  });
  if (!(await isThere())) throw new Error(NEED);
}

function isThere(): Promise<boolean> {
  return ip('-Version').then(
    () => true,
    () => false,
  );
}
