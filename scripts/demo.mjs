/** `npm run demo`: builds what is missing, then runs scripts/demo/demo.ts. */
import { build } from './build.mjs';
import { register } from 'tsx/esm/api';

if (!build()) process.exit(1);
register();
await import('./demo/demo.ts');
