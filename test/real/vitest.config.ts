/** The suite against real servers and real Java clients: `npm run test:real`. Slow, and it skips loudly without Java or Maven. */
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/real/**/*.test.ts'],
    pool: 'forks',
    fileParallelism: false,
    // The first run fetches the jars.
    testTimeout: 300_000,
    hookTimeout: 600_000,
  },
})
