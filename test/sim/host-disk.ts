/**
 * The disk of a machine whose logs an agent follows: names, inodes that are used again, birth times, descriptors. What
 * applications do to it happens at once; what the agent sees of it comes through `HostFiles`. Nothing here is about
 * durability: agents write nothing.
 */
import type { DirectoryEntry, FileStat } from '../../shared/system.ts'
import { Incarnation } from './content.ts'

export interface HostNode {
  readonly inode: number
  readonly birthtimeNs: bigint
  incarnation: Incarnation
  mtimeMs: number
  names: number
  descriptors: number
  /** Lives of the agents that hold a descriptor, with how many. */
  readonly holders: Map<string, number>
}

interface HostDirectory {
  readonly inode: number
  readonly entries: Map<string, HostNode>
  mtimeMs: number
}

export interface HostDiskOptions {
  readonly name: string
  readonly nowMs: () => number
  readonly wallMs: () => number
  readonly doesReuseInodes: boolean
  readonly hasBirthTimes: boolean
  /** Something below this path changed: what inotify would tell. */
  readonly onChange: (path: string) => void
}

const FIRST_INODE = 100

export class HostDisk {
  readonly name: string
  /** Every incarnation that there ever was on this disk. */
  readonly incarnations: Incarnation[] = []
  private readonly options: HostDiskOptions
  private readonly directories = new Map<string, HostDirectory>()
  private readonly usedInodes = new Set<number>()
  private nextInode = FIRST_INODE
  private born = 0

  constructor(options: HostDiskOptions) {
    this.name = options.name
    this.options = options
  }

  makeDirectory(path: string): void {
    if (!this.directories.has(path)) this.directories.set(path, { inode: this.takeInode(), entries: new Map(), mtimeMs: this.options.wallMs() })
  }

  /** A new file under a name that may belong to another one so far. */
  create(path: string, copyOf?: Incarnation): HostNode {
    const inode = this.takeInode()
    const birthMs = Math.floor(this.options.wallMs() / 4) * 4
    const node: HostNode = {
      inode,
      // Kernels stamp with the time of the last tick.
      birthtimeNs: this.options.hasBirthTimes ? BigInt(birthMs) * 1_000_000n : 0n,
      incarnation: this.beginIncarnation(path, inode, copyOf),
      mtimeMs: this.options.wallMs(), names: 0, descriptors: 0, holders: new Map(),
    }
    this.link(path, node)
    return node
  }

  at(path: string): HostNode | undefined {
    const { directory, name } = this.parent(path)
    return directory.entries.get(name)
  }

  append(node: HostNode, bytes: Uint8Array): void {
    this.writeAt(node, node.incarnation.size, bytes)
  }

  writeAt(node: HostNode, position: number, bytes: Uint8Array): void {
    node.incarnation.write(position, bytes)
    node.incarnation.lastWriteMs = this.options.nowMs()
    node.mtimeMs = this.options.wallMs()
    const path = this.pathOf(node)
    if (path !== undefined) this.options.onChange(path)
  }

  truncate(node: HostNode): void {
    node.incarnation.ending = { kind: 'truncated', atMs: this.options.nowMs() }
    const { openedBy } = node.incarnation
    node.incarnation = this.beginIncarnation(this.pathOf(node) ?? node.incarnation.name, node.inode, undefined)
    for (const life of node.holders.keys()) if (openedBy.has(life)) node.incarnation.openedBy.add(life)
    node.mtimeMs = this.options.wallMs()
    const path = this.pathOf(node)
    if (path !== undefined) this.options.onChange(path)
  }

  rename(from: string, to: string): void {
    const source = this.parent(from)
    const node = source.directory.entries.get(source.name)
    if (node === undefined) throw new Error(`nothing at ${from}`)
    source.directory.entries.delete(source.name)
    source.directory.mtimeMs = this.options.wallMs()
    node.names -= 1
    this.link(to, node)
    this.options.onChange(from)
  }

  remove(path: string): void {
    const { directory, name } = this.parent(path)
    const node = directory.entries.get(name)
    if (node === undefined) throw new Error(`nothing at ${path}`)
    directory.entries.delete(name)
    directory.mtimeMs = this.options.wallMs()
    this.unlinked(node)
    this.options.onChange(path)
  }

  stat(path: string): FileStat | undefined {
    const directory = this.directories.get(path)
    if (directory !== undefined) {
      return {
        kind: 'directory', size: 4096, inode: BigInt(directory.inode), device: 1n, birthtimeNs: 0n,
        mtimeMs: directory.mtimeMs, ctimeMs: directory.mtimeMs, linkCount: 2, mode: 0o755,
      }
    }
    const slash = path.lastIndexOf('/')
    const node = this.directories.get(path.slice(0, slash))?.entries.get(path.slice(slash + 1))
    return node === undefined ? undefined : statOf(node)
  }

  list(path: string): DirectoryEntry[] | undefined {
    const directory = this.directories.get(path)
    if (directory === undefined) return undefined
    const below = [...this.directories.keys()].filter((other) => other.startsWith(`${path}/`) && !other.includes('/', path.length + 1))
    return [
      ...below.map((other) => ({ name: other.slice(path.length + 1), kind: 'directory' as const })),
      ...[...directory.entries.keys()].map((name) => ({ name, kind: 'file' as const })),
    ]
  }

  /** Paths in a fixed order. */
  files(): { readonly path: string; readonly node: HostNode }[] {
    return [...this.directories].flatMap(([path, { entries }]) => [...entries].map(([name, node]) => ({ path: `${path}/${name}`, node })))
  }

  hold(node: HostNode, life: string, path: string): void {
    node.descriptors += 1
    node.holders.set(life, (node.holders.get(life) ?? 0) + 1)
    if (path.endsWith('.log')) node.incarnation.openedBy.add(life)
  }

  letGo(node: HostNode, life: string): void {
    node.descriptors -= 1
    const left = (node.holders.get(life) ?? 1) - 1
    if (left > 0) node.holders.set(life, left)
    else node.holders.delete(life)
    this.freeIfUnused(node)
  }

  /** The process is dead: its descriptors are closed. */
  releaseAll(life: string, nodes: Iterable<HostNode>): void {
    for (const node of nodes) while (node.holders.has(life)) this.letGo(node, life)
  }

  /** The machine is cloned: the same names, inodes and bytes, on a disk of its own. */
  copyFrom(other: HostDisk): void {
    this.nextInode = other.nextInode
    for (const inode of other.usedInodes) this.usedInodes.add(inode)
    for (const [path, directory] of other.directories) {
      const entries = new Map<string, HostNode>()
      for (const [name, node] of directory.entries) {
        const incarnation = this.beginIncarnation(`${path}/${name}`, node.inode, node.incarnation)
        incarnation.write(0, node.incarnation.view())
        entries.set(name, { ...node, incarnation, descriptors: 0, holders: new Map() })
      }
      this.directories.set(path, { ...directory, entries })
    }
  }

  private beginIncarnation(path: string, inode: number, copyOf: Incarnation | undefined): Incarnation {
    this.born += 1
    const incarnation = new Incarnation({
      name: `${this.name}:${path}#${this.born}`, inode, nowMs: this.options.nowMs(), ...(copyOf === undefined ? {} : { copyOf }),
    })
    this.incarnations.push(incarnation)
    return incarnation
  }

  private link(path: string, node: HostNode): void {
    const { directory, name } = this.parent(path)
    const replaced = directory.entries.get(name)
    directory.entries.set(name, node)
    directory.mtimeMs = this.options.wallMs()
    node.names += 1
    if (replaced !== undefined && replaced !== node) this.unlinked(replaced)
    this.options.onChange(path)
  }

  private unlinked(node: HostNode): void {
    node.names -= 1
    if (node.names === 0) node.incarnation.ending = { kind: 'removed', atMs: this.options.nowMs(), heldBy: [...node.holders.keys()] }
    this.freeIfUnused(node)
  }

  private freeIfUnused(node: HostNode): void {
    if (node.names === 0 && node.descriptors === 0) this.usedInodes.delete(node.inode)
  }

  private takeInode(): number {
    let inode = this.nextInode
    if (this.options.doesReuseInodes) {
      inode = FIRST_INODE
      while (this.usedInodes.has(inode)) inode += 1
    } else this.nextInode += 1
    this.usedInodes.add(inode)
    return inode
  }

  private pathOf(node: HostNode): string | undefined {
    for (const [path, { entries }] of this.directories) for (const [name, other] of entries) if (other === node) return `${path}/${name}`
    return undefined
  }

  private parent(path: string): { directory: HostDirectory; name: string } {
    const slash = path.lastIndexOf('/')
    const directory = this.directories.get(path.slice(0, slash))
    if (directory === undefined) throw new Error(`no directory for ${path}`)
    return { directory, name: path.slice(slash + 1) }
  }
}

export function statOf(node: HostNode): FileStat {
  return {
    kind: 'file', size: node.incarnation.size, inode: BigInt(node.inode), device: 1n, birthtimeNs: node.birthtimeNs,
    mtimeMs: node.mtimeMs, ctimeMs: node.mtimeMs, linkCount: node.names, mode: 0o640,
  }
}
