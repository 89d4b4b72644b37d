/**
 * Walks the headers of what was read from a partition, keeps the batches that may hold admitted records, and carries the
 * running maximum along. Nothing is decompressed here: time, offsets and producer decide.
 */
import { readBatchHeader, type BatchHeader } from '../../shared/record-batch.ts'
import { TimeCounts, type TimePair } from './time-counts.ts'
import { isSealed } from './unit-batch.ts'

export interface BatchFilter {
  readonly sinceMs: number
  readonly untilMs: number
  readonly admitFrom: number
  readonly admitEnd: number
  readonly mayHold: (producerId: bigint) => boolean
  /** Whether a batch all of whose records surely match is only counted by its header. */
  readonly countsWholeBatches: boolean
  /** Then a batch is only counted by its header when all of it falls into one stretch of time. */
  readonly countByMs?: number | undefined
}

export interface Selection {
  /** The kept batches, copied into a buffer of their own. */
  readonly batches: Uint8Array
  readonly priorMaxMs: readonly number[]
  /** Running maximum behind the last batch. */
  readonly endMaxMs: number
  readonly seen: number
  /** Records of batches that were counted by their header. */
  readonly counted: number
  /** The same by time; empty without `countByMs`. */
  readonly timeCounts: readonly TimePair[]
}

export function selectBatches(read: Buffer, startMaxMs: number, filter: BatchFilter): Selection {
  const kept: { at: number; end: number }[] = []
  const priorMaxMs: number[] = []
  let runningMs = startMaxMs
  let seen = 0
  let counted = 0
  const times = filter.countByMs === undefined ? undefined : new TimeCounts(filter.countByMs, Infinity)
  for (let at = 0; at < read.length; ) {
    const header = readBatchHeader(read, at)
    const end = at + header.sizeBytes
    seen += 1
    const verdict = judge(header, filter)
    if (verdict === 'count') {
      counted += header.recordCount
      times?.add(header.baseTimestampMs, header.recordCount)
    }
    if (verdict === 'keep') {
      kept.push({ at, end })
      priorMaxMs.push(runningMs)
    }
    runningMs = Math.max(runningMs, header.maxTimestampMs)
    at = end
  }
  return { batches: copy(read, kept), priorMaxMs, endMaxMs: runningMs, seen, counted, timeCounts: times?.pairs() ?? [] }
}

function judge(header: BatchHeader, filter: BatchFilter): 'keep' | 'skip' | 'count' {
  if (header.lastOffset < filter.admitFrom || header.baseOffset >= filter.admitEnd) return 'skip'
  // Arrival times lie between the base and the max timestamp (query-spec.ts).
  if (header.maxTimestampMs < filter.sinceMs || header.baseTimestampMs >= filter.untilMs) return 'skip'
  if (isSealed(header) && !filter.mayHold(header.producerId)) return 'skip'
  const isInside =
    header.baseOffset >= filter.admitFrom && header.lastOffset < filter.admitEnd &&
    header.baseTimestampMs >= filter.sinceMs && header.maxTimestampMs < filter.untilMs
  return filter.countsWholeBatches && isInside && isOneStretch(header, filter.countByMs) ? 'count' : 'keep'
}

function isOneStretch({ baseTimestampMs, maxTimestampMs }: BatchHeader, widthMs: number | undefined): boolean {
  return widthMs === undefined || Math.floor(baseTimestampMs / widthMs) === Math.floor(maxTimestampMs / widthMs)
}

function copy(read: Buffer, kept: readonly { at: number; end: number }[]): Uint8Array {
  const out = new Uint8Array(kept.reduce((sum, { at, end }) => sum + end - at, 0))
  let to = 0
  for (const { at, end } of kept) {
    out.set(read.subarray(at, end), to)
    to += end - at
  }
  return out
}
