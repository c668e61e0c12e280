/** `npm run pictures`: builds what is missing, then runs scripts/pictures/pictures.ts. */
import { build } from './build.mjs';
import { register } from 'tsx/esm/api';

if (!build()) process.exit(1);
register();
await import('./pictures/pictures.ts');
