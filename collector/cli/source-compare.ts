/**
 * Compares rebuilt bytes with the source file, where it stands on this machine. The file is found by its inode: under
 * its path, or among its siblings when it was rotated away. Reads only; a file that is not there is no difference.
 * One stream at a time per SourceFile; at most `OPEN_MAX` files are open over all.
 */
import { errnoOf } from '../../shared/errors.ts'
import { parentOf, readFully } from '../../shared/files.ts'
import type { FileHandle, FileStat, FileSystem } from '../../shared/system.ts'
import type { StreamInfo } from '../../shared/wire.ts'

const OPEN_MAX = 64
const SIBLINGS_MAX = 10_000

export type SourceState =
  | { readonly kind: 'present'; readonly path: string; readonly size: number }
  /** The stream's host is another machine. */
  | { readonly kind: 'elsewhere' }
  /** No file with this inode is here any more. */
  | { readonly kind: 'gone' }
  /** A later generation of this inode says that its contents were replaced. */
  | { readonly kind: 'replaced' }
  | { readonly kind: 'unreadable'; readonly reason: string }

/**
 * The newest generation of each file. Contents change from one to the next even where the agent did not see it happen,
 * and so did not say that the older one is superseded: after a restart behind a copytruncate.
 */
export class Generations {
  private readonly newest = new Map<string, number>()

  note(stream: StreamInfo): void {
    const key = fileKeyOf(stream)
    this.newest.set(key, Math.max(this.newest.get(key) ?? 0, stream.generation))
  }

  isNewest(stream: StreamInfo): boolean {
    return stream.generation >= (this.newest.get(fileKeyOf(stream)) ?? 0)
  }
}

/** With the path, so that a cloned machine's file stays a file of its own where it has another one. */
function fileKeyOf({ topic, agentId, host, keyPath, inode, birthtimeNs }: StreamInfo): string {
  return JSON.stringify([topic, agentId, host, keyPath, inode, birthtimeNs])
}

/** Where a stream's source is now. */
export async function findSource(fs: FileSystem, stream: StreamInfo): Promise<SourceState> {
  if (stream.superseded) return { kind: 'replaced' }
  try {
    const direct = await statIfSame(fs, stream.path, stream)
    const found: SourceState = direct === undefined ? await findSibling(fs, stream) : { kind: 'present', path: stream.path, size: direct.size }
    // Cut to nothing, as copytruncate does: there is nothing to compare, and what comes next is another generation.
    return found.kind === 'present' && found.size === 0 && stream.position > 0 ? { kind: 'replaced' } : found
  } catch (error) {
    return { kind: 'unreadable', reason: errnoOf(error) ?? String(error) }
  }
}

async function findSibling(fs: FileSystem, stream: StreamInfo): Promise<SourceState> {
  const directory = parentOf(stream.path)
  if ((await fs.stat(directory, { followSymlinks: true }))?.kind !== 'directory') return { kind: 'gone' }
  const entries = await fs.list(directory)
  for (const entry of entries.slice(0, SIBLINGS_MAX)) {
    if (entry.kind !== 'file') continue
    const path = directory === '/' ? `/${entry.name}` : `${directory}/${entry.name}`
    const stat = await statIfSame(fs, path, stream)
    if (stat !== undefined) return { kind: 'present', path, size: stat.size }
  }
  return { kind: 'gone' }
}

/** The same inode, and the same birth time where both sides know one: inodes are used again. */
async function statIfSame(fs: FileSystem, path: string, stream: StreamInfo): Promise<FileStat | undefined> {
  const stat = await fs.stat(path, { followSymlinks: true })
  if (stat?.kind !== 'file' || stat.inode.toString() !== stream.inode) return undefined
  if (stream.birthtimeNs !== '0' && stat.birthtimeNs !== 0n && stat.birthtimeNs.toString() !== stream.birthtimeNs) return undefined
  return stat
}

export interface ByteRange {
  readonly from: number
  readonly to: number
}

/** Differences of one file, neighbouring ones joined, the first few kept. */
export class SourceDifferences {
  readonly ranges: ByteRange[] = []
  /** Ranges that were not kept. */
  more = 0
  private static readonly rangesMax = 8

  add(range: ByteRange): void {
    const last = this.ranges.at(-1)
    if (last !== undefined && last.to === range.from) this.ranges[this.ranges.length - 1] = { from: last.from, to: range.to }
    else if (this.ranges.length < SourceDifferences.rangesMax) this.ranges.push(range)
    else this.more += 1
  }
}

/** Opened sources of the streams that a walk meets, the least recently used one closed when there are too many. */
export class SourceReader {
  private readonly fs: FileSystem
  private readonly handles = new Map<string, FileHandle>()
  private target: Buffer = Buffer.alloc(64 * 1024)

  constructor(fs: FileSystem) {
    this.fs = fs
  }

  /** Where `content`, which is said to stand at `start`, differs from the file; undefined when it does not. */
  async differs(path: string, start: number, content: Buffer): Promise<ByteRange | undefined> {
    if (this.target.length < content.length) this.target = Buffer.alloc(content.length)
    const wanted = this.target.subarray(0, content.length)
    const count = await readFully(await this.open(path), wanted, start)
    const found = wanted.subarray(0, count)
    if (found.equals(content)) return undefined
    let from = 0
    while (from < found.length && found[from] === content[from]) from += 1
    let to = content.length
    if (found.length === content.length) while (to > from + 1 && found[to - 1] === content[to - 1]) to -= 1
    return { from: start + from, to: start + to }
  }

  async close(): Promise<void> {
    for (const handle of this.handles.values()) await handle.close()
    this.handles.clear()
  }

  private async open(path: string): Promise<FileHandle> {
    const known = this.handles.get(path)
    const handle = known ?? (await this.fs.open(path, 'read'))
    this.handles.delete(path)
    this.handles.set(path, handle)
    const oldest = this.handles.size > OPEN_MAX ? this.handles.entries().next().value : undefined
    if (oldest !== undefined) {
      this.handles.delete(oldest[0])
      await oldest[1].close()
    }
    return handle
  }
}
