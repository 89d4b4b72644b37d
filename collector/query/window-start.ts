/** Guesses which offset stands about so many stored bytes before another, from the segment's bytes per record. */
import { toOffset, type Offset } from '../../shared/types.ts'
import type { ReadableLog } from '../storage/topic-log.ts'

export interface WindowRequest {
  readonly topic: string
  readonly partition: number
  /** The window ends here. */
  readonly high: number
  /** Never before this. */
  readonly low: number
  readonly bytes: number
}

/** Inside the segment that holds the record before `high`, and at least one offset before `high` where `low` allows. */
export function windowStart(log: ReadableLog, request: WindowRequest): Offset {
  const { high, low } = request
  const segment = log.segments(request.topic, request.partition).findLast(({ baseOffset }) => baseOffset < high)
  const floor = Math.min(high, Math.max(low, segment?.baseOffset ?? 0))
  if (segment === undefined || segment.nextOffset <= segment.baseOffset) return toOffset(floor)
  const bytesPerRecord = Math.max(segment.sizeBytes, 1) / (segment.nextOffset - segment.baseOffset)
  const records = Math.max(1, Math.ceil(request.bytes / bytesPerRecord))
  return toOffset(Math.max(floor, high - records))
}
