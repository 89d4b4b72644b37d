/**
 * Which tests `vitest run` takes: units and the end-to-end suite, sized for two cores. What needs Java, minutes or a
 * quiet machine has its own command: test/real (test/real/vitest.config.ts) and `*.long.test.ts` (named on the command line
 * together with LONG=1).
 */
import { configDefaults, defineConfig } from 'vitest/config'

const slow = ['test/real/**', 'test/bench/**']
const long = process.env['LONG'] === '1' ? [] : ['test/**/*.long.test.ts']

export default defineConfig({
  test: {
    // Own processes: a native addon or a wild process.exit of one file can't take the others with it.
    pool: 'forks',
    maxWorkers: 2,
    unstubEnvs: true,
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: [...configDefaults.exclude, ...slow, ...long, 'test/e2e/**'],
          testTimeout: 20_000,
          hookTimeout: 20_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          exclude: [...configDefaults.exclude, ...long],
          // These start real processes and wait for conditions: one file at a time keeps two cores fair to them.
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
})
