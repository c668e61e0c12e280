import { defineConfig } from 'vitest/config';
import { ChaosReporter } from './test/chaos/reporter.js';

const intro = `# Chaos

\`npm run test:chaos\` does to real servers, with real sockets and a real PostgreSQL, what operators fear, and writes this page.
A small part of it runs with every \`npm test\`. Where the times are not named, the TTL is 6 s, services beat every 2 s, a
node's lease is 3 s and the failover grace 12 s, so that a scenario takes a minute.

- **gone**: services that died, fell silent or were lost, and whose tasks are to become \`shutdown\`.
- **living shown shutdown**: tasks that became \`shutdown\` although their services live, even if only for a moment, or before their time.
- **dead shown running**: tasks of services that are gone and did not become \`shutdown\`.
- **lost**: of the registers and updates that were acknowledged, those that are not stored.
- **replayed writes**: writes that made more than one version of their task.
- **changes missed or told twice**: by a watch through each server that went on with its token after every break, against the
  table of events; out of order, or told otherwise than written, counts too. \`–\`: not looked at.
- **time to the verdict**: of the first and of the last, as server and database knew it.

In the scenario with clients of all three doors, what each of them asked and was told, and when, is searched for an order of
single steps that gives all these answers (linearizability). There has to be one.
`;

/** Real processes, real sockets, a real PostgreSQL, one scenario after the other: `npm run test:chaos`. */
export default defineConfig({
  test: {
    include: ['test/chaos/liveness.test.ts'],
    globalSetup: ['test/chaos/build.ts'],
    reporters: ['default', new ChaosReporter({ path: 'docs/chaos.md', intro })],
    testTimeout: 300_000,
    hookTimeout: 180_000,
    fileParallelism: false,
  },
});
