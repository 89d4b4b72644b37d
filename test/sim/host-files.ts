/**
 * The host's disk as one life of an agent sees it: FileSystem with time between the asking and the answer, short reads
 * and errors that pass. It reads only; an agent that wants to write is a bug.
 */
import type { FileHandle, FileSystem } from '../../shared/system.ts'
import type { Dice } from './dice.ts'
import { statOf, type HostDisk, type HostNode } from './host-disk.ts'
import type { Life } from './life.ts'

export interface HostFilesOptions {
  readonly disk: HostDisk
  readonly life: Life
  readonly dice: Dice
  readonly hasShortReads: boolean
  /** Chance of an error that passes, in each call. */
  readonly errorChance: () => number
}

const DESCRIPTORS_MAX = 10_000

export class HostFiles implements FileSystem {
  private readonly options: HostFilesOptions
  private readonly opened = new Set<HostNode>()

  constructor(options: HostFilesOptions) {
    this.options = options
    options.life.onDeath(() => options.disk.releaseAll(options.life.name, this.opened))
  }

  async open(path: string, mode: string): Promise<FileHandle> {
    if (mode !== 'readSource' && mode !== 'read') throw new Error(`an agent opened ${path} for ${mode}`)
    await this.work('open', path)
    const { disk, life } = this.options
    if (disk.list(path) !== undefined) throw errno('EISDIR', path)
    const node = disk.stat(path) === undefined ? undefined : disk.at(path)
    if (node === undefined) throw errno('ENOENT', path)
    if (node.descriptors >= DESCRIPTORS_MAX) throw errno('EMFILE', path)
    disk.hold(node, life.name, path)
    this.opened.add(node)
    return life.hold(this.later(this.handle(node, path)))
  }

  async stat(path: string): ReturnType<FileSystem['stat']> {
    await this.work('stat', path)
    return this.options.disk.stat(path)
  }

  async list(path: string): ReturnType<FileSystem['list']> {
    await this.work('list', path)
    const entries = this.options.disk.list(path)
    if (entries === undefined) throw errno('ENOENT', path)
    return entries
  }

  async realPath(path: string): Promise<string> {
    await this.work('realPath', path)
    return path
  }

  makeDirectory = (path: string): Promise<void> => refuse(path)
  rename = (path: string): Promise<void> => refuse(path)
  remove = (path: string): Promise<void> => refuse(path)
  removeDirectory = (path: string): Promise<void> => refuse(path)
  syncDirectory = (path: string): Promise<void> => refuse(path)
  freeBytes = (path: string): Promise<number> => refuse(path)
  lock = (path: string): Promise<never> => refuse(path)

  private handle(node: HostNode, path: string): FileHandle {
    const { disk, life, dice } = this.options
    let isClosed = false
    const check = (): void => {
      if (isClosed) throw errno('EBADF', path)
    }
    return {
      read: async (target, { offset, length, position }) => {
        check()
        await this.work('read', path)
        const wanted = this.options.hasShortReads && length > 1 && dice.isHit(0.1) ? dice.between(1, length) : length
        const bytes = node.incarnation.view().subarray(position, position + wanted)
        target.set(bytes, offset)
        return life.hold(this.later(bytes.length))
      },
      stat: async () => {
        check()
        await this.work('stat', path)
        return statOf(node)
      },
      close: async () => {
        if (isClosed) return
        isClosed = true
        disk.letGo(node, life.name)
        await this.work('close', path)
      },
      write: () => refuse(path),
      datasync: () => refuse(path),
      sync: () => refuse(path),
      truncate: () => refuse(path),
    }
  }

  /** Mostly at once, as from the page cache; sometimes slowly. */
  private async work(kind: string, path: string): Promise<void> {
    const { dice, life, errorChance } = this.options
    const isSlow = dice.isHit(kind === 'read' || kind === 'open' ? 0.3 : 0.03)
    if (isSlow) await life.pass(dice.gap(2))
    else await life.hold(Promise.resolve())
    const chance = errorChance()
    if (chance > 0 && kind !== 'close' && dice.isHit(chance)) throw errno('EIO', path)
  }

  private async later<T>(value: T): Promise<T> {
    const { dice, life } = this.options
    if (dice.isHit(0.1)) await life.pass(dice.gap(1))
    return value
  }
}

function refuse(path: string): Promise<never> {
  return Promise.reject(new Error(`an agent wants to change ${path}`))
}

function errno(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code })
}
