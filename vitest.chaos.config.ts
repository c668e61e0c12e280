import { defineConfig } from 'vitest/config';

/** Real processes, real sockets, a real PostgreSQL, one scenario after the other: `npm run test:chaos`. */
export default defineConfig({
  test: {
    include: ['test/chaos/**/*.test.ts'],
    globalSetup: ['test/chaos/build.ts'],
    testTimeout: 300_000,
    hookTimeout: 180_000,
    fileParallelism: false,
  },
});
