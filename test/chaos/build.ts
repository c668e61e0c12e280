import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The servers of the scenarios are the built ones. */
export default function setup(): void {
  execFileSync(process.execPath, [fileURLToPath(new URL('../../scripts/build.mjs', import.meta.url))], {
    stdio: 'inherit',
  });
}
