/**
 * The bytes and the meaning of the export journal: frames, records, and the fold that turns records into the state of
 * the export. Pure; journal.ts does the I/O.
 *
 * A frame, big-endian:
 *
 * | bytes | field |
 * |---|---|
 * | 4 | length of the payload, 2 to 1 MiB |
 * | 4 | CRC-32C of the payload |
 * | n | payload: one record as JSON, UTF-8 |
 *
 * A record is written when what it says is durable, so a lost record at the end means work done twice, never skipped.
 */
import * as v from 'valibot'
import { crc32c } from '../../shared/crc32c.ts'
import { AppError, unreachable } from '../../shared/errors.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import { isTopicName } from '../../shared/wire.ts'
import { segmentFileKinds, type SegmentFileKind, type SegmentKey } from './layout.ts'

const FRAME_HEADER_BYTES = 8
const PAYLOAD_BYTES_MAX = 1024 * 1024

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const offset = v.pipe(count, v.transform(toOffset))
const topic = v.pipe(v.string(), v.check(isTopicName, 'is a topic name'))
const kind = v.picklist(segmentFileKinds)
const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/))
const remotePath = v.pipe(v.string(), v.maxLength(512))
/** Of the segment's records; null = it has none, absent = written by a build that did not note it. */
const maxTimestampMs = v.optional(v.nullable(v.number()))
const where = { topic, partition: count, baseOffset: offset }

const recordSchema = v.variant('type', [
  /** A new process life, before it writes to the store. */
  v.object({ type: v.literal('boot'), boot: count, nonce: v.string() }),
  /** This segment is next; a second one for the same base offset begins it anew. */
  v.object({ type: v.literal('planned'), ...where, nextOffset: offset, epoch: count }),
  v.object({ type: v.literal('encoded'), ...where, maxTimestampMs, files: v.array(v.object({ kind, lengthBytes: count, sha256 })) }),
  v.object({ type: v.literal('uploaded'), ...where, kind, temp: remotePath }),
  v.object({ type: v.literal('verified'), ...where, kind }),
  /** The temp file was not what we sent, or is gone: this file begins anew. */
  v.object({ type: v.literal('discarded'), ...where, kind }),
  v.object({ type: v.literal('renamed'), ...where, kind }),
  v.object({ type: v.literal('recorded'), ...where }),
  /** The store still had it whole a while later: the local segment may go. */
  v.object({ type: v.literal('checked'), ...where }),
  v.object({ type: v.literal('damaged'), ...where, reason: v.string() }),
  /** An operator gave these offsets up; void: a restore went on behind them, and no record has them. */
  v.object({ type: v.literal('skipped'), topic, partition: count, fromOffset: offset, toOffset: offset, isVoid: v.optional(v.literal(true)) }),
  /** A finished segment in one record: what compaction leaves of the others. */
  v.object({
    type: v.literal('finished'),
    ...where,
    nextOffset: offset,
    epoch: count,
    isChecked: v.boolean(),
    maxTimestampMs,
    files: v.array(v.object({ kind, lengthBytes: count, sha256 })),
  }),
])
export type JournalRecord = v.InferOutput<typeof recordSchema>

export interface EncodedFile {
  readonly kind: SegmentFileKind
  readonly lengthBytes: number
  readonly sha256: string
}

export interface EncodedFacts {
  readonly files: readonly EncodedFile[]
  /** Newest record; null = there is none, undefined = not known. */
  readonly maxTimestampMs: number | null | undefined
}

export type FileProgress =
  | { readonly kind: 'pending' }
  | { readonly kind: 'uploaded'; readonly temp: string }
  | { readonly kind: 'verified'; readonly temp: string }
  | { readonly kind: 'renamed' }

export type SegmentProgress =
  | { readonly kind: 'planned' }
  | (EncodedFacts & { readonly kind: 'encoded'; readonly progress: ReadonlyMap<SegmentFileKind, FileProgress> })
  | (EncodedFacts & { readonly kind: 'recorded'; readonly isChecked: boolean })
  | { readonly kind: 'damaged'; readonly reason: string }
  | { readonly kind: 'skipped'; readonly isVoid: boolean }

export interface ExportedSegment {
  readonly key: SegmentKey
  readonly progress: SegmentProgress
}

export interface ExportState {
  boot: number
  nonce: string
  /** Partition name → base offset → segment, in order of base offset. */
  readonly partitions: Map<string, Map<Offset, ExportedSegment>>
}

export function emptyState(): ExportState {
  return { boot: 0, nonce: '', partitions: new Map() }
}

export function partitionName(at: { topic: string; partition: number }): string {
  return `${at.topic}-${at.partition}`
}

export function encodeFrame(record: JournalRecord): Buffer {
  const payload = Buffer.from(JSON.stringify(record), 'utf8')
  if (payload.length > PAYLOAD_BYTES_MAX) throw new AppError('INTERNAL', `journal record of ${payload.length} bytes`)
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length)
  frame.writeUInt32BE(payload.length, 0)
  frame.writeUInt32BE(crc32c(payload), 4)
  frame.set(payload, FRAME_HEADER_BYTES)
  return frame
}

/** The frame at `at`, or undefined when no whole and valid one stands there. */
export function decodeFrame(bytes: Buffer, at: number): { readonly record: JournalRecord; readonly end: number } | undefined {
  if (bytes.length - at < FRAME_HEADER_BYTES) return undefined
  const length = bytes.readUInt32BE(at)
  const end = at + FRAME_HEADER_BYTES + length
  if (length < 2 || length > PAYLOAD_BYTES_MAX || end > bytes.length) return undefined
  const payload = bytes.subarray(at + FRAME_HEADER_BYTES, end)
  if (crc32c(payload) !== bytes.readUInt32BE(at + 4)) return undefined
  // The CRC holds: what does not parse now was written by a newer build, and guessing would be worse than stopping.
  const result = v.safeParse(recordSchema, JSON.parse(payload.toString('utf8')))
  if (!result.success) {
    throw new AppError('UNSUPPORTED_VERSION', `the export journal holds a record this build does not know: ${result.issues[0].message}`, {
      hint: 'run the newer build again, or move <data>/export aside: segments are recognised by their checksums',
    })
  }
  return { record: result.output, end }
}

/** Applies one record. A record that does not fit (its forerunner was lost with a damaged range) changes nothing. */
export function applyRecord(state: ExportState, record: JournalRecord): void {
  if (record.type === 'boot') {
    state.boot = record.boot
    state.nonce = record.nonce
    return
  }
  const segments = segmentsOf(state, record)
  if (record.type === 'skipped') {
    const key = { topic: record.topic, partition: record.partition, baseOffset: record.fromOffset, nextOffset: record.toOffset, epoch: 0 }
    segments.set(record.fromOffset, { key, progress: { kind: 'skipped', isVoid: record.isVoid === true } })
    return
  }
  if (record.type === 'planned') {
    segments.set(record.baseOffset, { key: keyOf(record), progress: { kind: 'planned' } })
    return
  }
  if (record.type === 'finished') {
    const progress: SegmentProgress = { kind: 'recorded', files: record.files, maxTimestampMs: record.maxTimestampMs, isChecked: record.isChecked }
    segments.set(record.baseOffset, { key: keyOf(record), progress })
    return
  }
  const segment = segments.get(record.baseOffset)
  const progress = segment === undefined ? undefined : nextProgress(segment.progress, record)
  if (segment !== undefined && progress !== undefined) segments.set(record.baseOffset, { key: segment.key, progress })
}

type StepRecord = Exclude<JournalRecord, { type: 'boot' | 'skipped' | 'planned' | 'finished' }>

function nextProgress(progress: SegmentProgress, record: StepRecord): SegmentProgress | undefined {
  switch (record.type) {
    case 'encoded':
      return { kind: 'encoded', files: record.files, maxTimestampMs: record.maxTimestampMs, progress: new Map() }
    case 'damaged':
      return { kind: 'damaged', reason: record.reason }
    case 'recorded':
      return progress.kind === 'encoded' ? { kind: 'recorded', files: progress.files, maxTimestampMs: progress.maxTimestampMs, isChecked: false } : undefined
    case 'checked':
      return progress.kind === 'recorded' ? { ...progress, isChecked: true } : undefined
    case 'uploaded':
    case 'verified':
    case 'discarded':
    case 'renamed': {
      if (progress.kind !== 'encoded') return undefined
      const file = nextFileProgress(progress.progress.get(record.kind), record)
      return file === undefined ? undefined : { ...progress, progress: new Map(progress.progress).set(record.kind, file) }
    }
    default:
      return unreachable(record)
  }
}

function nextFileProgress(
  file: FileProgress | undefined,
  record: Extract<StepRecord, { type: 'uploaded' | 'verified' | 'discarded' | 'renamed' }>,
): FileProgress | undefined {
  switch (record.type) {
    case 'uploaded':
      return { kind: 'uploaded', temp: record.temp }
    case 'verified':
      return file?.kind === 'uploaded' ? { kind: 'verified', temp: file.temp } : undefined
    case 'discarded':
      return { kind: 'pending' }
    case 'renamed':
      return { kind: 'renamed' }
    default:
      return unreachable(record)
  }
}

function keyOf(record: Extract<JournalRecord, { type: 'planned' | 'finished' }>): SegmentKey {
  const { topic: name, partition, baseOffset, nextOffset, epoch } = record
  return { topic: name, partition, baseOffset, nextOffset, epoch }
}

function segmentsOf(state: ExportState, at: { topic: string; partition: number }): Map<Offset, ExportedSegment> {
  const name = partitionName(at)
  const known = state.partitions.get(name)
  if (known !== undefined) return known
  const made = new Map<Offset, ExportedSegment>()
  state.partitions.set(name, made)
  return made
}

/** The fewest records that fold to the same state: what compaction writes. */
export function* snapshotRecords(state: ExportState): Generator<JournalRecord> {
  if (state.boot > 0) yield { type: 'boot', boot: state.boot, nonce: state.nonce }
  for (const segments of state.partitions.values()) {
    for (const segment of segments.values()) yield* segmentRecords(segment)
  }
}

function* segmentRecords({ key, progress }: ExportedSegment): Generator<JournalRecord> {
  const at = { topic: key.topic, partition: key.partition, baseOffset: key.baseOffset }
  switch (progress.kind) {
    case 'recorded':
      yield { type: 'finished', ...key, isChecked: progress.isChecked, maxTimestampMs: progress.maxTimestampMs, files: [...progress.files] }
      return
    case 'skipped':
      yield { type: 'skipped', topic: key.topic, partition: key.partition, fromOffset: key.baseOffset, toOffset: key.nextOffset, ...(progress.isVoid ? { isVoid: true } : {}) }
      return
    case 'planned':
      yield { type: 'planned', ...key }
      return
    case 'damaged':
      yield { type: 'planned', ...key }
      yield { type: 'damaged', ...at, reason: progress.reason }
      return
    case 'encoded':
      yield { type: 'planned', ...key }
      yield { type: 'encoded', ...at, maxTimestampMs: progress.maxTimestampMs, files: [...progress.files] }
      for (const [fileKind, file] of progress.progress) {
        if (file.kind === 'renamed') yield { type: 'renamed', ...at, kind: fileKind }
        if (file.kind === 'uploaded' || file.kind === 'verified') yield { type: 'uploaded', ...at, kind: fileKind, temp: file.temp }
        if (file.kind === 'verified') yield { type: 'verified', ...at, kind: fileKind }
      }
      return
    default:
      unreachable(progress)
  }
}
