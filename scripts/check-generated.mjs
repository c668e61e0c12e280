/** Generates the contracts anew and fails when that differs from what is there. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const before = mkdtempSync(join(tmpdir(), 'taskdash-gen-'));
try {
  cpSync('proto/gen', before, { recursive: true });
  execFileSync('npx', ['buf', 'generate'], { stdio: 'inherit' });
  execFileSync('diff', ['-r', before, 'proto/gen'], { stdio: 'inherit' });
} catch {
  process.stderr.write('proto/gen is not what `npm run generate` makes of proto/: commit the new one.\n');
  process.exitCode = 1;
} finally {
  rmSync(before, { recursive: true, force: true });
}
