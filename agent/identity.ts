/**
 * Which file is this? The decision table that ties a file to a stream, as a pure function: the caller gathers the facts
 * (fingerprint.ts) and acts on the decision (registry.ts). In doubt it is a new stream: a doubled copy can be named, a
 * lost line can't.
 *
 * | inode and birth time | content | decision |
 * |---|---|---|
 * | same | head and tail hash match, not superseded | resume, whatever its name is now |
 * | same | does not match, or size < position | generation n+1 from 0, which supersedes n |
 * | other | sibling of a stream, superseded or not, whose own file is gone or changed; position ≥ 1 KiB; head and tail match; unclaimed | continue that stream here |
 * | other | the same, but the stream's own file is alive and unchanged, or another copy ships into it | a copy being made: wait, but not for ever |
 * | other | anything else | new stream from 0 |
 */
import type { KnownStream } from './known-stream.ts'

/** Content that is shared by less than this proves nothing: many logs begin with the same header. */
const CONTINUE_BYTES_MIN = 1024

export interface StreamFacts {
  readonly stream: KnownStream
  /** The file is at least as long as the stream's position, and head and tail hash are those of its bytes. */
  readonly doesContentMatch: boolean
  /** Same directory, and this file's name is the stream's file name plus a suffix, which may be empty. */
  readonly isSibling: boolean
  /** The file that the stream came from: still there as it was, seen to shrink or change, or not there any more. */
  readonly ownFile: 'alive' | 'changed' | 'gone'
  /** A live file other than the stream's own, and other than this one, ships into it. */
  readonly isClaimed: boolean
}

export interface FileFacts {
  readonly inode: bigint
  readonly birthtimeNs: bigint
  readonly size: number
  /** Every stream of this agent and topic that could be meant: same key, same head, or a sibling's. */
  readonly streams: readonly StreamFacts[]
  /** All bytes so far equal those at the same place of a live sibling: it looks like a copy being made. */
  readonly isCopyOfLiveSibling: boolean
  /** The file looked like a copy for so long that waiting ends. */
  readonly isWaitOver: boolean
  /** We or an earlier run saw this inode's content change: only then may an older generation be superseded. */
  readonly wasChangeSeen: boolean
  /** No glob matches it: it may only carry on a stream, or fill a place between two. */
  readonly isGuest: boolean
  /** The operator asked for everything from the beginning once more. */
  readonly isReship: boolean
}

export type Decision =
  /** Nothing can be said about a file without bytes; position 0 matches nothing. */
  | { readonly kind: 'empty' }
  | { readonly kind: 'resume'; readonly stream: KnownStream; readonly why: 'same file' | 'copy or rename' }
  | { readonly kind: 'wait' }
  /** A copy that nobody asked for, of bytes that are stored or being read elsewhere. */
  | { readonly kind: 'leave' }
  | {
      readonly kind: 'begin'
      readonly generation: number
      readonly supersedes: number | undefined
      /** A guest that is no stranger: its content is that of a stream of its own, which another agent of our id superseded. */
      readonly isKnownGuest?: true
    }

export function decideIdentity(file: FileFacts): Decision {
  const own = file.streams.filter(({ stream }) => stream.inode === file.inode && stream.birthtimeNs === file.birthtimeNs)
  if (file.size === 0 && own.length === 0) return { kind: 'empty' }
  const generation = 1 + own.reduce((highest, { stream }) => Math.max(highest, stream.generation), 0)
  if (file.isReship) return { kind: 'begin', generation, supersedes: generation > 1 ? generation - 1 : undefined }

  const resumed = newest(own.filter((facts) => facts.doesContentMatch && !facts.isClaimed && !facts.stream.isSuperseded))
  if (resumed !== undefined) return { kind: 'resume', stream: resumed.stream, why: 'same file' }
  if (own.length > 0) return nextGeneration(file, own, generation)

  const copies = file.streams.filter(isContinuable)
  const orphan = newest(copies.filter((facts) => facts.ownFile !== 'alive' && !facts.isClaimed))
  if (orphan !== undefined) return { kind: 'resume', stream: orphan.stream, why: 'copy or rename' }
  const isCopy = copies.length > 0 || file.isCopyOfLiveSibling
  if (isCopy && !file.isWaitOver) return { kind: 'wait' }
  if (isCopy && file.isGuest) return { kind: 'leave' }
  return { kind: 'begin', generation, supersedes: undefined }
}

/** Two live files with one key: what another one ships into is not superseded by this one. */
function nextGeneration(file: FileFacts, own: readonly StreamFacts[], generation: number): Decision {
  const newestOwn = newest(own)
  const mayClose = newestOwn !== undefined && !newestOwn.isClaimed && file.wasChangeSeen
  const isKnownGuest = file.isGuest && own.some(({ doesContentMatch }) => doesContentMatch)
  return { kind: 'begin', generation, supersedes: mayClose ? newestOwn.stream.generation : undefined, ...(isKnownGuest ? { isKnownGuest } : {}) }
}

function isContinuable(facts: StreamFacts): boolean {
  return (
    facts.isSibling &&
    facts.doesContentMatch &&
    facts.stream.position >= CONTINUE_BYTES_MIN
  )
}

function newest(streams: readonly StreamFacts[]): StreamFacts | undefined {
  let best: StreamFacts | undefined
  for (const facts of streams) {
    if (best === undefined || isNewer(facts.stream, best.stream)) best = facts
  }
  return best
}

function isNewer(a: KnownStream, b: KnownStream): boolean {
  if (a.generation !== b.generation) return a.generation > b.generation
  return a.position > b.position
}

/** Whether `path` may be what rotation made of `base`: same directory, name = base name + suffix. */
export function isSiblingPath(base: string, path: string): boolean {
  return path.startsWith(base) && !path.includes('/', base.length)
}
