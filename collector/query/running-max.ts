/**
 * The running maximum of the timestamp at any place of a partition, without reading the partition from its start. It is
 * the first part of the order's key, so every query must find the same value, wherever it begins to read.
 *
 * How: no record with a timestamp ≥ t stands before offsetForTimestamp(t), a lower bound from the time index. If that is
 * not before our place for t = (our first timestamp + 1), nothing before us is newer, and the value does not matter: the
 * usual case, one look-up. Otherwise a clock stepped back or another source ran ahead: the bound is narrowed by galloping
 * and bisection, and the headers between it and our place are read.
 */
import { assert } from '../../shared/errors.ts'
import { readBatchHeader } from '../../shared/record-batch.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import type { ReadableLog } from '../storage/topic-log.ts'

/** Nothing before is newer than the first record itself. */
export const NO_MAX = -Infinity
const READ_BYTES = 1024 * 1024
const FIRST_STEP_MS = 64
/** 2^53 ms are passed in fewer steps of gallop and bisection; more would be a bug. */
const STEPS_MAX = 128

export interface Place {
  readonly topic: string
  readonly partition: number
  /** Base offset of a batch. */
  readonly offset: Offset
  /** Base timestamp of that batch. */
  readonly timestampMs: number
}

/** Largest timestamp before the place if it is larger than the place's own, else NO_MAX. */
export async function runningMaxBefore(log: ReadableLog, place: Place): Promise<number> {
  const bound = (timestampMs: number): Promise<Offset> => log.offsetForTimestamp(place.topic, place.partition, timestampMs)
  if ((await bound(place.timestampMs + 1)) >= place.offset) return NO_MAX
  const ceiling = highestBefore(log, place)
  if (ceiling <= place.timestampMs) return NO_MAX
  const highest = await narrow(bound, place, ceiling)
  const first = await largestIn(log, place, await bound(highest))
  if (first.maxMs >= highest) return highest
  // The bound was not exact: between it and the place stands nothing as new as it says, so look from an older one.
  const floor = Math.max(first.maxMs, place.timestampMs)
  const second = await largestIn(log, place, await bound(floor + 1))
  const found = Math.max(first.maxMs, second.maxMs)
  return found > place.timestampMs ? found : NO_MAX
}

/** From the segments alone: nothing before the place is newer than this. */
function highestBefore(log: ReadableLog, place: Place): number {
  let highest = NO_MAX
  for (const segment of log.segments(place.topic, place.partition)) {
    if (segment.baseOffset < place.offset) highest = Math.max(highest, segment.maxTimestampMs ?? NO_MAX)
  }
  return highest
}

/** Smallest t such that the index proves: nothing before the place is newer than t. */
async function narrow(bound: (timestampMs: number) => Promise<Offset>, place: Place, highest: number): Promise<number> {
  let low = place.timestampMs
  let high = highest
  let step = FIRST_STEP_MS
  let isGalloping = true
  for (let steps = 0; high - low > 1; steps += 1) {
    assert(steps < STEPS_MAX, 'the search for the running maximum ends')
    const middle = isGalloping ? Math.min(low + step, high) : low + Math.floor((high - low) / 2)
    if (middle === high || (await bound(middle + 1)) >= place.offset) {
      high = middle
      isGalloping = false
    } else low = middle
    step *= 8
  }
  return high
}

/** Largest timestamp in the headers of the batches from `from` up to the place. */
async function largestIn(log: ReadableLog, place: Place, from: Offset): Promise<{ maxMs: number }> {
  const { topic, partition } = place
  let maxMs = NO_MAX
  for (let offset = from; offset < place.offset; ) {
    const { batches, nextOffset } = await log.read({ topic, partition, offset, bytesMax: READ_BYTES, endOffset: place.offset })
    for (let at = 0; at < batches.length; ) {
      const header = readBatchHeader(batches, at)
      if (header.baseOffset < place.offset) maxMs = Math.max(maxMs, header.maxTimestampMs)
      at += header.sizeBytes
    }
    if (nextOffset <= offset) break
    offset = toOffset(nextOffset)
  }
  return { maxMs }
}
