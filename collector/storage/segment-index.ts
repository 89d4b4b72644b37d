/**
 * What a segment learns from its batches, one batch after another: both indexes, the largest timestamp, the next
 * offset. The active segment feeds it at each commit, recovery while it scans: the same batches give the same bytes.
 */
import type { BatchHeader } from '../../shared/record-batch.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import { INDEX_INTERVAL_BYTES, OffsetIndex } from './offset-index.ts'
import { TimeIndex } from './time-index.ts'

export class SegmentIndex {
  readonly offsets: OffsetIndex
  readonly times: TimeIndex
  nextOffset: Offset
  private maxTimestamp: { timestampMs: number; offset: Offset } | undefined
  private bytesSinceEntry = 0

  constructor(baseOffset: Offset) {
    this.offsets = new OffsetIndex(baseOffset)
    this.times = new TimeIndex(baseOffset)
    this.nextOffset = baseOffset
  }

  get maxTimestampMs(): number | undefined {
    return this.maxTimestamp?.timestampMs
  }

  /** As Kafka's LogSegment.append: whether a batch gets an entry is decided before its own bytes are counted. */
  add(header: BatchHeader, position: number): void {
    if (this.maxTimestamp === undefined || header.maxTimestampMs > this.maxTimestamp.timestampMs) {
      this.maxTimestamp = { timestampMs: header.maxTimestampMs, offset: header.lastOffset }
    }
    if (this.bytesSinceEntry > INDEX_INTERVAL_BYTES) {
      this.offsets.append(header.lastOffset, position)
      this.times.append(this.maxTimestamp)
      this.bytesSinceEntry = 0
    }
    this.bytesSinceEntry += header.sizeBytes
    this.nextOffset = toOffset(header.lastOffset + 1)
  }

  /** The time index as it is when the segment is sealed: its last entry is the largest timestamp. Changes nothing here. */
  sealedTimes(): Buffer {
    const times = new TimeIndex(this.times.baseOffset, Buffer.from(this.times.toBytes()))
    if (this.maxTimestamp !== undefined) times.append(this.maxTimestamp)
    return times.toBytes()
  }
}
