/**
 * The state of a simulated disk: what the running system sees, and apart from it what would survive a power cut. File
 * contents become durable by a sync of the file, names by a sync of their directory, nothing by itself. Operations are
 * plain data, so that a recorded list can be replayed up to any point. sim-fs.ts puts the FileSystem interface on top.
 *
 * Stricter than ext4 on purpose: a rename or a new name is not durable because the file was synced, and unsynced
 * directory changes may survive in any subset (ALICE, OSDI 2014).
 */
export type DiskOperation =
  | { readonly kind: 'create'; readonly directory: number; readonly name: string; readonly inode: number; readonly isDirectory: boolean; readonly birthMs: number }
  | { readonly kind: 'write'; readonly inode: number; readonly position: number; readonly bytes: Buffer }
  | { readonly kind: 'truncate'; readonly inode: number; readonly size: number }
  | { readonly kind: 'syncFile'; readonly inode: number }
  /** A sync that failed: the kernel marks the pages clean, so what was pending never reaches the disk. */
  | { readonly kind: 'loseFile'; readonly inode: number }
  | { readonly kind: 'syncDirectory'; readonly inode: number }
  | { readonly kind: 'unlink'; readonly directory: number; readonly name: string }
  | { readonly kind: 'rename'; readonly fromDirectory: number; readonly fromName: string; readonly toDirectory: number; readonly toName: string }

type FileChange = Extract<DiskOperation, { kind: 'write' | 'truncate' }>
interface NameChange {
  readonly name: string
  /** What the name stands for afterwards; undefined = nothing. */
  readonly inode: number | undefined
  /** Changes of one rename inside one directory go together. */
  readonly group: number
}

export interface SimFile {
  readonly kind: 'file'
  readonly inode: number
  readonly birthMs: number
  live: Content
  synced: Content
  pending: FileChange[]
}
export interface SimDirectory {
  readonly kind: 'directory'
  readonly inode: number
  readonly birthMs: number
  live: Map<string, number>
  synced: Map<string, number>
  pending: NameChange[]
}

/** Bytes that can grow. */
export class Content {
  private buffer = Buffer.alloc(0)
  size = 0

  write(position: number, bytes: Uint8Array): void {
    this.resize(Math.max(this.size, position + bytes.length))
    this.buffer.set(bytes, position)
  }

  resize(size: number): void {
    if (size > this.buffer.length) {
      const grown = Buffer.alloc(Math.max(size, this.buffer.length * 2))
      this.buffer.copy(grown, 0, 0, this.size)
      this.buffer = grown
    }
    if (size < this.size) this.buffer.fill(0, size, this.size)
    this.size = size
  }

  view(): Buffer {
    return this.buffer.subarray(0, this.size)
  }

  clone(): Content {
    const copy = new Content()
    copy.write(0, this.view())
    return copy
  }
}

export interface CrashChoice {
  /** What a power cut does to one unsynced change of a file. */
  file(change: FileChange): 'drop' | 'keep' | 'tear' | 'zeros'
  /** Whether one unsynced change of a directory survives. */
  name(change: NameChange): boolean
  /** In [0, 1): where a torn write ends. */
  fraction(): number
}

export const ROOT_INODE = 1

export class SimDisk {
  readonly inodes = new Map<number, SimFile | SimDirectory>()
  private groups = 0

  constructor() {
    const empty = (): Map<string, number> => new Map()
    this.inodes.set(ROOT_INODE, { kind: 'directory', inode: ROOT_INODE, birthMs: 0, live: empty(), synced: empty(), pending: [] })
  }

  clone(): SimDisk {
    const copy = new SimDisk()
    copy.groups = this.groups
    for (const [inode, node] of this.inodes) {
      copy.inodes.set(
        inode,
        node.kind === 'file'
          ? { ...node, live: node.live.clone(), synced: node.synced.clone(), pending: [...node.pending] }
          : { ...node, live: new Map(node.live), synced: new Map(node.synced), pending: [...node.pending] },
      )
    }
    return copy
  }

  apply(operation: DiskOperation): void {
    switch (operation.kind) {
      case 'create':
        return this.create(operation)
      case 'write': {
        const file = this.file(operation.inode)
        file.live.write(operation.position, operation.bytes)
        file.pending.push(operation)
        return
      }
      case 'truncate': {
        const file = this.file(operation.inode)
        file.live.resize(operation.size)
        file.pending.push(operation)
        return
      }
      case 'syncFile': {
        const file = this.file(operation.inode)
        for (const change of file.pending) applyChange(file.synced, change)
        file.pending = []
        return
      }
      case 'loseFile':
        this.file(operation.inode).pending = []
        return
      case 'syncDirectory': {
        const directory = this.directory(operation.inode)
        directory.synced = new Map(directory.live)
        directory.pending = []
        return
      }
      case 'unlink':
        return this.change(operation.directory, [{ name: operation.name, inode: undefined }])
      case 'rename':
        return this.rename(operation)
    }
  }

  file(inode: number): SimFile {
    const found = this.inodes.get(inode)
    if (found?.kind !== 'file') throw new Error(`inode ${inode} is not a file`)
    return found
  }

  directory(inode: number): SimDirectory {
    const found = this.inodes.get(inode)
    if (found?.kind !== 'directory') throw new Error(`inode ${inode} is not a directory`)
    return found
  }

  linkCount(inode: number): number {
    let count = 0
    for (const node of this.inodes.values()) {
      if (node.kind === 'directory') for (const child of node.live.values()) if (child === inode) count += 1
    }
    return count
  }

  usedBytes(): number {
    let bytes = 0
    for (const node of this.inodes.values()) if (node.kind === 'file') bytes += node.live.size
    return bytes
  }

  /** Power cut: what was not synced is lost, or survives in part, as `choice` says. */
  crash(choice: CrashChoice): void {
    for (const node of this.inodes.values()) {
      if (node.kind === 'file') crashFile(node, choice)
      else crashDirectory(node, choice)
    }
    this.sweep()
  }

  /** Forgets inodes that no name leads to: after a crash, or when the last handle is closed. */
  sweep(held: ReadonlySet<number> = new Set()): void {
    const reached = new Set<number>([ROOT_INODE, ...held])
    const stack = [ROOT_INODE]
    for (let inode = stack.pop(); inode !== undefined; inode = stack.pop()) {
      const node = this.inodes.get(inode)
      if (node?.kind !== 'directory') continue
      for (const names of [node.live, node.synced]) {
        for (const child of names.values()) {
          if (!reached.has(child)) stack.push(child)
          reached.add(child)
        }
      }
      for (const change of node.pending) if (change.inode !== undefined) reached.add(change.inode)
    }
    for (const inode of this.inodes.keys()) if (!reached.has(inode)) this.inodes.delete(inode)
  }

  private create(operation: Extract<DiskOperation, { kind: 'create' }>): void {
    const { inode, birthMs } = operation
    this.inodes.set(
      inode,
      operation.isDirectory
        ? { kind: 'directory', inode, birthMs, live: new Map(), synced: new Map(), pending: [] }
        : { kind: 'file', inode, birthMs, live: new Content(), synced: new Content(), pending: [] },
    )
    this.change(operation.directory, [{ name: operation.name, inode }])
  }

  private rename(operation: Extract<DiskOperation, { kind: 'rename' }>): void {
    const inode = this.directory(operation.fromDirectory).live.get(operation.fromName)
    if (inode === undefined) throw new Error(`rename of a missing name ${operation.fromName}`)
    const gone = { name: operation.fromName, inode: undefined }
    const come = { name: operation.toName, inode }
    if (operation.fromDirectory === operation.toDirectory) return this.change(operation.fromDirectory, [gone, come])
    this.change(operation.toDirectory, [come])
    this.change(operation.fromDirectory, [gone])
  }

  private change(inode: number, changes: readonly Omit<NameChange, 'group'>[]): void {
    const directory = this.directory(inode)
    this.groups += 1
    for (const change of changes) {
      setName(directory.live, change)
      directory.pending.push({ ...change, group: this.groups })
    }
  }
}

function setName(names: Map<string, number>, change: Omit<NameChange, 'group'>): void {
  if (change.inode === undefined) names.delete(change.name)
  else names.set(change.name, change.inode)
}

function applyChange(content: Content, change: FileChange): void {
  if (change.kind === 'write') content.write(change.position, change.bytes)
  else content.resize(change.size)
}

function crashFile(file: SimFile, choice: CrashChoice): void {
  for (const change of file.pending) {
    const fate = choice.file(change)
    if (fate === 'keep') applyChange(file.synced, change)
    if (change.kind !== 'write') continue
    const end = change.position + change.bytes.length
    // Size reached the disk, contents did not: ext4 and xfs show zeros there.
    if (fate === 'zeros') file.synced.resize(Math.max(file.synced.size, end))
    if (fate === 'tear') file.synced.write(change.position, change.bytes.subarray(0, Math.floor(change.bytes.length * choice.fraction())))
  }
  file.pending = []
  file.live = file.synced.clone()
}

function crashDirectory(directory: SimDirectory, choice: CrashChoice): void {
  let group = -1
  let survives = false
  for (const change of directory.pending) {
    if (change.group !== group) survives = choice.name(change)
    group = change.group
    if (survives) setName(directory.synced, change)
  }
  directory.pending = []
  directory.live = new Map(directory.synced)
}
