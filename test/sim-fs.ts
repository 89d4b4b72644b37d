/**
 * A simulated file system: FileSystem over a SimDisk, with power cuts, recorded operations and injected faults.
 *
 * - `crash()` loses what was not synced; with a seed it keeps or tears a random part of it.
 * - `kill()` is a kill -9: the page cache stays, still unsynced; handles and locks are gone.
 * - `operations` is everything that changed the disk; `SimFileSystem.after(operations, k)` is the disk after the first k.
 * - `inject` decides about each call: an errno, a short write, or nothing.
 * - `holdSyncs()` keeps syncs waiting until released, so that a test can see what gathers behind one.
 */
import { AppError } from '../shared/errors.ts'
import type { DirectoryEntry, FileHandle, FileLock, FileStat, FileSystem, OpenMode } from '../shared/system.ts'
import { ROOT_INODE, SimDisk, type CrashChoice, type DiskOperation, type SimDirectory } from './sim-disk.ts'


export interface SimCall {
  readonly kind: 'open' | 'read' | 'write' | 'sync' | 'truncate' | 'list' | 'makeDirectory' | 'rename' | 'remove' | 'syncDirectory'
  readonly path: string
  /** Bytes that a write wants to write. */
  readonly bytes: number
}

/** `written`: a write takes only so many bytes and reports no error, as a full disk may do. */
export type Fault = { readonly errno: string } | { readonly written: number }
export type FaultInjector = (call: SimCall) => Fault | undefined

export interface SimFileSystemOptions {
  /** Bytes that all files together may hold. Default: no limit. */
  readonly capacityBytes?: number
  /** For birth times. Default: a counter. */
  readonly nowMs?: () => number
}

interface OpenFile {
  readonly inode: number
  readonly path: string
  readonly mode: OpenMode
  readonly life: number
  isClosed: boolean
  hasFailedSync: boolean
}

export class SimFileSystem implements FileSystem {
  readonly operations: DiskOperation[] = []
  inject: FaultInjector | undefined
  capacityBytes: number
  private disk: SimDisk
  private isLying = false
  private readonly nowMs: () => number
  private nextInode = ROOT_INODE + 1
  /** Rises at each crash or kill: handles and locks of an earlier life are dead. */
  private life = 0
  private readonly locks = new Map<string, number>()
  private readonly openCounts = new Map<number, number>()
  private gate: Promise<void> | undefined

  constructor(options: SimFileSystemOptions = {}, disk: SimDisk = new SimDisk()) {
    this.capacityBytes = options.capacityBytes ?? Number.MAX_SAFE_INTEGER
    let ticks = 0
    this.nowMs = options.nowMs ?? (() => (ticks += 1))
    this.disk = disk
    for (const inode of disk.inodes.keys()) this.nextInode = Math.max(this.nextInode, inode + 1)
  }

  /** The disk as it was after the first `count` of these operations. */
  static after(operations: readonly DiskOperation[], count: number, options: SimFileSystemOptions = {}): SimFileSystem {
    const disk = new SimDisk()
    for (const operation of operations.slice(0, count)) disk.apply(operation)
    return new SimFileSystem(options, disk)
  }

  /** The same disk, synced and unsynced state apart as here, with nothing open and nothing recorded. */
  clone(): SimFileSystem {
    return new SimFileSystem({ nowMs: this.nowMs, capacityBytes: this.capacityBytes }, this.disk.clone())
  }

  /** Another state of this disk comes back from a backup. */
  restoreFrom(copy: SimFileSystem): void {
    this.kill()
    this.disk = copy.disk.clone()
    this.nextInode = Math.max(this.nextInode, copy.nextInode)
    this.operations.length = 0
  }

  /** Power cut. Without a seed all that was not synced is lost; with one a random part of it survives, torn or zeroed. */
  crash(options: { seed?: number } = {}): void {
    this.kill()
    this.disk.crash(options.seed === undefined ? dropAll : someSurvive(seededRandom(options.seed)))
    this.operations.length = 0
    this.isLying = false
  }

  /** From now on a sync only says that it was done; what was there before is safe. Ends with `crash`, or with `lie(false)`, which makes all true. */
  lie(isLying: boolean): void {
    for (const [inode, node] of this.disk.inodes) this.record({ kind: node.kind === 'file' ? 'syncFile' : 'syncDirectory', inode })
    this.isLying = isLying
  }

  get lies(): boolean {
    return this.isLying
  }

  /** kill -9: nothing is lost yet, and nothing became durable. */
  kill(): void {
    this.life += 1
    this.locks.clear()
    this.openCounts.clear()
  }

  /** Syncs wait until the answered function is called. */
  holdSyncs(): () => void {
    let release = (): void => undefined
    this.gate = new Promise((resolve) => {
      release = resolve
    })
    return () => {
      this.gate = undefined
      release()
    }
  }

  /** What a test puts there or looks at, without faults and without being recorded as the program's doing being unsynced. */
  putFile(path: string, bytes: Uint8Array): void {
    const parent = this.parentOf(path)
    const known = parent.directory.live.get(parent.name)
    const inode = known ?? this.createNode(parent, false)
    this.record({ kind: 'truncate', inode, size: 0 })
    this.record({ kind: 'write', inode, position: 0, bytes: Buffer.from(bytes) })
    this.record({ kind: 'syncFile', inode })
    this.record({ kind: 'syncDirectory', inode: parent.directory.inode })
  }

  getFile(path: string): Buffer | undefined {
    const inode = this.resolve(path)
    const node = inode === undefined ? undefined : this.disk.inodes.get(inode)
    return node?.kind === 'file' ? Buffer.from(node.live.view()) : undefined
  }

  /** Every file's path and contents, in order of path. */
  files(): Map<string, Buffer> {
    const out = new Map<string, Buffer>()
    const walk = (inode: number, path: string): void => {
      for (const [name, child] of [...this.disk.directory(inode).live].sort(([a], [b]) => (a < b ? -1 : 1))) {
        const node = this.disk.inodes.get(child)
        if (node?.kind === 'file') out.set(`${path}/${name}`, Buffer.from(node.live.view()))
        if (node?.kind === 'directory') walk(child, `${path}/${name}`)
      }
    }
    walk(ROOT_INODE, '')
    return out
  }

  async open(path: string, mode: OpenMode): Promise<FileHandle> {
    await this.enter({ kind: 'open', path, bytes: 0 })
    const parent = this.parentOf(path)
    let inode = parent.directory.live.get(parent.name)
    if (inode === undefined && (mode === 'read' || mode === 'readSource' || mode === 'readWrite')) throw errno('ENOENT', 'open', path)
    if (inode !== undefined && mode === 'create') throw errno('EEXIST', 'open', path)
    inode ??= this.createNode(parent, false)
    if (this.disk.inodes.get(inode)?.kind !== 'file') throw errno('EISDIR', 'open', path)
    if (mode === 'truncateWrite' && this.disk.file(inode).live.size > 0) this.record({ kind: 'truncate', inode, size: 0 })
    this.openCounts.set(inode, (this.openCounts.get(inode) ?? 0) + 1)
    return this.handle({ inode, path, mode, life: this.life, isClosed: false, hasFailedSync: false })
  }

  async stat(path: string, _options?: { followSymlinks?: boolean }): Promise<FileStat | undefined> {
    await Promise.resolve()
    const inode = this.resolve(path)
    return inode === undefined ? undefined : this.statOf(inode)
  }

  async list(path: string): Promise<DirectoryEntry[]> {
    await this.enter({ kind: 'list', path, bytes: 0 })
    const directory = this.directoryAt(path, 'scandir')
    return [...directory.live].map(([name, inode]) => ({ name, kind: this.disk.inodes.get(inode)?.kind ?? 'other' }))
  }

  async makeDirectory(path: string): Promise<void> {
    await this.enter({ kind: 'makeDirectory', path, bytes: 0 })
    let at = ''
    for (const name of namesOf(path)) {
      const parent = this.directoryAt(at, 'mkdir')
      if (!parent.live.has(name)) this.createNode({ directory: parent, name }, true)
      at = `${at}/${name}`
    }
    this.directoryAt(path, 'mkdir')
  }

  async rename(from: string, to: string): Promise<void> {
    await this.enter({ kind: 'rename', path: from, bytes: 0 })
    const source = this.parentOf(from)
    const target = this.parentOf(to)
    if (!source.directory.live.has(source.name)) throw errno('ENOENT', 'rename', from)
    this.record({
      kind: 'rename', fromDirectory: source.directory.inode, fromName: source.name, toDirectory: target.directory.inode, toName: target.name,
    })
  }

  async remove(path: string): Promise<void> {
    await this.enter({ kind: 'remove', path, bytes: 0 })
    const parent = this.parentOf(path)
    const inode = parent.directory.live.get(parent.name)
    if (inode === undefined) throw errno('ENOENT', 'unlink', path)
    if (this.disk.inodes.get(inode)?.kind === 'directory') throw errno('EISDIR', 'unlink', path)
    this.record({ kind: 'unlink', directory: parent.directory.inode, name: parent.name })
  }

  async removeDirectory(path: string): Promise<void> {
    await this.enter({ kind: 'remove', path, bytes: 0 })
    const parent = this.parentOf(path)
    if (this.directoryAt(path, 'rmdir').live.size > 0) throw errno('ENOTEMPTY', 'rmdir', path)
    this.record({ kind: 'unlink', directory: parent.directory.inode, name: parent.name })
  }

  async syncDirectory(path: string): Promise<void> {
    await this.enter({ kind: 'syncDirectory', path, bytes: 0 })
    const { inode } = this.directoryAt(path, 'fsync')
    if (!this.isLying) this.record({ kind: 'syncDirectory', inode })
  }

  async realPath(path: string): Promise<string> {
    await Promise.resolve()
    if (this.resolve(path) === undefined) throw errno('ENOENT', 'realpath', path)
    return `/${namesOf(path).join('/')}`
  }

  usedBytes(): number {
    return this.disk.usedBytes()
  }

  async freeBytes(_path: string): Promise<number> {
    await Promise.resolve()
    return Math.max(0, this.capacityBytes - this.disk.usedBytes())
  }

  async lock(path: string): Promise<FileLock> {
    await Promise.resolve()
    if (this.locks.has(path)) throw new AppError('LOCKED', `${path} is held by another process`)
    this.locks.set(path, this.life)
    const { life } = this
    return {
      release: async () => {
        await Promise.resolve()
        if (this.locks.get(path) === life) this.locks.delete(path)
      },
    }
  }

  private handle(file: OpenFile): FileHandle {
    const content = (): { size: number; view(): Buffer } => this.disk.file(file.inode).live
    const sync = async (): Promise<void> => {
      this.check(file)
      if (this.gate !== undefined) await this.gate
      if (file.hasFailedSync) throw new Error(`BUG in the code under test: ${file.path} is synced again after a failed sync`)
      const fault = this.inject?.({ kind: 'sync', path: file.path, bytes: 0 })
      await Promise.resolve()
      this.check(file)
      if (fault === undefined || !('errno' in fault)) return this.isLying ? undefined : this.record({ kind: 'syncFile', inode: file.inode })
      file.hasFailedSync = true
      this.record({ kind: 'loseFile', inode: file.inode })
      throw errno(fault.errno, 'fdatasync', file.path)
    }
    return {
      read: async (target, { offset, length, position }) => {
        this.check(file)
        await this.enter({ kind: 'read', path: file.path, bytes: length })
        this.check(file)
        const bytes = content().view().subarray(position, position + length)
        target.set(bytes, offset)
        return bytes.length
      },
      write: (buffers, position) => this.write(file, buffers, position),
      stat: async () => {
        await Promise.resolve()
        this.check(file)
        return this.statOf(file.inode)
      },
      datasync: sync,
      sync,
      truncate: async (size) => {
        this.checkWritable(file)
        await this.enter({ kind: 'truncate', path: file.path, bytes: 0 })
        this.checkWritable(file)
        this.record({ kind: 'truncate', inode: file.inode, size })
      },
      close: async () => {
        await Promise.resolve()
        if (file.isClosed || file.life !== this.life) return
        file.isClosed = true
        this.openCounts.set(file.inode, (this.openCounts.get(file.inode) ?? 1) - 1)
      },
    }
  }

  private async write(file: OpenFile, buffers: readonly Uint8Array[], position: number): Promise<number> {
    this.checkWritable(file)
    const bytes = Buffer.concat(buffers)
    const fault = this.inject?.({ kind: 'write', path: file.path, bytes: bytes.length })
    await Promise.resolve()
    this.checkWritable(file)
    if (fault !== undefined && 'errno' in fault) throw errno(fault.errno, 'write', file.path)
    const growth = Math.max(0, position + bytes.length - this.disk.file(file.inode).live.size)
    const room = Math.max(0, this.capacityBytes - this.disk.usedBytes())
    const fits = bytes.length - Math.max(0, growth - room)
    if (fits <= 0 && bytes.length > 0) throw errno('ENOSPC', 'write', file.path)
    const written = fault === undefined ? fits : Math.min(fits, fault.written)
    if (written > 0) this.record({ kind: 'write', inode: file.inode, position, bytes: bytes.subarray(0, written) })
    return written
  }

  private async enter(call: SimCall): Promise<void> {
    const { life } = this
    const fault = this.inject?.(call)
    await Promise.resolve()
    if (life !== this.life) throw errno('EIO', call.kind, `${call.path} (before the crash)`)
    if (fault !== undefined && 'errno' in fault) throw errno(fault.errno, call.kind, call.path)
  }

  private check(file: OpenFile): void {
    if (file.life !== this.life) throw errno('EIO', 'handle', `${file.path} (before the crash)`)
    if (file.isClosed) throw errno('EBADF', 'handle', file.path)
  }

  private checkWritable(file: OpenFile): void {
    this.check(file)
    if (file.mode === 'read' || file.mode === 'readSource') throw errno('EBADF', 'write', file.path)
  }

  private statOf(inode: number): FileStat {
    const node = this.disk.inodes.get(inode)
    if (node === undefined) throw errno('ENOENT', 'stat', `inode ${inode}`)
    return {
      kind: node.kind, size: node.kind === 'file' ? node.live.size : 0, inode: BigInt(inode), device: 1n,
      birthtimeNs: BigInt(Math.floor(node.birthMs)) * 1_000_000n, mtimeMs: node.birthMs, ctimeMs: node.birthMs,
      linkCount: this.disk.linkCount(inode), mode: 0o640,
    }
  }

  private createNode(parent: { directory: SimDirectory; name: string }, isDirectory: boolean): number {
    const inode = this.nextInode
    this.nextInode += 1
    this.record({ kind: 'create', directory: parent.directory.inode, name: parent.name, inode, isDirectory, birthMs: this.nowMs() })
    return inode
  }

  private record(operation: DiskOperation): void {
    this.operations.push(operation)
    this.disk.apply(operation)
    if (operation.kind !== 'unlink' && operation.kind !== 'rename') return
    this.disk.sweep(new Set([...this.openCounts].filter(([, count]) => count > 0).map(([inode]) => inode)))
  }

  private resolve(path: string): number | undefined {
    let inode: number | undefined = ROOT_INODE
    for (const name of namesOf(path)) {
      const node: unknown = inode === undefined ? undefined : this.disk.inodes.get(inode)
      inode = isDirectory(node) ? node.live.get(name) : undefined
    }
    return inode
  }

  private directoryAt(path: string, call: string): SimDirectory {
    const inode = this.resolve(path)
    const node = inode === undefined ? undefined : this.disk.inodes.get(inode)
    if (node === undefined) throw errno('ENOENT', call, path)
    if (node.kind !== 'directory') throw errno('ENOTDIR', call, path)
    return node
  }

  private parentOf(path: string): { directory: SimDirectory; name: string } {
    const names = namesOf(path)
    const name = names.pop()
    if (name === undefined) throw errno('EISDIR', 'open', path)
    return { directory: this.directoryAt(names.join('/'), 'open'), name }
  }
}

const dropAll: CrashChoice = { file: () => 'drop', name: () => false, fraction: () => 0 }

function someSurvive(random: () => number): CrashChoice {
  const fates = ['drop', 'keep', 'tear', 'zeros'] as const
  return {
    file: () => fates[Math.floor(random() * fates.length)] ?? 'drop',
    name: () => random() < 0.5,
    fraction: random,
  }
}

/** mulberry32: small, and the same everywhere. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000
  }
}

function isDirectory(node: unknown): node is SimDirectory {
  return typeof node === 'object' && node !== null && Reflect.get(node, 'kind') === 'directory'
}

function namesOf(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.')
}

function errno(code: string, call: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${call} '${path}'`), { code })
}
