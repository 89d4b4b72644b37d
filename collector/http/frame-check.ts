/**
 * Judges one frame of `POST /v1/batches` before it may go to the log. A ladder: each step takes what the one before
 * has proved, and each refusal has its own code. Pure: nothing is stored, nothing is remembered.
 *
 * Always: envelope, topic name, sizes, CRC-32C, codec, attributes, counts, one zstd frame under the cap, the `tr` header
 * equal to the envelope, stream id and producer id as they follow from its fields, key and header name one host, the
 * host is the sender's, labels are few and small. Sampled, since it costs a whole decompression: every record and the source bytes' hash.
 */
import { AppError } from '../../shared/errors.ts'
import { sha256Prefix, streamId, tailHash } from '../../shared/hashes.ts'
import { decodeLabels, LABELS_HEADER_KEY } from '../../shared/labels.ts'
import { checkBatch, decodeRecords, producerOf, readFirstRecord, RecordCursor, type BatchHeader } from '../../shared/record-batch.ts'
import { decodeSourceHeader, SOURCE_HEADER_KEY, TAIL_BYTES_MAX, type SourceHeader } from '../../shared/source-header.ts'
import { checkTopicName, decodeEnvelope, splitRecordKey, wireLimits, type BatchFrame } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { SourcedBatch } from '../storage/topic-log.ts'
import { checkIdentity, type Caller } from './auth.ts'

export interface CheckedFrame extends SourcedBatch {
  readonly header: BatchHeader
  /** Whether every record was looked at. */
  readonly isFullyDecoded: boolean
}

export interface FrameContext {
  readonly zstd: Zstd
  readonly caller: Caller
}

/** One batch in so many is decoded whole, and the first of every stream. */
const SAMPLE_ONE_IN = 64
/** A host is part of the record key, before the colon. */
const hostPattern = /^[^\s:/\p{Cc}]{1,255}$/u
const NEWLINE = 0x0a

/** Throws AppError; see the ladder above. */
export function checkFrame(frame: BatchFrame, context: FrameContext): CheckedFrame {
  const { batch } = frame
  const envelope = decodeEnvelope(frame.envelope)
  const topic = checkTopicName(envelope.topic)
  if (batch.length > wireLimits.batchBytesMax) {
    throw new AppError('MESSAGE_TOO_LARGE', `batch of ${batch.length} bytes is over ${wireLimits.batchBytesMax}`, { hint: 'lower batchBytesMax' })
  }
  const header = checkBatch(batch, { contentBytesMax: wireLimits.batchContentBytesMax })
  const first = readFirstRecord(batch, context.zstd, wireLimits.batchContentBytesMax)
  if (first.sourceHeader === undefined) throw new AppError('INVALID_RECORD', 'the first record has no tr header')
  if (!first.sourceHeader.equals(envelope.sourceHeader)) {
    throw new AppError('ENVELOPE_MISMATCH', 'the envelope differs from the tr header inside the batch')
  }
  if (first.labels !== undefined) decodeLabels(first.labels)
  const source = decodeSourceHeader(first.sourceHeader)
  checkSource(source, { topic, header, key: first.key })
  checkIdentity(context.caller, source)
  const isFullyDecoded = source.start === 0 || header.crc % SAMPLE_ONE_IN === 0
  if (isFullyDecoded) checkContent(batch, { source, header, zstd: context.zstd })
  return { topic, source, batch, header, isFullyDecoded }
}

function checkSource(source: SourceHeader, { topic, header, key }: { topic: string; header: BatchHeader; key: Buffer | undefined }): void {
  if (!hostPattern.test(source.host)) throw new AppError('INVALID_RECORD', `${JSON.stringify(source.host.slice(0, 100))} is not a host name`)
  if (!streamId({ ...source, topic }).equals(source.streamId)) {
    throw new AppError('INVALID_RECORD', 'the stream id does not follow from agent id, topic, inode, birth time and generation')
  }
  if (source.supersedes !== undefined && source.supersedes >= source.generation) {
    throw new AppError('INVALID_RECORD', `generation ${source.generation} can't supersede generation ${source.supersedes}`)
  }
  const producer = producerOf(source.streamId, source.firstOrdinal)
  if (header.producerId !== producer.producerId || header.producerEpoch !== producer.producerEpoch || header.baseSequence !== producer.baseSequence) {
    throw new AppError('INVALID_RECORD', 'producer id, epoch or sequence does not follow from the stream')
  }
  const keyHost = key === undefined ? undefined : splitRecordKey(key.toString('utf8')).host
  if (keyHost !== source.host) throw new AppError('HOST_MISMATCH', 'the record key names another host than the tr header')
  if (source.start + wireLimits.batchContentBytesMax < source.end) {
    throw new AppError('INVALID_RECORD', `a batch can't hold ${source.end - source.start} source bytes`)
  }
}

/** Every record: deltas, one key, one `tr`; and the source bytes that they rebuild: length, hash, tail hash. */
function checkContent(batch: Buffer, { source, header, zstd }: { source: SourceHeader; header: BatchHeader; zstd: Zstd }): void {
  const raw = decodeRecords(batch, zstd, wireLimits.batchContentBytesMax)
  const cursor = new RecordCursor(raw)
  // The rebuilt bytes take the place of the records that were read: `raw` is ours, and a value and its newline are shorter.
  let rebuilt = 0
  let key: Buffer | undefined
  let count = 0
  let mark = 'newline'
  for (; cursor.next(); count += 1) {
    if (cursor.offsetDelta !== count) throw new AppError('INVALID_RECORD', `record ${count} has offset delta ${cursor.offsetDelta}`)
    if (cursor.valueStart < 0 || cursor.keyStart < 0) throw new AppError('INVALID_RECORD', `record ${count} has no ${cursor.keyStart < 0 ? 'key' : 'value'}`)
    key ??= Buffer.from(raw.subarray(cursor.keyStart, cursor.keyEnd))
    if (raw.compare(key, 0, key.length, cursor.keyStart, cursor.keyEnd) !== 0) throw new AppError('INVALID_RECORD', `record ${count} has another key than the first`)
    if (count > 0) checkFollowing(cursor, count)
    mark = cursor.mark()
    raw.copyWithin(rebuilt, cursor.valueStart, cursor.valueEnd)
    rebuilt += cursor.valueEnd - cursor.valueStart
    if (mark === 'newline') {
      raw[rebuilt] = NEWLINE
      rebuilt += 1
    }
  }
  if (count !== header.recordCount) throw new AppError('INVALID_RECORD', `${count} records, the header says ${header.recordCount}`)
  checkBytes(raw.subarray(0, rebuilt), source)
  if ((mark === 'eof') !== source.endsWithEof) throw new AppError('INVALID_RECORD', 'the eof flag differs from the last record')
}

function checkFollowing(cursor: RecordCursor, count: number): void {
  if (cursor.headerCount === 0) return
  if (cursor.header(SOURCE_HEADER_KEY) !== undefined) throw new AppError('INVALID_RECORD', `record ${count} has a tr header`)
  if (cursor.header(LABELS_HEADER_KEY) !== undefined) throw new AppError('INVALID_RECORD', `record ${count} has a header ${LABELS_HEADER_KEY}: only the first one may`)
}

function checkBytes(bytes: Buffer, source: SourceHeader): void {
  if (bytes.length !== source.end - source.start) {
    throw new AppError('INVALID_RECORD', `records hold ${bytes.length} source bytes, the tr header says ${source.end - source.start}`)
  }
  if (!sha256Prefix(bytes).equals(source.sourceHash)) throw new AppError('INVALID_RECORD', 'the hash of the source bytes does not match')
  const holdsTail = source.start === 0 || bytes.length >= TAIL_BYTES_MAX
  if (holdsTail && !tailHash(bytes).equals(source.tailHashEnd)) throw new AppError('INVALID_RECORD', 'the tail hash at the end does not match')
  if (source.start === 0 && !tailHash(Buffer.alloc(0)).equals(source.tailHashStart)) {
    throw new AppError('INVALID_RECORD', 'the tail hash at position 0 is not zero')
  }
}
