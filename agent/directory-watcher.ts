/**
 * The real DirectoryWatcher: chokidar on directories only, its raw events as a wake-up. chokidar would set one watch and
 * take 8 KB per file, so files are ignored and nothing is built on what its own events say. Where the system has no
 * watches left, the sweep does the work alone.
 */
import { isAbsolute, join } from 'node:path'
import chokidar, { type FSWatcher } from 'chokidar'
import type { DirectoryWatcher, Log, WatchEvent } from '../shared/system.ts'

export function chokidarWatcher(log: Log, onEvent: (event: WatchEvent) => void): DirectoryWatcher {
  let watched = new Set<string>()
  let hasComplained = false
  const watcher: FSWatcher = chokidar.watch([], {
    ignored: (_path, stats) => stats?.isFile() ?? false,
    depth: 0,
    ignoreInitial: true,
    followSymlinks: false,
    ignorePermissionErrors: true,
  })
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
      const fresh = directories.filter((directory) => !watched.has(directory))
      if (gone.length > 0) watcher.unwatch(gone)
      if (fresh.length > 0) watcher.add(fresh)
      watched = wanted
    },
    close: () => watcher.close(),
  }
}

function fullPath(path: string, details: unknown): string {
  if (path !== '' && isAbsolute(path)) return path
  const directory: unknown = typeof details === 'object' && details !== null ? Reflect.get(details, 'watchedPath') : undefined
  if (typeof directory !== 'string') return path
  return path === '' ? directory : join(directory, path)
}
