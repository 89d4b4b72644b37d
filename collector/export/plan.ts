/**
 * What a partition has to export next, decided from the sealed segments on disk and the journal's state. Pure.
 *
 * Exported ranges must meet without a gap: a segment is taken only where the one before it ended. A damaged segment does
 * not stop those behind it, but nothing counts as exported beyond it.
 */
import { toOffset, type Offset } from '../../shared/types.ts'
import type { SegmentInfo } from '../storage/topic-log.ts'
import type { ExportedSegment } from './journal-format.ts'

export type Work =
  | { readonly kind: 'idle' }
  | { readonly kind: 'segment'; readonly segment: SegmentInfo }
  /** Offsets that are neither exported nor on disk as a segment of their own. */
  | { readonly kind: 'gap'; readonly fromOffset: Offset; readonly toOffset: Offset }

const idle: Work = { kind: 'idle' }

export function inOffsetOrder(exported: ReadonlyMap<Offset, ExportedSegment>): ExportedSegment[] {
  return [...exported.values()].sort((a, b) => a.key.baseOffset - b.key.baseOffset)
}

/** `sealed`: oldest first, empty ones left out. */
export function nextWork(
  sealed: readonly SegmentInfo[],
  exported: ReadonlyMap<Offset, ExportedSegment>,
  options: { retryDamaged: boolean },
): Work {
  let expected: Offset | undefined
  for (const { key, progress } of inOffsetOrder(exported)) {
    if (expected !== undefined && key.baseOffset < expected) continue
    if (expected !== undefined && key.baseOffset > expected) return segmentAt(sealed, expected) ?? gap(expected, key.baseOffset)
    const isUnfinished = progress.kind === 'planned' || progress.kind === 'encoded'
    const isRetried = progress.kind === 'damaged' && options.retryDamaged
    const found = isUnfinished || isRetried ? segmentAt(sealed, key.baseOffset) : undefined
    if (found !== undefined) return found
    if (isUnfinished) return gap(key.baseOffset, key.nextOffset)
    expected = key.nextOffset
  }
  if (expected === undefined) return sealed[0] === undefined ? idle : { kind: 'segment', segment: sealed[0] }
  const found = segmentAt(sealed, expected)
  if (found !== undefined) return found
  for (const segment of sealed) if (segment.nextOffset > expected) return gap(expected, segment.baseOffset)
  return idle
}

function segmentAt(sealed: readonly SegmentInfo[], offset: Offset): Work | undefined {
  const segment = sealed.find((each) => each.baseOffset === offset)
  return segment === undefined ? undefined : { kind: 'segment', segment }
}

/** Where the next segment begins before the expected offset the two overlap; the range is then given as empty. */
function gap(fromOffset: Offset, endOffset: number): Work {
  return { kind: 'gap', fromOffset, toOffset: toOffset(Math.max(fromOffset, endOffset)) }
}

export interface Progress {
  /** Everything from the first exported offset up to here is on the store; undefined = nothing yet. */
  readonly recordedOffset: Offset | undefined
  /** The same, for what was also found whole a while later: what retention may rely on. */
  readonly checkedOffset: Offset | undefined
}

export function progressOf(exported: ReadonlyMap<Offset, ExportedSegment>): Progress {
  let recordedOffset: Offset | undefined
  let checkedOffset: Offset | undefined
  let isChecked = true
  for (const { key, progress } of inOffsetOrder(exported)) {
    if (recordedOffset !== undefined && key.baseOffset > recordedOffset) break
    if (progress.kind !== 'recorded' && progress.kind !== 'skipped') break
    isChecked &&= progress.kind === 'skipped' || progress.isChecked
    recordedOffset = key.nextOffset
    if (isChecked) checkedOffset = key.nextOffset
  }
  return { recordedOffset, checkedOffset }
}
