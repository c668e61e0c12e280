/** `npm start`: builds what is missing, then runs `taskdash serve` in this process, so that signals reach it. */
import { build } from './build.mjs';

if (!build()) {
  process.stderr.write('taskdash: the build failed; the lines above say why.\n');
  process.exit(1);
}
process.argv.splice(2, 0, 'serve');
await import('../dist/server/main.js');
