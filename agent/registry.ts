/**
 * Every file that the agent follows and every stream that they ship into, found by file, by path and by stream. Takes in
 * what a sweep found; asks nobody. No I/O, no waiting.
 */
import { NO_TAIL_HASH_TEXT } from '../shared/hashes.ts'
import type { FileStat } from '../shared/system.ts'
import { FileIndex } from './file-index.ts'
import { FollowedSince } from './followed-since.ts'
import { parentOf } from './globs.ts'
import { initialPace, type Pace, type PaceLimits } from './pace.ts'
import type { KnownStream } from './known-stream.ts'
import { fileKey, SourceFile, type ReadCursor } from './source-file.ts'
import type { FoundFile } from './watcher.ts'

export interface Reconciled {
  readonly fresh: readonly SourceFile[]
  /** Size or mtime changed. */
  readonly touched: readonly SourceFile[]
  /** Their name is gone or belongs to another file. */
  readonly missing: readonly SourceFile[]
}

/** More are forgotten, which costs a second look. */
const FINISHED_MAX = 10_000
/** 0 is that of no sweep. */
const FIRST_SWEEP = 1

interface Finished {
  readonly look: string
  readonly directory: string
  /** Its own stream, as far as it was acked. */
  readonly acked: { readonly id: string; readonly position: number } | undefined
}

export class Registry {
  private readonly index = new FileIndex()
  private readonly byStream = new Map<string, SourceFile>()
  private readonly awakeFiles = new Set<SourceFile>()
  /** One number each, that all files of the device share. */
  private readonly devices = new Map<bigint, bigint>()
  /** Streams whose file was truncated or rewritten while batches are on their way, with how far they were read. */
  readonly orphans = new Map<string, ReadCursor>()
  /** Keys are base paths, one map for each topic would say the same. */
  readonly since = new FollowedSince()
  /** Files that were read to their end and let go, with size and mtime then: siblings that need no second look. */
  private readonly finished = new Map<string, Finished>()
  private readonly pace: Pace
  /** Number of the sweep that is under way, or comes next. */
  private sweepNumber = FIRST_SWEEP

  constructor(pace: PaceLimits) {
    this.pace = initialPace(pace)
  }

  /** May be gone through while files come and go. */
  get files(): IterableIterator<SourceFile> {
    return this.index.files()
  }

  get size(): number {
    return this.index.size
  }

  /** All but those that are at rest and long not written to: what has to be gone through in each tick. */
  get awake(): ReadonlySet<SourceFile> {
    return this.awakeFiles
  }

  /** Something of the file changed, or may have. */
  wake(file: SourceFile): void {
    if (this.has(file)) this.awakeFiles.add(file)
  }

  /** The file is at rest, and nobody need look at it in each tick. */
  rest(file: SourceFile): void {
    this.awakeFiles.delete(file)
  }

  has(file: SourceFile): boolean {
    return this.index.has(file)
  }

  find(at: { device: bigint; inode: bigint }, topic: string): SourceFile | undefined {
    return this.index.find(at, topic)
  }

  atPath(path: string, topic: string): SourceFile | undefined {
    return this.index.atPath(path, topic)
  }

  ofStream(idHex: string): SourceFile | undefined {
    return this.byStream.get(idHex)
  }

  /** Every file at this path, whatever its topic. */
  *allAtPath(path: string, topics: readonly string[]): Iterable<SourceFile> {
    for (const topic of topics) {
      const file = this.atPath(path, topic)
      if (file !== undefined) yield file
    }
  }

  /** Whether the name begins with that of a file that is followed: rotation may have made it. */
  isBesideFiles(path: string, topics: readonly string[]): boolean {
    const slash = path.lastIndexOf('/')
    for (let end = path.length - 1; end > slash + 1; end -= 1) {
      if (topics.some((topic) => this.atPath(path.slice(0, end), topic) !== undefined)) return true
    }
    return false
  }

  /** Whether what the sweep found there is a file of ours that is as it was. `reconcile` takes in the others. */
  isAsKnown({ input, path, openPath, stat }: FoundFile): boolean {
    const file = this.atPath(path, input.topic)
    if (file === undefined || file.isDetached || file.openPath !== openPath || file.inode !== stat.inode || file.device !== stat.device) return false
    if (isReusedInode(file, stat) || file.isChangedIn(stat)) return false
    file.sweptIn = this.sweepNumber
    file.searches = 0
    return true
  }

  /** Takes in what a sweep found beside the files that were as known. Files that are guests are not expected in it. */
  reconcile(found: readonly FoundFile[], nowMs: number): Reconciled {
    const fresh: SourceFile[] = []
    const touched: SourceFile[] = []
    const replaced: SourceFile[] = []
    for (const item of this.byPreferredPath(found)) {
      const known = this.find(item.stat, item.input.topic)
      const isReused = known !== undefined && isReusedInode(known, item.stat)
      if (isReused) replaced.push(known)
      if (known === undefined || isReused) fresh.push(this.addSwept(item, nowMs))
      else if (this.refresh(known, item)) touched.push(known)
    }
    const missing = replaced
    for (const file of this.files) {
      file.isListed = file.sweptIn === this.sweepNumber
      if (file.isListed || file.isDetached) continue
      this.detach(file)
      file.lastGrowthMs = nowMs
      missing.push(file)
    }
    this.sweepNumber += 1
    return { fresh, touched, missing }
  }

  /** One item per file: of several hard links the path that it already bears, else the first. */
  private byPreferredPath(found: readonly FoundFile[]): Iterable<FoundFile> {
    const chosen = new Map<string, FoundFile>()
    for (const item of found) {
      const { topic } = item.input
      const known = this.find(item.stat, topic)
      // It is as known, under its own name: this is another name of it.
      if (known?.sweptIn === this.sweepNumber && !isReusedInode(known, item.stat)) continue
      const key = fileKey(item.stat, topic)
      if (!chosen.has(key) || known?.path === item.path) chosen.set(key, item)
    }
    return chosen.values()
  }

  private addSwept(found: FoundFile, nowMs: number): SourceFile {
    const file = this.add(found, { nowMs, isFromStart: this.sweepNumber === FIRST_SWEEP })
    file.sweptIn = this.sweepNumber
    return file
  }

  /** Whether it may have grown. */
  private refresh(file: SourceFile, found: FoundFile): boolean {
    file.sweptIn = this.sweepNumber
    file.isDetached = false
    if (this.atPath(found.path, file.input.topic) !== file || file.openPath !== found.openPath) this.move(file, found)
    file.searches = 0
    return this.sees(file, found.stat)
  }

  /** Takes in a stat of the file, wherever it comes from; answers whether it may have been written to. It is awake then. */
  sees(file: SourceFile, stat: FileStat): boolean {
    const hasChanged = file.sees(stat)
    if (hasChanged) this.wake(file)
    return hasChanged
  }

  /** Its name is gone, or another file's. */
  detach(file: SourceFile): void {
    file.isDetached = true
    this.wake(file)
  }

  /** The file bears another name now. */
  move(file: SourceFile, to: { path: string; openPath: string }): void {
    this.index.unname(file)
    file.path = to.path
    file.openPath = to.openPath
    file.searches = 0
    this.index.name(file)
  }

  add(found: FoundFile, options: { nowMs: number; isGuest?: boolean; keyPath?: string; isFromStart?: boolean }): SourceFile {
    const { nowMs, ...rest } = options
    const device = this.devices.get(found.stat.device) ?? found.stat.device
    this.devices.set(device, device)
    const file = new SourceFile({ ...found, ...rest, nowMs, pace: this.pace, device })
    const replaced = this.index.add(file)
    if (replaced !== undefined) this.rest(replaced)
    this.wake(file)
    if (!file.isGuest || this.atPath(file.path, file.input.topic) === undefined) this.index.name(file)
    return file
  }

  remove(file: SourceFile): void {
    this.index.remove(file)
    this.rest(file)
    this.untie(file)
  }

  noteFinished(file: SourceFile): void {
    if (this.finished.size >= FINISHED_MAX) this.finished.clear()
    const { cursor } = file
    // Hello leaves out superseded streams that are closed, which a copy may have carried on.
    const isOwn = cursor !== undefined && ownGeneration(file, cursor) > 0
    const acked = isOwn ? { id: cursor.stream.identity.idHex, position: cursor.stream.settled.position } : undefined
    this.finished.set(finishedKey(file, file.input.topic), { look: `${file.size} ${file.mtimeMs}`, directory: parentOf(file.path), acked })
  }

  /** Whether it is as it was when it was let go. */
  isFinished(stat: FileStat, topic: string): boolean {
    return this.finished.get(finishedKey(stat, topic))?.look === `${stat.size} ${stat.mtimeMs}`
  }

  /** The collector may have lost what it had of them. Answers where they were. */
  forgetFinished(): ReadonlySet<string> {
    const directories = new Set([...this.finished.values()].map(({ directory }) => directory))
    this.finished.clear()
    return directories
  }

  /** Whether the collector tells of less than it has acked to this process. */
  isAheadOf(positions: ReadonlyMap<string, number>): boolean {
    const isMissing = (id: string, position: number): boolean => (positions.get(id) ?? 0) < position
    for (const { acked } of this.finished.values()) if (acked !== undefined && isMissing(acked.id, acked.position)) return true
    for (const [id, { cursor }] of this.byStream) {
      if (cursor !== undefined && cursor.stream.settled.recordCount > 0 && isMissing(id, cursor.stream.settled.position)) return true
    }
    return false
  }

  /** From here on the file's bytes go into this stream. */
  tie(file: SourceFile, cursor: ReadCursor): void {
    this.untie(file)
    file.cursor = cursor
    file.generationFloor = Math.max(file.generationFloor, ownGeneration(file, cursor))
    this.byStream.set(cursor.stream.identity.idHex, file)
    this.since.noteFile(cursor.stream.identity.keyPath, file)
    this.orphans.delete(cursor.stream.identity.idHex)
  }

  /** The file's stream is not its own any more. Batches that are on their way stay an orphan's. */
  untie(file: SourceFile): ReadCursor | undefined {
    const { cursor } = file
    file.cursor = undefined
    file.partialBytes = 0
    file.wantsFinal = false
    this.wake(file)
    if (cursor === undefined) return undefined
    const { idHex } = cursor.stream.identity
    // A generation of which nothing was ever stored or sent is free again.
    if (cursor.stream.settled.recordCount === 0 && cursor.stream.placeCount === 0) file.generationFloor = Math.max(0, ownGeneration(file, cursor) - 1)
    if (this.byStream.get(idHex) === file) this.byStream.delete(idHex)
    if (!cursor.stream.isIdle && cursor.stream.state.kind === 'shipping') this.orphans.set(idHex, cursor)
    return cursor
  }

  /** Orphans that a file could carry on, as the collector would describe them once they have arrived. */
  orphanStreams(topic: string): KnownStream[] {
    const known: KnownStream[] = []
    for (const cursor of this.orphans.values()) {
      if (cursor.stream.identity.topic === topic) known.push(streamAt(cursor))
    }
    return known
  }
}

function streamAt(cursor: ReadCursor): KnownStream {
  const { identity } = cursor.stream
  return {
    id: identity.idHex,
    topic: identity.topic,
    inode: identity.inode,
    birthtimeNs: identity.birthtimeNs,
    generation: identity.generation,
    isSuperseded: false,
    isOpen: true,
    position: cursor.start.position,
    tailHash: cursor.start.position === 0 ? NO_TAIL_HASH_TEXT : cursor.start.tailHash,
    headLength: cursor.start.headLength,
    headHash: cursor.start.headHash,
    recordCount: cursor.start.ordinal,
    path: identity.keyPath,
    keyPath: identity.keyPath,
    isOrphan: true,
    lastAppendMs: undefined,
  }
}

function finishedKey(file: { device: bigint; inode: bigint; birthtimeNs: bigint }, topic: string): string {
  return `${fileKey(file, topic)} ${file.birthtimeNs}`
}

/** A generation counts for the file that the stream's id is made of, not for a copy that carries it on. */
function ownGeneration(file: SourceFile, cursor: ReadCursor): number {
  const { identity } = cursor.stream
  return identity.inode === file.inode && identity.birthtimeNs === file.birthtimeNs ? identity.generation : 0
}

/**
 * The inode was freed and given to another file. Only possible while no descriptor is held, so a birth time that differs
 * on a held file is one that changes with writes, and says nothing.
 */
export function isReusedInode(file: SourceFile, stat: FileStat): boolean {
  return file.handle === undefined && file.birthtimeNs !== stat.birthtimeNs
}
