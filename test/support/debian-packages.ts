/** Debian's packages, for tests against programs that npm does not bring. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';

const run = promisify(execFile);
const APT = '/usr/bin/apt-get';
const DEADLINE_MS = 300_000;

/** Installs them as root on Debian; false where that cannot be, for the caller to say what is missing. */
export async function installOnDebian(packages: readonly string[]): Promise<boolean> {
  if (process.getuid?.() !== 0 || !existsSync(APT)) return false;
  // Other test files may be installing theirs.
  const install = ['install', '-y', '-q', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=300', ...packages];
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const options = { env, timeout: DEADLINE_MS, maxBuffer: 2 ** 26 };
  // A machine that has never listed its packages cannot install one; one that has needs no new list.
  await run(APT, install, options).catch(async () => {
    await run(APT, ['update', '-q'], options);
    await run(APT, install, options);
  });
  return true;
}
