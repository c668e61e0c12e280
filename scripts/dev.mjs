/** `npm run dev`: the server, restarted on every change, and the page with hot reload in front of it. */
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);
const bin = (name, path) => join(dirname(require.resolve(`${name}/package.json`)), path);
// In groups of their own: Ctrl-C reaches this process alone, which passes it on once. Two would end the server by force.
const run = (...args) => spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit'], detached: true });

const children = [
  run(bin('tsx', 'dist/cli.mjs'), 'watch', 'server/main.ts', 'serve'),
  run(bin('vite', 'bin/vite.js'), 'web'),
];

let isStopping = false;
/** One ends: all end. */
function stopAll(code) {
  if (isStopping) return;
  isStopping = true;
  process.exitCode = code;
  for (const child of children) if (child.exitCode === null) child.kill('SIGTERM');
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => stopAll(0));
for (const child of children) child.on('exit', (code) => stopAll(code || 1));
