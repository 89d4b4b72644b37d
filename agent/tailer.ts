/**
 * One read turn of one file: reads from up to 64 KiB before the position, checks that those bytes are the ones it
 * remembers (their tail hash), frames the lines behind it and moves the file's read position. A file that was truncated
 * and refilled between two looks is seen, also when it has grown past the old position. Keeps no buffer between turns.
 */
import { hashText, tailHash } from '../shared/hashes.ts'
import { TAIL_BYTES_MAX } from '../shared/source-header.ts'
import type { FileHandle } from '../shared/system.ts'
import { afterBatch, type Batcher, type FramedTurn, type Slot, type TurnBytes, type TurnStart } from './batcher.ts'
import type { ReadCursor, SourceFile } from './source-file.ts'

export type TurnOutcome =
  /** No whole line behind the position, in what was read. */
  | { readonly kind: 'nothing'; readonly hasMore: boolean; readonly partialBytes: number }
  | {
      readonly kind: 'framed'
      readonly start: TurnStart
      readonly bytes: TurnBytes
      readonly framed: FramedTurn
      /** More was there than fitted. */
      readonly hasMore: boolean
      readonly partialBytes: number
    }
  /** The bytes before the position are others, or are not there: this is not the file that we read. */
  | { readonly kind: 'changed'; readonly how: 'shrunk' | 'rewritten' }

/** A read that ends just at the position, with more behind it, is done again. */
const READ_TRIES_MAX = 3

export interface TurnOptions {
  readonly handle: FileHandle
  readonly slot: Slot
  readonly batcher: Batcher
  readonly nowMs: () => number
  /**
   * Somebody waits for the end of the file, so another read has to find nothing. Else a read that comes back short is taken
   * for it: on a local disk it is, and elsewhere the next look at the file's size finds the rest.
   */
  readonly provesEnd: boolean
}

/** `file.cursor` is moved when the outcome is `framed`; the caller keeps the file from being read twice at a time. */
export async function readTurn(file: SourceFile, cursor: ReadCursor, options: TurnOptions): Promise<TurnOutcome> {
  const { slot, batcher } = options
  const start: TurnStart = { ...cursor.start, identity: cursor.stream.identity, path: pathOf(file, cursor), labels: file.input.labels }
  const overlap = Math.min(TAIL_BYTES_MAX, start.position)
  const wantsFinal = file.wantsFinal
  const { count, isAtEnd } = await readWindow(options.handle, slot.window, { position: start.position - overlap, overlap, provesEnd: options.provesEnd || wantsFinal })
  if (count < overlap) return { kind: 'changed', how: 'shrunk' }
  if (hashText(tailHash(slot.window.subarray(0, overlap))) !== start.tailHash) return { kind: 'changed', how: 'rewritten' }
  const fresh = count - overlap
  const bytes: TurnBytes = { slot, overlap, fresh, isFinal: wantsFinal && isAtEnd, timestampMs: options.nowMs() }
  const framed = batcher.frame(start, bytes)
  if (isAtEnd) file.size = start.position + fresh
  if (wantsFinal && isAtEnd) file.wantsFinal = false
  if (framed === undefined) return { kind: 'nothing', hasMore: !isAtEnd, partialBytes: fresh }
  const next = afterBatch(start, framed)
  cursor.start = next
  const partialBytes = start.position + fresh - next.position
  return { kind: 'framed', start, bytes, framed, hasMore: !isAtEnd || framed.isFull, partialBytes }
}

/**
 * Fills the window as far as one read goes past the overlap. A second read might find the file truncated and refilled,
 * and its bytes would be joined to those of the file before: fresh bytes count only with compared ones from the same read.
 */
async function readWindow(handle: FileHandle, window: Buffer, range: { position: number; overlap: number; provesEnd: boolean }): Promise<{ count: number; isAtEnd: boolean }> {
  const { position, overlap, provesEnd } = range
  let count = 0
  for (let tries = 0; tries < READ_TRIES_MAX; tries += 1) {
    count = await handle.read(window, { offset: 0, length: window.length, position })
    for (let more = count; count < overlap && more > 0; count += more) {
      more = await handle.read(window, { offset: count, length: window.length - count, position: position + count })
    }
    if (count < overlap) return { count, isAtEnd: true }
    if (count === window.length) return { count, isAtEnd: false }
    if (!provesEnd && count > overlap) return { count, isAtEnd: true }
    const isAtEnd = (await handle.read(Buffer.alloc(1), { offset: 0, length: 1, position: position + count })) === 0
    if (isAtEnd || count > overlap) return { count, isAtEnd }
  }
  return { count, isAtEnd: false }
}

/** The first batch bears the path of the record key: the collector learns it from there. Later ones bear the path of now. */
function pathOf(file: SourceFile, cursor: ReadCursor): string {
  return cursor.start.ordinal === 0 ? cursor.stream.identity.keyPath : file.path
}
