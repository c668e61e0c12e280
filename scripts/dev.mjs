/** `npm run dev`: the server, restarted on every change, and the page with hot reload in front of it. */
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);
const bin = (name, path) => join(dirname(require.resolve(`${name}/package.json`)), path);

const children = [
  spawn(process.execPath, [bin('tsx', 'dist/cli.mjs'), 'watch', 'server/main.ts', 'serve'], { stdio: 'inherit' }),
  spawn(process.execPath, [bin('vite', 'bin/vite.js'), 'web'], { stdio: 'inherit' }),
];

/** One ends: all end. */
function stopAll(signal = 'SIGTERM') {
  for (const child of children) if (child.exitCode === null) child.kill(signal);
}
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => stopAll(signal));
for (const child of children) {
  child.on('exit', (code) => {
    process.exitCode ||= code ?? 1;
    stopAll();
  });
}
