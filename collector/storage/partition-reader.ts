/**
 * Reading a partition across its segments: whole batches below the high watermark, times to offsets. Beside appends,
 * rolls and retention at any time: a segment that is dropped under a reader stays open until the read is done.
 */
import { errnoOf } from '../../shared/errors.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import type { OpenSegments } from './open-segments.ts'
import type { PartitionLog } from './partition-log.ts'
import { firstOffsetAtTime, outOfRange, readSegment, type SegmentReadRequest, type SegmentView } from './segment-reader.ts'
import { maxTimestampOf, nextOffsetOf, type Segment } from './segment.ts'
import type { TimeIndex } from './time-index.ts'
import type { ReadResult } from './topic-log.ts'

type Missing = ReadResult['missing'][number]

export interface PartitionReadRequest {
  readonly offset: Offset
  readonly bytesMax: number
  readonly endOffset: Offset | undefined
}

export async function readPartition(log: PartitionLog, open: OpenSegments, request: PartitionReadRequest): Promise<ReadResult> {
  const { topic, partition, logEndOffset, highWatermark, logStartOffset } = log
  if (request.offset > logEndOffset) throw outOfRange(topic, partition, { offset: request.offset, logEndOffset })
  const endOffset = toOffset(Math.min(request.endOffset ?? highWatermark, highWatermark))
  const missing: Missing[] = []
  let offset = request.offset
  const skipTo = (end: Offset, reason: string): void => {
    if (end <= offset) return
    missing.push({ fromOffset: offset, toOffset: end, reason })
    offset = end
  }
  skipTo(toOffset(Math.max(offset, Math.min(logStartOffset, endOffset))), 'dropped by retention')
  // Looked up anew each time: while one segment was read, others may have been sealed or dropped.
  for (let segment = segmentAt(log, offset); segment !== undefined && offset < endOffset; segment = segmentAt(log, offset)) {
    const result = await readOne(log, open, segment, { offset, endOffset, bytesMax: request.bytesMax })
    missing.push(...result.missing)
    if (result.batches.length > 0) return { batches: result.batches, nextOffset: result.nextOffset, missing }
    // Nothing readable from here to the segment's end: the damage is named and the next segment tried.
    skipTo(toOffset(Math.min(nextOffsetOf(segment), endOffset)), result.reason ?? 'damaged')
  }
  // What is left below the end has no segment: offsets that were lost with the log's tail, or a missing file.
  if (offset < endOffset) skipTo(endOffset, 'no segment holds these offsets')
  return { batches: Buffer.alloc(0), nextOffset: offset, missing }
}

/** The segment that holds the offset, or the first behind it. */
function segmentAt(log: PartitionLog, offset: Offset): Segment | undefined {
  return log.segments().find((segment) => nextOffsetOf(segment) > offset)
}

type SegmentResult = ReadResult & { readonly reason?: string }

async function readOne(log: PartitionLog, open: OpenSegments, segment: Segment, request: SegmentReadRequest): Promise<SegmentResult> {
  try {
    return await viewSegment(open, log.directory, segment, (view) => readSegment(view, request))
  } catch (error) {
    const errno = errnoOf(error)
    // A file that was removed or can't be read must not hide the segments behind it.
    if (errno !== 'ENOENT' && errno !== 'EIO') throw error
    const gone = log.logStartOffset >= nextOffsetOf(segment) ? 'dropped by retention' : 'its file is missing'
    return { batches: Buffer.alloc(0), nextOffset: request.offset, missing: [], reason: errno === 'EIO' ? 'the disk cannot read it' : gone }
  }
}

/** Lower bound by the index and by batch headers: no record at or behind the time stands before the offset answered. */
export async function offsetForTimestamp(log: PartitionLog, open: OpenSegments, timestampMs: number): Promise<Offset> {
  let offset = log.logStartOffset
  for (let segment = segmentAt(log, offset); segment !== undefined; segment = segmentAt(log, offset)) {
    const maxTimestampMs = maxTimestampOf(segment)
    if (maxTimestampMs !== undefined && maxTimestampMs >= timestampMs) {
      const found = await timeInSegment(log, open, segment, timestampMs)
      if (found !== undefined) return toOffset(Math.min(found, log.highWatermark))
    }
    offset = nextOffsetOf(segment)
  }
  return log.highWatermark
}

/** A segment that can't be read may hold the time: then the answer is its start, which is still a lower bound. */
async function timeInSegment(log: PartitionLog, open: OpenSegments, segment: Segment, timestampMs: number): Promise<Offset | undefined> {
  try {
    return await viewSegment(open, log.directory, segment, (view) => firstOffsetAtTime(view, timestampMs))
  } catch (error) {
    const errno = errnoOf(error)
    if (errno !== 'ENOENT' && errno !== 'EIO') throw error
    return segment.baseOffset
  }
}

type TimedView = SegmentView & { readonly times: TimeIndex }

function viewSegment<T>(open: OpenSegments, directory: string, segment: Segment, read: (view: TimedView) => Promise<T>): Promise<T> {
  const { baseOffset, sizeBytes } = segment
  if (segment.kind === 'sealed') {
    return open.use(directory, segment, ({ handle, offsets, times }) => read({ handle, baseOffset, sizeBytes, offsets, times }))
  }
  const { offsets, times } = segment.index
  return segment.handle.use((handle) => read({ handle, baseOffset, sizeBytes, offsets, times }))
}
