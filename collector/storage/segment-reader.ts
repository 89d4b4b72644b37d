/**
 * Reads whole batches out of one segment: every batch is checked by its CRC before it is given, and what is damaged is
 * skipped and named. One read of the file and no copy in the usual case. May run at any time beside appends: it never
 * looks behind `sizeBytes`.
 */
import { AppError } from '../../shared/errors.ts'
import { BATCH_HEADER_BYTES, hasValidCrc, type BatchHeader } from '../../shared/record-batch.ts'
import type { ReadableFile } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import { FileWindow, findNextBatch, parseStoredHeader, scanBatches } from './batch-scan.ts'
import type { OffsetIndex } from './offset-index.ts'
import type { TimeIndex } from './time-index.ts'
import type { ReadResult } from './topic-log.ts'

const STEP_BYTES_MIN = 16 * 1024
const STEP_BYTES_MAX = 4 * 1024 * 1024
/** An index entry may stand so far before the batch that is looked for. */
const INDEX_SLACK_BYTES = 8 * 1024

export interface SegmentView {
  readonly handle: ReadableFile
  readonly baseOffset: Offset
  readonly sizeBytes: number
  readonly offsets: OffsetIndex
}

export interface SegmentReadRequest {
  readonly offset: Offset
  /** Batches that begin here or behind are not given. */
  readonly endOffset: Offset
  readonly bytesMax: number
}

type Missing = ReadResult['missing'][number]

/** `nextOffset` is at most `endOffset`; no batches means that the segment holds none from `offset` on. */
export async function readSegment(segment: SegmentView, request: SegmentReadRequest): Promise<ReadResult> {
  const reading = new SegmentReading(segment, request)
  return reading.run()
}

class SegmentReading {
  private readonly segment: SegmentView
  private readonly request: SegmentReadRequest
  private readonly window: FileWindow
  private readonly missing: Missing[] = []
  /** Of the batches that are taken; one stretch of the file. */
  private taken: { from: number; to: number; nextOffset: Offset } | undefined
  private position: number
  /** What the next batch must not be below. */
  private floor: Offset
  private triedWithoutIndex: boolean

  constructor(segment: SegmentView, request: SegmentReadRequest) {
    this.segment = segment
    this.request = request
    const stepBytes = Math.min(STEP_BYTES_MAX, Math.max(STEP_BYTES_MIN, request.bytesMax + INDEX_SLACK_BYTES))
    this.window = new FileWindow(segment.handle, { end: segment.sizeBytes, stepBytes })
    this.position = segment.offsets.lookup(request.offset)
    this.floor = segment.baseOffset
    this.triedWithoutIndex = this.position === 0
  }

  async run(): Promise<ReadResult> {
    const { endOffset, bytesMax } = this.request
    while (this.position < this.segment.sizeBytes) {
      const found = await this.next()
      if (found === 'stop') break
      if (found === 'skipped') continue
      if (found.baseOffset >= endOffset) break
      const end = this.position + found.sizeBytes
      if (this.taken !== undefined && end - this.taken.from > bytesMax) break
      this.noteGap(found.baseOffset)
      this.taken = { from: this.taken?.from ?? this.position, to: end, nextOffset: toOffset(found.lastOffset + 1) }
      this.step(found)
    }
    return this.result()
  }

  /** The batch at the position, checked; `skipped` when the position moved on instead. */
  private async next(): Promise<BatchHeader | 'stop' | 'skipped'> {
    const { segment, request } = this
    const room = segment.sizeBytes - this.position
    // Taken bytes are a view of the window: it must not move once there are some.
    if (this.taken !== undefined && !this.window.holds(this.position, Math.min(BATCH_HEADER_BYTES, room))) return 'stop'
    const bytes = await this.window.view(this.position, BATCH_HEADER_BYTES)
    const header = parseStoredHeader(bytes, { room, expectedOffset: this.floor })
    if (typeof header === 'string') return this.damaged()
    if (header.lastOffset < request.offset) {
      this.step(header)
      return 'skipped'
    }
    if (this.taken !== undefined && !this.window.holds(this.position, header.sizeBytes)) return 'stop'
    const batch = await this.window.view(this.position, header.sizeBytes)
    return hasValidCrc(batch) ? header : this.damaged()
  }

  private async damaged(): Promise<'stop' | 'skipped'> {
    if (this.taken !== undefined) return 'stop'
    if (!this.triedWithoutIndex) {
      // The index may be what is wrong: look from the segment's start before calling it damage.
      this.triedWithoutIndex = true
      this.position = 0
      this.floor = this.segment.baseOffset
      return 'skipped'
    }
    const { handle, sizeBytes } = this.segment
    this.position = await findNextBatch(handle, { from: this.position + 1, to: sizeBytes, expectedOffset: this.floor })
    return 'skipped'
  }

  private step(header: BatchHeader): void {
    this.position += header.sizeBytes
    this.floor = toOffset(header.lastOffset + 1)
  }

  /** Offsets between what was asked for (or was given last) and the batch that comes. */
  private noteGap(baseOffset: Offset): void {
    const from = this.taken?.nextOffset ?? this.request.offset
    if (baseOffset > from) this.missing.push({ fromOffset: from, toOffset: baseOffset, reason: 'damaged or removed' })
  }

  private async result(): Promise<ReadResult> {
    const { missing, taken } = this
    if (taken === undefined) return { batches: Buffer.alloc(0), nextOffset: this.request.offset, missing }
    return { batches: await this.window.view(taken.from, taken.to - taken.from), nextOffset: taken.nextOffset, missing }
  }
}

/**
 * The base offset of the first batch with a record at or behind `timestampMs`, undefined when this segment has none.
 * Timestamps need not rise: the batch answered is the first that reaches the time, so none before it does.
 */
export async function firstOffsetAtTime(
  segment: SegmentView & { readonly times: TimeIndex },
  timestampMs: number,
): Promise<Offset | undefined> {
  const before = segment.times.lastBefore(timestampMs)
  const from = before === undefined ? 0 : segment.offsets.lookup(before.offset)
  const scan = scanBatches(segment.handle, { from, to: segment.sizeBytes, expectedOffset: segment.baseOffset, shouldVerify: () => false })
  for await (const found of scan) {
    if (found.kind === 'batch' && found.header.maxTimestampMs >= timestampMs) return found.header.baseOffset
  }
  return undefined
}

export function outOfRange(topic: string, partition: number, values: { offset: Offset; logEndOffset: Offset }): AppError {
  return new AppError('OFFSET_OUT_OF_RANGE', `${topic}-${partition} ends at ${values.logEndOffset}, offset ${values.offset} is not there yet`)
}
