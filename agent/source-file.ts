/**
 * One file that the agent follows: what it is, how far it was read, and why it is not read when it is not. An idle file
 * keeps numbers and hashes only, no buffer. Mutable, used from one event loop; what may change over an await is checked
 * again by whoever waited.
 */
import type { FileHandle, FileStat } from '../shared/system.ts'
import type { ReadPoint } from './batcher.ts'
import type { InputConfig } from './config.ts'
import type { Pace } from './pace.ts'
import type { Stream } from './stream.ts'

export type FileState =
  /** Not tied to a stream yet. */
  | { readonly kind: 'new' }
  | { readonly kind: 'empty' }
  /** It looks like a copy that is being made. */
  | { readonly kind: 'waiting'; readonly sinceMs: number }
  | { readonly kind: 'reading' }
  /** An error that may pass; the position is kept. */
  | { readonly kind: 'failing'; readonly reason: string; readonly retryAtMs: number; readonly attempts: number }
  /** Somebody has to look at it. */
  | { readonly kind: 'parked'; readonly reason: string }
  /** By configuration. */
  | { readonly kind: 'ignored'; readonly reason: string }

// One of each: there may be ten thousand files.
export const NEW: FileState = { kind: 'new' }
export const EMPTY: FileState = { kind: 'empty' }
export const READING: FileState = { kind: 'reading' }

/** How far a file was read for its stream. */
export interface ReadCursor {
  readonly stream: Stream
  start: ReadPoint
}

export interface SourceFileOptions {
  readonly input: InputConfig
  readonly path: string
  /** Where to open it: differs from `path` for a followed symlink. */
  readonly openPath: string
  readonly stat: FileStat
  readonly device: bigint
  /** For how long it had not been written when it was found, by its mtime. */
  readonly quietMs: number
  readonly pace: Pace
  readonly nowMs: number
  /** Path in the record key of a new stream: the base path for a rotated file. */
  readonly keyPath?: string
  /** No glob matches it: it is followed because rotation left it beside files that are. */
  readonly isGuest?: boolean
  /** It was there when the agent began. */
  readonly isFromStart?: boolean
}

export class SourceFile {
  readonly input: InputConfig
  readonly device: bigint
  readonly inode: bigint
  readonly birthtimeNs: bigint
  readonly isGuest: boolean
  readonly isFromStart: boolean
  path: string
  openPath: string
  keyPath: string
  size: number
  mtimeMs: number
  handle: FileHandle | undefined
  state: FileState = NEW
  cursor: ReadCursor | undefined
  /** Highest generation used for this file in this process. */
  generationFloor = 0
  /** This process saw the content shrink or change, so that the generation before may be superseded. */
  wasChangeSeen = true
  /** Seen by the last sweep that is over, at this path. */
  isListed: boolean
  /** Number of the last sweep that saw it (registry.ts). */
  sweptIn = 0
  /** Its name is gone or belongs to another file now. */
  isDetached: boolean
  /** How often it was searched for since it was last found under a name. */
  searches = 0
  pace: Pace
  /** Monotonic time at which bytes were last found in it, or it itself: quiet times count from here. */
  lastGrowthMs: number
  /** The same, but what was there when it was found was written when its mtime says, however late it is read. */
  lastWriteMs: number
  /** Monotonic time before which its identity is not asked again, and how often the collector's answer moved it. */
  identifyAtMs = 0
  moves = 0
  /** Streams whose hashes agreed at the ends and whose bytes in between are others. */
  private refuted: Set<string> | undefined
  /** The collector does not take a stream that begins in the middle of a file. */
  mustBeginAtStart = false
  /** Monotonic time since when some byte of it is not stored yet; undefined while all are. */
  behindSinceMs: number | undefined
  /** Bytes behind the position that have no newline yet. */
  partialBytes = 0
  /** The next turn takes an unterminated line as it is. */
  wantsFinal = false
  /** A turn is reading it. */
  isBusy = false
  /** Its directory is too busy to be watched: it is read at its pace without being told. */
  isPolled = false
  /** It may have grown since its last turn began. */
  isDirty = true
  dueAtMs = 0

  constructor(options: SourceFileOptions) {
    this.input = options.input
    this.device = options.device
    this.inode = options.stat.inode
    this.birthtimeNs = options.stat.birthtimeNs
    this.isGuest = options.isGuest ?? false
    this.isFromStart = options.isFromStart ?? false
    this.isListed = !this.isGuest
    this.isDetached = this.isGuest
    this.path = options.path
    this.openPath = options.openPath
    this.keyPath = options.keyPath ?? options.path
    this.size = options.stat.size
    this.mtimeMs = options.stat.mtimeMs
    this.pace = options.pace
    this.lastGrowthMs = options.nowMs
    this.lastWriteMs = options.nowMs - options.quietMs
  }

  isChangedIn(stat: { readonly size: number; readonly mtimeMs: number }): boolean {
    return stat.size !== this.size || stat.mtimeMs !== this.mtimeMs
  }

  /** Takes in a stat of it; answers whether it may have been written to. What had nothing to be read is looked at anew then. */
  sees(stat: { readonly size: number; readonly mtimeMs: number }): boolean {
    if (!this.isChangedIn(stat)) return false
    this.mtimeMs = stat.mtimeMs
    // Of a file with a stream the size is what its turns found.
    if (this.cursor === undefined) this.size = stat.size
    if (this.state.kind === 'empty' || this.state.kind === 'ignored') this.state = NEW
    return true
  }

  grew(nowMs: number): void {
    this.lastGrowthMs = nowMs
    this.lastWriteMs = nowMs
  }

  refute(streamId: string): void {
    // Made when it is needed: few files ever do, and an agent may follow ten thousand.
    this.refuted ??= new Set()
    this.refuted.add(streamId)
  }

  isRefuted(streamId: string): boolean {
    return this.refuted?.has(streamId) ?? false
  }

  /** Bytes that the collector has not acked and is to have. */
  get lagBytes(): number {
    if (this.state.kind === 'ignored') return 0
    return Math.max(0, this.size - (this.cursor?.stream.settled.position ?? 0))
  }

  get wantsIdentity(): boolean {
    if (this.cursor !== undefined) return false
    return this.state.kind === 'new' || this.state.kind === 'waiting' || this.state.kind === 'failing'
  }

  /**
   * It had a stream of its own in this process and has none now: until it is identified again nobody compares its bytes,
   * so that it may be cut once more without being seen.
   */
  get isAdrift(): boolean {
    return this.cursor === undefined && this.generationFloor > 0
  }

  get position(): number {
    return this.cursor?.start.position ?? 0
  }

  /** There is nothing to be done for it, unless it is written to. */
  get isAtRest(): boolean {
    return !this.isDetached && this.partialBytes === 0 && this.lagBytes === 0 && !this.wantsIdentity
  }

  /** Everything that was read is stored, and there is nothing more to read. */
  get isShipped(): boolean {
    return this.cursor === undefined ? this.size === 0 : this.cursor.stream.isIdle && this.position >= this.size
  }
}

/** One file on this machine, whatever its names are: hard links are followed once. */
export function fileKey(file: { device: bigint; inode: bigint }, topic: string): string {
  return `${topic} ${file.device} ${file.inode}`
}
