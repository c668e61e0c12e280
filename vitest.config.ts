import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';
import { ChaosReporter } from './test/chaos/reporter.js';

export default defineConfig({
  plugins: [svelte()],
  test: {
    include: ['test/**/*.test.ts'],
    // The long scenarios are `npm run test:chaos` and `npm run test:hostile`.
    exclude: ['test/chaos/liveness.test.ts', 'test/hostile/**', 'test/bench/**', 'node_modules/**'],
    reporters: ['default', new ChaosReporter()],
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 30_000,
    hookTimeout: 120_000,
    // Each file has its own database; two processes fill two cores.
    maxWorkers: 2,
    sequence: { shuffle: { files: false, tests: true } },
  },
});
