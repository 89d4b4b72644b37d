/**
 * A collector's disk as one life of it sees it: the simulated disk with time between asking and answering, so that a
 * crash falls between any two steps, before or after their effect. It also watches the caller: a buffer given to a write
 * must not change before the write is done (I13).
 */
import { crc32c } from '../../shared/crc32c.ts'
import type { DirectoryEntry, FileHandle, FileLock, FileStat, FileSystem, OpenMode } from '../../shared/system.ts'
import type { SimFileSystem } from '../sim-fs.ts'
import type { Dice } from './dice.ts'
import type { Life } from './life.ts'
import type { Trace } from './trace.ts'

export interface SlowDiskOptions {
  readonly base: SimFileSystem
  readonly life: Life
  readonly dice: Dice
  readonly trace: Trace
  /** Average time of a sync. */
  readonly syncMs: () => number
}

export class SlowDisk implements FileSystem {
  private readonly options: SlowDiskOptions

  constructor(options: SlowDiskOptions) {
    this.options = options
  }

  async open(path: string, mode: OpenMode): Promise<FileHandle> {
    const handle = await this.quick(() => this.options.base.open(path, mode))
    return this.wrap(handle, path)
  }

  stat(path: string, options?: { followSymlinks?: boolean }): Promise<FileStat | undefined> {
    return this.quick(() => this.options.base.stat(path, options))
  }

  list(path: string): Promise<DirectoryEntry[]> {
    return this.quick(() => this.options.base.list(path))
  }

  makeDirectory(path: string): Promise<void> {
    return this.quick(() => this.options.base.makeDirectory(path))
  }

  rename(from: string, to: string): Promise<void> {
    return this.quick(() => this.options.base.rename(from, to))
  }

  remove(path: string): Promise<void> {
    return this.quick(() => this.options.base.remove(path))
  }

  removeDirectory(path: string): Promise<void> {
    return this.quick(() => this.options.base.removeDirectory(path))
  }

  syncDirectory(path: string): Promise<void> {
    return this.slowly(() => this.options.base.syncDirectory(path))
  }

  realPath(path: string): Promise<string> {
    return this.quick(() => this.options.base.realPath(path))
  }

  freeBytes(path: string): Promise<number> {
    return this.quick(() => this.options.base.freeBytes(path))
  }

  lock(path: string): Promise<FileLock> {
    return this.quick(() => this.options.base.lock(path))
  }

  private wrap(handle: FileHandle, path: string): FileHandle {
    return {
      read: (target, range) => this.quick(() => handle.read(target, range)),
      write: (buffers, position) => this.write({ handle, path }, buffers, position),
      stat: () => this.quick(() => handle.stat()),
      datasync: () => this.slowly(() => handle.datasync()),
      sync: () => this.slowly(() => handle.sync()),
      truncate: (size) => this.quick(() => handle.truncate(size)),
      close: () => this.quick(() => handle.close()),
    }
  }

  private async write(file: { handle: FileHandle; path: string }, buffers: readonly Uint8Array[], position: number): Promise<number> {
    const { trace } = this.options
    const before = checksum(buffers)
    const look = (): void => {
      if (checksum(buffers) !== before) trace.violation('I13', `bytes on their way to ${file.path} at ${position} changed`)
    }
    const written = await this.quick(() => {
      look()
      return file.handle.write(buffers, position)
    })
    look()
    return written
  }

  /** The effect comes somewhere between asking and answer. */
  private async quick<T>(work: () => Promise<T>): Promise<T> {
    const { life, dice } = this.options
    if (dice.isHit(0.15)) await life.pass(dice.gap(0.5))
    const result = await life.hold(work())
    if (dice.isHit(0.15)) await life.pass(dice.gap(0.5))
    return result
  }

  /** A sync covers what was written before it was asked for; half of the time it takes effect at once, half at its end. */
  private async slowly<T>(work: () => Promise<T>): Promise<T> {
    const { life, dice, syncMs } = this.options
    const takesMs = dice.gap(syncMs())
    const isEarly = dice.isHit(0.5)
    if (!isEarly) await life.pass(takesMs)
    const result = await life.hold(work())
    if (isEarly) await life.pass(takesMs)
    return result
  }
}

function checksum(buffers: readonly Uint8Array[]): number {
  let sum = 0
  for (const buffer of buffers) sum = crc32c(buffer, sum)
  return sum
}
