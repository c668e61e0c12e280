/**
 * Builds what is missing or older than its sources: the server with tsc, the page with vite. Prints nothing when there is
 * nothing to do.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);

const targets = [
  {
    name: 'server',
    sources: ['server', 'client', 'proto/gen', 'tsconfig.json', 'tsconfig.build.json', 'scripts/build.mjs'],
    run: tsc,
  },
  { name: 'web', sources: ['web', 'proto/gen'], run: vite },
];

function tsc() {
  for (const folder of ['server', 'client', 'proto'])
    rmSync(join(root, 'dist', folder), { recursive: true, force: true });
  return node(require.resolve('typescript/bin/tsc'), '-p', 'tsconfig.build.json');
}

function vite() {
  const bin = join(dirname(require.resolve('vite/package.json')), 'bin/vite.js');
  return node(bin, 'build', 'web', '--logLevel', 'warn');
}

function node(script, ...args) {
  return spawnSync(process.execPath, [script, ...args], { cwd: root, stdio: ['ignore', 2, 2] }).status === 0;
}

/** The latest change below a path, in epoch milliseconds; 0 where there is nothing. */
function newest(path) {
  const full = join(root, path);
  if (!existsSync(full)) return 0;
  const own = statSync(full);
  if (!own.isDirectory()) return own.mtimeMs;
  return Math.max(own.mtimeMs, ...readdirSync(full).map((name) => newest(join(path, name))));
}

/** Builds every target that needs it; returns whether all are there now. */
export function build() {
  return targets.every(({ name, sources, run }) => {
    const stamp = join('dist', `.${name}-built`);
    const builtAt = newest(stamp);
    if (builtAt > 0 && builtAt >= Math.max(...sources.map(newest))) return true;
    process.stderr.write(`Building the ${name === 'web' ? 'page' : 'server'} …\n`);
    const startedAt = new Date();
    if (!run()) return false;
    writeFileSync(join(root, stamp), startedAt.toISOString());
    return true;
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url) && !build()) process.exit(1);
