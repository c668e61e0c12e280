import { defineConfig } from 'vitest/config';
import { HostileReporter } from './test/hostile/reporter.js';

const intro = `# Attacks

\`npm run test:hostile\` does to real servers, with real sockets and a real PostgreSQL, what people who mean ill do, and writes
this page. Each attack has a server of its own and eight seconds; beside it a client calls at a steady pace over gRPC and HTTP,
and \`/healthz\` is asked some twenty times a second, over a new connection each time; it has another address than the
attacker. All of them and the database share the machine. The figures from before the attack, the client's own longest turn,
and the load tell how busy that was anyway.

- **held**: the server took less than 400 MiB, \`/healthz\` answered within 200 ms (99 of 100 times), and the good client had at
  least half of the answers a second that it had before.
- **longest turn**: how long the server's event loop was late at most, waiting for a core included; then the same of the good
  client, which does little and is attacked by nobody: by so much its measurements may be the machine's matter.
- **its worst second**: the fewest answers that the good client had in one second.
`;

/** Real processes, real sockets, a real PostgreSQL, one attack after the other: \`npm run test:hostile\`. */
export default defineConfig({
  test: {
    include: ['test/hostile/hostile.test.ts'],
    globalSetup: ['test/support/global-setup.ts', 'test/chaos/build.ts'],
    reporters: ['default', new HostileReporter({ path: 'docs/hostile.md', intro })],
    testTimeout: 120_000,
    hookTimeout: 180_000,
    fileParallelism: false,
  },
});
