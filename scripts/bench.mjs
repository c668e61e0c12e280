/** `npm run bench`: builds what is missing, then runs test/bench/bench.ts. */
import { build } from './build.mjs';
import { register } from 'tsx/esm/api';

if (!build()) process.exit(1);
register();
await import('../test/bench/bench.ts');
