/** Holds the contracts against those of the last release (the newest v* tag) or, before there is one, of main. */
import { execFileSync, spawnSync } from 'node:child_process';

function git(...args) {
  return execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
}

/** The commit to compare with, or undefined where there is no history to compare with. */
function baseline() {
  for (const args of [
    ['describe', '--tags', '--abbrev=0', '--match', 'v*'],
    ['rev-parse', '--verify', 'main'],
  ]) {
    try {
      const found = git(...args);
      git('cat-file', '-e', `${found}:buf.yaml`);
      return found;
    } catch {
      // Not there: try the next one.
    }
  }
  return undefined;
}

const base = baseline();
if (base === undefined) {
  process.stderr.write('No earlier contracts to compare with; buf breaking has nothing to check.\n');
} else {
  const against = `.git#ref=${git('rev-parse', base)}`;
  process.exitCode = spawnSync('npx', ['buf', 'breaking', '--against', against], { stdio: 'inherit' }).status ?? 1;
}
