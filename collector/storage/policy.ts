/** Pure decisions about segments: when one is full, and which ones retention may drop. No clock, no disk. */
import type { TopicConfig } from './topic-log.ts'
import type { Offset } from '../../shared/types.ts'

/** Positions in the indexes are signed 32-bit numbers, and so are offsets relative to the segment's base. */
export const SEGMENT_BYTES_LIMIT = 0x7fff_ffff
export const RELATIVE_OFFSET_LIMIT = 0x7fff_ffff

export interface RollParams {
  readonly sizeBytes: number
  readonly baseOffset: Offset
  readonly firstAppendMs: number | undefined
  /** What is about to be appended; undefined = nothing, only age counts. */
  readonly incoming: { readonly bytes: number; readonly lastOffset: Offset } | undefined
  readonly nowMs: number
  readonly limits: Pick<TopicConfig, 'segmentBytes' | 'segmentAgeMs'>
}

/** An empty segment is never rolled: a batch larger than a segment gets one for itself. */
export function shouldRoll(params: RollParams): boolean {
  const { incoming, limits } = params
  if (params.sizeBytes === 0) return false
  if (params.firstAppendMs !== undefined && isOverAge(params.firstAppendMs, params.nowMs, limits.segmentAgeMs)) return true
  if (incoming === undefined) return false
  if (params.sizeBytes + incoming.bytes > Math.min(limits.segmentBytes, SEGMENT_BYTES_LIMIT)) return true
  return incoming.lastOffset - params.baseOffset > RELATIVE_OFFSET_LIMIT
}

/**
 * A first append in the future: the wall clock was put back, and nobody knows how old the segment is. Waiting until the
 * clock is there again could hold a quiet topic's export up for days; a segment that is rolled early is only smaller.
 */
function isOverAge(firstAppendMs: number, nowMs: number, ageMs: number): boolean {
  return nowMs < firstAppendMs || nowMs - firstAppendMs >= ageMs
}

export interface RetainedSegment {
  readonly nextOffset: Offset
  readonly sizeBytes: number
  readonly lastAppendMs: number
}

export interface RetentionParams {
  /** Sealed segments, oldest first. The active one is never dropped. */
  readonly sealed: readonly RetainedSegment[]
  /** Of all segments together. */
  readonly totalBytes: number
  readonly nowMs: number
  readonly limits: Pick<TopicConfig, 'retentionBytes' | 'retentionAgeMs'>
  /** The wall clock is in doubt: nothing is old now. */
  readonly isAgeParked: boolean
  /** Nothing that ends above this is on HDFS yet; undefined = there is no export. */
  readonly exportedOffset: Offset | undefined
}

/** How many of the oldest segments may go. What the snapshot must hold first is the caller's next question. */
export function expiredSegments(params: RetentionParams): number {
  const { limits } = params
  let bytes = params.totalBytes
  let count = 0
  for (const segment of params.sealed) {
    const isOverSize = limits.retentionBytes !== undefined && bytes - segment.sizeBytes >= limits.retentionBytes
    const isOverAge =
      !params.isAgeParked && limits.retentionAgeMs !== undefined && params.nowMs - segment.lastAppendMs > limits.retentionAgeMs
    if (!isOverSize && !isOverAge) break
    if (params.exportedOffset !== undefined && segment.nextOffset > params.exportedOffset) break
    bytes -= segment.sizeBytes
    count += 1
  }
  return count
}

/** A step of the wall clock against monotonic time beyond this is not drift. */
const CLOCK_STEP_LIMIT_MS = 3_600_000

export function isClockStep(beforeMs: number, afterMs: number): boolean {
  return Math.abs(afterMs - beforeMs) > CLOCK_STEP_LIMIT_MS
}
