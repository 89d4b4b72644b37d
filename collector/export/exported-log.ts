/**
 * Reads what was exported as if it were still a log: batches from an offset on, times to offsets. Which segments there
 * are is told by others (the journal, or the manifests on the store). A segment is found without asking the store,
 * positions come from its exported index, and every batch is checked by its CRC before it is given.
 *
 * What can't be read is never an error here: it is a missing range with its reason, and reading goes on behind it. When
 * the store does not answer, all up to the end asked for is missing, and for a while nobody asks it again: a query over
 * a thousand segments must not wait a thousand times. Calls may run at the same time. Nothing is written.
 */
import { createHash } from 'node:crypto'
import { AppError, toAppError } from '../../shared/errors.ts'
import type { System } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import { OffsetIndex } from '../storage/offset-index.ts'
import { firstOffsetAtTime, readSegment, type SegmentView } from '../storage/segment-reader.ts'
import { TimeIndex } from '../storage/time-index.ts'
import type { ReadRequest, ReadResult, SegmentSummary } from '../storage/topic-log.ts'
import { ByteLru } from './byte-lru.ts'
import type { ExportedFile, ExportedFiles } from './exported-files.ts'
import type { ExportedSegment } from './journal-format.ts'
import { segmentPath, type SegmentFileKind, type SegmentKey } from './layout.ts'

export interface ExportedLogOptions {
  readonly files: ExportedFiles
  /** By base offset, in order of their first export. */
  readonly segments: (topic: string, partition: number) => ReadonlyMap<Offset, ExportedSegment>
}

/** Of one partition: segments that begin in [from, to) count. */
export interface ExportedRange {
  readonly topic: string
  readonly partition: number
  readonly from: Offset
  readonly to: Offset
}

/** An index has 8 bytes and a time index 12 for each 4 KiB of a segment of at most 1 GiB. */
const INDEX_BYTES_MAX = 16 * 1024 * 1024
const INDEXES_BYTES_MAX = 32 * 1024 * 1024
const PAUSE_MS = 30_000

type RecordedSegment = ExportedSegment & { readonly progress: Extract<ExportedSegment['progress'], { kind: 'recorded' }> }
type TimedView = SegmentView & { readonly times: TimeIndex }

interface Indexes {
  readonly offsets: OffsetIndex
  readonly times: TimeIndex
}

export class ExportedLog {
  private readonly system: Pick<System, 'clock' | 'log'>
  private readonly options: ExportedLogOptions
  private readonly indexes = new ByteLru<Indexes>(INDEXES_BYTES_MAX)
  private silence: { readonly untilMs: number; readonly reason: string } | undefined

  constructor(system: Pick<System, 'clock' | 'log'>, options: ExportedLogOptions) {
    this.system = system
    this.options = options
  }

  /** The first offset that was exported from this range, undefined when none was. */
  firstOffset(range: ExportedRange): Offset | undefined {
    for (const { key } of this.recorded(range)) return key.baseOffset
    return undefined
  }

  /** Whether a recorded segment holds this offset. */
  holds(at: { topic: string; partition: number; offset: Offset }): boolean {
    const segment = this.segmentAt({ ...at, from: toOffset(0), to: toOffset(at.offset + 1) }, at.offset)
    return segment !== undefined && segment.key.baseOffset <= at.offset
  }

  summaries(range: ExportedRange): SegmentSummary[] {
    return [...this.recorded(range)].sort((a, b) => a.key.baseOffset - b.key.baseOffset).map(({ key, progress }) => ({
      topic: key.topic,
      partition: key.partition,
      baseOffset: key.baseOffset,
      nextOffset: key.nextOffset,
      sizeBytes: lengthOf(progress, 'log'),
      isSealed: true,
      firstAppendMs: undefined,
      lastAppendMs: undefined,
      // An upper bound is what is promised, and of a segment whose newest record was not noted nothing better is known.
      maxTimestampMs: progress.maxTimestampMs === undefined ? Number.MAX_SAFE_INTEGER : (progress.maxTimestampMs ?? undefined),
    }))
  }

  /** Batches of [offset, endOffset) from segments of the range; what is not there is missing. */
  async read(range: ExportedRange, request: Pick<ReadRequest, 'offset' | 'bytesMax'> & { readonly endOffset: Offset }): Promise<ReadResult> {
    const missing: ReadResult['missing'][number][] = []
    let { offset } = request
    const skipTo = (end: number, reason: string): void => {
      const toOffsetHere = toOffset(Math.min(end, request.endOffset))
      if (toOffsetHere > offset) missing.push({ fromOffset: offset, toOffset: toOffsetHere, reason })
      offset = toOffset(Math.max(offset, toOffsetHere))
    }
    while (offset < request.endOffset) {
      const segment = this.segmentAt(range, offset)
      offset = this.behindVoid(range, { offset, to: toOffset(Math.min(segment?.key.baseOffset ?? request.endOffset, request.endOffset)) })
      skipTo(segment?.key.baseOffset ?? request.endOffset, this.reasonFor(range, offset))
      if (segment === undefined || offset >= request.endOffset) break
      const result = await this.readOne(segment, { ...request, offset })
      if (result.kind === 'silent') skipTo(request.endOffset, result.reason)
      else {
        missing.push(...result.missing)
        if (result.batches.length > 0) return { batches: result.batches, nextOffset: result.nextOffset, missing }
        skipTo(segment.key.nextOffset, result.reason ?? 'exported, but damaged on the store')
      }
    }
    return { batches: Buffer.alloc(0), nextOffset: offset, missing }
  }

  /** Lower bound, as the log's own; undefined when no segment of the range reaches the time. */
  async offsetForTimestamp(range: ExportedRange, timestampMs: number): Promise<Offset | undefined> {
    for (const segment of [...this.recorded(range)].sort((a, b) => a.key.baseOffset - b.key.baseOffset)) {
      const { maxTimestampMs } = segment.progress
      if (maxTimestampMs === null || (maxTimestampMs !== undefined && maxTimestampMs < timestampMs)) continue
      // Its start is a lower bound as well, and all there is when the store does not say more.
      if (this.isSilent()) return segment.key.baseOffset
      try {
        const found = await firstOffsetAtTime(await this.view(segment), timestampMs)
        if (found !== undefined) return found
      } catch (error) {
        this.noteFailure(toAppError(error), segment.key)
        return segment.key.baseOffset
      }
    }
    return undefined
  }

  private *recorded(range: ExportedRange): Generator<RecordedSegment> {
    for (const { key, progress } of this.options.segments(range.topic, range.partition).values()) {
      if (progress.kind === 'recorded' && key.baseOffset >= range.from && key.baseOffset < range.to) yield { key, progress }
    }
  }

  /** The recorded segment that holds the offset, or the first behind it. */
  private segmentAt(range: ExportedRange, offset: Offset): RecordedSegment | undefined {
    let found: RecordedSegment | undefined
    for (const segment of this.recorded(range)) {
      if (segment.key.nextOffset > offset && (found === undefined || segment.key.baseOffset < found.key.baseOffset)) found = segment
    }
    return found
  }

  /** Offsets that no record ever had are nobody's loss. Answers `offset` where it is none of those. */
  private behindVoid({ topic, partition }: ExportedRange, { offset, to }: { offset: Offset; to: Offset }): Offset {
    for (const { key, progress } of this.options.segments(topic, partition).values()) {
      if (progress.kind !== 'skipped' || !progress.isVoid || offset < key.baseOffset || offset >= key.nextOffset) continue
      return toOffset(Math.max(offset, Math.min(key.nextOffset, to)))
    }
    return offset
  }

  /** Why no recorded segment holds this offset. */
  private reasonFor({ topic, partition, from }: ExportedRange, offset: Offset): string {
    for (const { key, progress } of this.options.segments(topic, partition).values()) {
      if (offset < from || offset < key.baseOffset || offset >= key.nextOffset) continue
      if (progress.kind === 'damaged') return `damaged before it could be exported: ${progress.reason}`
      if (progress.kind === 'skipped') return 'given up by an operator: neither here nor exported'
    }
    return 'dropped by retention, and not exported'
  }

  private async readOne(
    segment: RecordedSegment,
    request: { offset: Offset; endOffset: Offset; bytesMax: number },
  ): Promise<({ readonly kind: 'read'; readonly reason?: string } & ReadResult) | { readonly kind: 'silent'; readonly reason: string }> {
    if (this.isSilent()) return { kind: 'silent', reason: this.silence?.reason ?? '' }
    try {
      const first = await readSegment(await this.view(segment), request)
      if (first.missing.length === 0 && first.batches.length > 0) return { kind: 'read', ...first }
      // Damage may have come with one transfer and stand in a cache: only a second look at the store makes it a fact.
      await this.options.files.forget(fileOf(segment, 'log'))
      return { kind: 'read', ...(await readSegment(await this.view(segment), request)) }
    } catch (error) {
      const reason = this.noteFailure(toAppError(error), segment.key)
      if (this.isSilent()) return { kind: 'silent', reason }
      return { kind: 'read', reason, batches: Buffer.alloc(0), nextOffset: request.offset, missing: [] }
    }
  }

  private async view(segment: RecordedSegment): Promise<TimedView> {
    const log = fileOf(segment, 'log')
    const { offsets, times } = await this.indexesOf(segment)
    return { handle: this.options.files.open(log), baseOffset: segment.key.baseOffset, sizeBytes: log.lengthBytes, offsets, times }
  }

  private async indexesOf(segment: RecordedSegment): Promise<Indexes> {
    const key = fileOf(segment, 'log').path
    const held = this.indexes.get(key)
    if (held !== undefined) return held
    const [index, timeIndex] = [await this.indexBytes(segment, 'index'), await this.indexBytes(segment, 'timeindex')]
    const { baseOffset } = segment.key
    const indexes = { offsets: new OffsetIndex(baseOffset, index), times: new TimeIndex(baseOffset, timeIndex) }
    this.indexes.set(key, indexes, index.length + timeIndex.length)
    return indexes
  }

  /** A wrong index would hide batches, and nothing in it tells that it is wrong. */
  private async indexBytes(segment: RecordedSegment, kind: 'index' | 'timeindex'): Promise<Buffer> {
    const file = fileOf(segment, kind)
    const isWhole = (bytes: Buffer): boolean => createHash('sha256').update(bytes).digest('hex') === file.sha256
    const first = await this.options.files.whole(file, INDEX_BYTES_MAX)
    if (isWhole(first)) return first
    await this.options.files.forget(file)
    const second = await this.options.files.whole(file, INDEX_BYTES_MAX)
    if (isWhole(second)) return second
    throw new AppError('CORRUPT_DATA', `${file.path} is not what was exported`)
  }

  private isSilent(): boolean {
    if (this.silence !== undefined && this.silence.untilMs <= this.system.clock.monotonicMs()) this.silence = undefined
    return this.silence !== undefined
  }

  private noteFailure(error: AppError, key: SegmentKey): string {
    const isSilent = silentCodes.has(error.code)
    const reason = isSilent ? `exported, but the store does not answer: ${error.message}` : `exported, but it can not be read back: ${error.message}`
    if (isSilent) this.silence = { untilMs: this.system.clock.monotonicMs() + PAUSE_MS, reason }
    this.system.log.warn('an exported segment can not be read back', { topic: key.topic, partition: key.partition, baseOffset: key.baseOffset, code: error.code, error: error.message })
    return reason
  }
}

/** The store as a whole, not one of its files. */
const silentCodes: ReadonlySet<string> = new Set(['CANNOT_CONNECT', 'UNKNOWN_OUTCOME', 'REMOTE_ERROR', 'UNAVAILABLE', 'UNAUTHENTICATED', 'ABORTED'])

function fileOf({ key, progress }: RecordedSegment, kind: SegmentFileKind): ExportedFile {
  const file = progress.files.find((each) => each.kind === kind)
  if (file === undefined) throw new AppError('CORRUPT_DATA', `the export of ${key.topic}-${key.partition} at ${key.baseOffset} has no ${kind}`)
  return { path: segmentPath(key, kind), lengthBytes: file.lengthBytes, sha256: file.sha256 }
}

function lengthOf(progress: RecordedSegment['progress'], kind: SegmentFileKind): number {
  return progress.files.find((file) => file.kind === kind)?.lengthBytes ?? 0
}
