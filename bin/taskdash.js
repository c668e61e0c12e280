#!/usr/bin/env node
/** What `npx taskdash` runs. It is no part of the build: npm links only what is there when it installs. */
import { existsSync } from 'node:fs';

const main = new URL('../dist/server/main.js', import.meta.url);

if (existsSync(main)) await import(main.href);
else {
  process.stderr.write(
    'taskdash: it is not built yet. Run `npm start` or `npm run build` in its folder, then this again.\n',
  );
  process.exitCode = 1;
}
