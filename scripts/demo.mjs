/** `npm run demo`: builds what is missing, then runs scripts/demo/demo.ts. */
import { build } from './build.mjs';
import { register } from 'tsx/esm/api';

if (!build()) process.exit(1);
register();
try {
  await import('./demo/demo.ts');
} catch (error) {
  const { sentenceOf } = await import('../server/cli/print.ts');
  process.stderr.write(`taskdash: ${sentenceOf(error)}\n`);
  process.exit(1);
}
