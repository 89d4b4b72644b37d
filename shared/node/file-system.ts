/** The real disk, on node:fs. Errors are the platform's own; see system.ts for what each call makes durable. */
import { constants, lstat, stat } from 'node:fs'
import * as fs from 'node:fs/promises'
import type { BigIntStats, Dirent } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { errnoOf } from '../errors.ts'
import type { DirectoryEntry, FileHandle, FileKind, FileStat, FileSystem, OpenMode } from '../system.ts'
import { lockFile } from './lock-file.ts'

const flagsOf: Readonly<Record<OpenMode, number>> = {
  read: constants.O_RDONLY,
  readSource: constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW,
  readWrite: constants.O_RDWR,
  create: constants.O_RDWR | constants.O_CREAT | constants.O_EXCL,
  readWriteCreate: constants.O_RDWR | constants.O_CREAT,
  truncateWrite: constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC,
}

/** Files of ours are for their owner and group: log lines may hold secrets. */
const CREATE_MODE = 0o640
const DIRECTORY_MODE = 0o750
const PATH_DEPTH_MAX = 4096

export function nodeFileSystem(): FileSystem {
  return {
    open: async (path, mode, permissions = CREATE_MODE) => new NodeFileHandle(await fs.open(path, flagsOf[mode], permissions)),
    stat: statPath,
    list: async (path) => (await fs.readdir(path, { withFileTypes: true })).map(toEntry),
    makeDirectory,
    rename: (from, to) => fs.rename(from, to),
    remove: (path) => fs.unlink(path),
    removeDirectory: (path) => fs.rmdir(path),
    syncDirectory: async (path) => {
      const handle = await fs.open(path, constants.O_RDONLY | constants.O_DIRECTORY)
      try {
        await handle.sync()
      } finally {
        await handle.close()
      }
    },
    realPath: (path) => fs.realpath(path),
    freeBytes: async (path) => {
      const facts = await fs.statfs(path)
      return facts.bavail * facts.bsize
    },
    lock: (path) => lockFile(path),
  }
}

/** With its parents. Step by step, since Node's own recursive mkdir spins for ever below /proc (ENOENT of a parent that exists). */
async function makeDirectory(path: string): Promise<void> {
  const missing: string[] = []
  for (let at = resolve(path); missing.length < PATH_DEPTH_MAX; at = dirname(at)) {
    const stat = await statPath(at, { followSymlinks: true })
    if (stat?.kind === 'directory') break
    if (stat !== undefined) throw Object.assign(new Error(`ENOTDIR: ${at} is not a directory`), { code: 'ENOTDIR' })
    missing.push(at)
  }
  for (const each of missing.reverse()) {
    // Another process may make the same folder.
    await fs.mkdir(each, { mode: DIRECTORY_MODE }).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error
    })
  }
}

async function statPath(path: string, options: { followSymlinks?: boolean } = {}): Promise<FileStat | undefined> {
  try {
    return toStat(await statsOf(path, options.followSymlinks === true ? stat : lstat))
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined
    throw error
  }
}

/**
 * By callback: a sweep of ten thousand files is as many calls, and each of the promise's kind allocates an array outside of
 * the heap for its numbers (10 MiB until they are collected, and a third more CPU).
 */
function statsOf(path: string, call: typeof lstat): Promise<BigIntStats> {
  return new Promise((resolve, reject) => {
    call(path, { bigint: true }, (error, stats) => {
      if (error === null) resolve(stats)
      else reject(error)
    })
  })
}

class NodeFileHandle implements FileHandle {
  private readonly handle: fs.FileHandle

  constructor(handle: fs.FileHandle) {
    this.handle = handle
  }

  async read(target: Uint8Array, { offset, length, position }: { offset: number; length: number; position: number }): Promise<number> {
    return (await this.handle.read(target, offset, length, position)).bytesRead
  }

  async write(buffers: readonly Uint8Array[], position: number): Promise<number> {
    const only = buffers.length === 1 ? buffers[0] : undefined
    if (only !== undefined) return (await this.handle.write(only, 0, only.length, position)).bytesWritten
    return (await this.handle.writev([...buffers], position)).bytesWritten
  }

  async stat(): Promise<FileStat> {
    return toStat(await this.handle.stat({ bigint: true }))
  }

  datasync(): Promise<void> {
    return this.handle.datasync()
  }

  sync(): Promise<void> {
    return this.handle.sync()
  }

  truncate(size: number): Promise<void> {
    return this.handle.truncate(size)
  }

  close(): Promise<void> {
    return this.handle.close()
  }
}

function toStat(stats: BigIntStats): FileStat {
  return {
    kind: kindOf(stats),
    size: Number(stats.size),
    inode: stats.ino,
    device: stats.dev,
    birthtimeNs: stats.birthtimeNs,
    mtimeMs: Number(stats.mtimeMs),
    ctimeMs: Number(stats.ctimeMs),
    linkCount: Number(stats.nlink),
    mode: Number(stats.mode & 0o777n),
  }
}

function toEntry(entry: Dirent): DirectoryEntry {
  return { name: entry.name, kind: kindOf(entry) }
}

interface KindTests {
  isFile(): boolean
  isDirectory(): boolean
  isSymbolicLink(): boolean
  isFIFO(): boolean
}

function kindOf(entry: KindTests): FileKind {
  if (entry.isFile()) return 'file'
  if (entry.isDirectory()) return 'directory'
  if (entry.isSymbolicLink()) return 'symlink'
  return entry.isFIFO() ? 'fifo' : 'other'
}
