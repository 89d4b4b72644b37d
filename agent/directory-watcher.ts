/**
 * The real DirectoryWatcher: chokidar on directories only, its raw events as a wake-up. chokidar would set one watch and
 * take 8 KB per file, so files are ignored and nothing is built on what its own events say. Where the system has no
 * watches left, the sweep does the work alone.
 */
import { isAbsolute, join } from 'node:path'
import chokidar, { type FSWatcher } from 'chokidar'
import type { DirectoryWatcher, System, WatchEvent } from '../shared/system.ts'
import { sleepQuietly } from './waker.ts'

/**
 * Between two directories: chokidar looks at every file of one that it is given, and at those of all at once if it may
 * (10,000 files: 5 MiB more at the start). Until its turn comes the sweep looks at a directory.
 */
const GAP_MS = 10

export function chokidarWatcher({ clock, log }: System, onEvent: (event: WatchEvent) => void): DirectoryWatcher {
  let watched = new Set<string>()
  const fresh = new Set<string>()
  let isAdding = false
  const ended = new AbortController()
  let hasComplained = false
  const watcher: FSWatcher = chokidar.watch([], {
    ignored: (_path, stats) => stats?.isFile() ?? false,
    depth: 0,
    ignoreInitial: true,
    followSymlinks: false,
    ignorePermissionErrors: true,
  })
  const addInTurn = async (): Promise<void> => {
    isAdding = true
    for (const directory of fresh) {
      fresh.delete(directory)
      watcher.add(directory)
      if (!(await sleepQuietly(clock, GAP_MS, ended.signal))) return
    }
    isAdding = false
  }
  watcher.on('raw', (_event, path, details: unknown) => onEvent({ path: fullPath(path, details) }))
  watcher.on('error', (error) => {
    // Once: the sweep goes on, and a system without watches left would say this for each directory.
    if (!hasComplained) log.warn('watching a directory failed, the sweep goes on', { reason: String(error) })
    hasComplained = true
  })
  return {
    watch(directories) {
      const wanted = new Set(directories)
      const gone = [...watched].filter((directory) => !wanted.has(directory))
      if (gone.length > 0) watcher.unwatch(gone)
      for (const directory of gone) fresh.delete(directory)
      for (const directory of directories) if (!watched.has(directory)) fresh.add(directory)
      watched = wanted
      // Never rejects: adding is only noted here, and the sleep is quiet.
      if (!isAdding) void addInTurn()
    },
    close: () => {
      ended.abort()
      return watcher.close()
    },
  }
}

function fullPath(path: string, details: unknown): string {
  if (path !== '' && isAbsolute(path)) return path
  const directory: unknown = typeof details === 'object' && details !== null ? Reflect.get(details, 'watchedPath') : undefined
  if (typeof directory !== 'string') return path
  return path === '' ? directory : join(directory, path)
}
