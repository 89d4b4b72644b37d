/**
 * Where the house rules do not hold, each with its reason. The lists may only shrink: an exception that nothing needs
 * any more fails the tidy test, and a new one has to be argued for in review.
 */

export type Effect = 'files' | 'network' | 'clock' | 'random' | 'process' | 'console' | 'threads' | 'watching'

export interface Seam {
  /** A file, or a folder with a `/` at its end. */
  readonly path: string
  readonly effects: readonly Effect[]
  readonly reason: string
}

/** The only places that touch the world. Everything else gets a System, which is what makes simulation possible. */
export const seams: readonly Seam[] = [
  {
    path: 'shared/node/',
    effects: ['files', 'network', 'clock', 'random', 'process', 'console'],
    reason: 'the real System: one file per source of nondeterminism',
  },
  { path: 'shared/node-system.ts', effects: ['process', 'random', 'clock', 'files', 'network', 'console'], reason: 'puts the real System together' },
  { path: 'shared/http-exchange.ts', effects: ['network'], reason: 'one request and its answer on a socket of http-server.ts' },
  { path: 'shared/http-server.ts', effects: ['network', 'clock'], reason: 'adapter from node:http to handlers, with its timeouts' },
  { path: 'shared/daemon.ts', effects: ['process', 'clock', 'console'], reason: 'signals, exit codes and the watchdog of a process' },
  { path: 'agent/main.ts', effects: ['process', 'console', 'files'], reason: 'entry: reads argv, builds the System' },
  { path: 'agent/directory-watcher.ts', effects: ['watching'], reason: 'chokidar behind the DirectoryWatcher interface' },
  { path: 'collector/main.ts', effects: ['process', 'console', 'files'], reason: 'entry: reads argv, builds the System' },
  { path: 'collector/cli/main.ts', effects: ['process', 'console', 'files'], reason: 'entry: reads argv, builds the System' },
  { path: 'collector/query/scan-worker.ts', effects: ['threads'], reason: 'entry of the worker in which user regexes run' },
  { path: 'collector/query/worker-pool.ts', effects: ['threads'], reason: 'starts those workers' },
  { path: 'collector/export/tables/table-worker.ts', effects: ['threads'], reason: 'entry of the worker in which table files are encoded' },
  { path: 'collector/export/tables/encoder-thread.ts', effects: ['threads'], reason: 'starts that worker' },
  { path: 'packaging/', effects: ['files', 'process', 'console', 'clock', 'network', 'random'], reason: 'build and demo programs, not part of a daemon' },
]

/** A package is imported in one place, so that replacing it is a change of one file. */
export const packageHomes: Readonly<Record<string, readonly string[]>> = {
  '@node-rs/crc32': ['shared/crc32c.ts'],
  chokidar: ['agent/directory-watcher.ts'],
  commander: ['agent/main.ts', 'collector/main.ts', 'collector/cli/', 'shared/settings.ts'],
  'hyparquet-writer': ['collector/export/tables/parquet-writer.ts'],
  picomatch: ['agent/', 'collector/cli/'],
  'prom-client': ['shared/node/'],
  re2js: ['collector/query/'],
  valibot: ['shared/', 'collector/', 'agent/'],
  yaml: ['shared/settings-file.ts'],
  'zstd-codec': ['shared/zstd.ts', 'shared/zstd-codec.d.ts'],
}

export interface Exception {
  readonly rule: string
  readonly path: string
  /** For rules with a size: what this file may have at most. */
  readonly limit?: number
  readonly reason: string
}

export const exceptions: readonly Exception[] = [
  { rule: 'default-export', path: 'test/real/vitest.config.ts', reason: 'vitest wants the default export of a config file' },
]
