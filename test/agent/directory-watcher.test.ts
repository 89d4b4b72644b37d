/** The real watcher, on real directories. */
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { chokidarWatcher } from '../../agent/directory-watcher.ts'
import { createNodeSystem } from '../../shared/node-system.ts'

const folder = mkdtempSync(join(tmpdir(), 'tailrace-watch-'))
afterEach(() => rmSync(folder, { recursive: true, force: true }))

test('directories that are given at once are all watched in the end, also those behind one that is gone', async () => {
  const directories = Array.from({ length: 20 }, (_, at) => join(folder, `d${at}`))
  for (const directory of directories.slice(1)) {
    mkdirSync(directory)
    writeFileSync(join(directory, 'a.log'), 'one\n')
  }
  const seen = new Set<string>()
  const watcher = chokidarWatcher(createNodeSystem({ logLevel: 'error' }), ({ path }) => seen.add(path))
  try {
    watcher.watch(directories)
    const files = directories.slice(1).map((directory) => join(directory, 'a.log'))
    await vi.waitFor(() => {
      for (const file of files) if (!seen.has(file)) appendFileSync(file, 'more\n')
      expect(files.filter((file) => !seen.has(file))).toEqual([])
    }, { timeout: 10_000, interval: 20 })
  } finally {
    await watcher.close()
  }
})
