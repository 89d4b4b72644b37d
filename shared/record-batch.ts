/**
 * Kafka's RecordBatch v2 (magic 2), byte for byte: the unit that the agent seals, the collector stores, consumers read
 * and HDFS keeps. Source of the format: Kafka's DefaultRecordBatch and DefaultRecord.
 *
 * | offset | bytes | field | |
 * |---|---|---|---|
 * | 0 | 8 | base offset | outside the CRC; patched by the collector |
 * | 8 | 4 | batch length | bytes behind this field |
 * | 12 | 4 | partition leader epoch | outside the CRC; patched by the collector |
 * | 16 | 1 | magic = 2 | |
 * | 17 | 4 | CRC-32C over bytes 21… | |
 * | 21 | 2 | attributes | bits 0–2 codec (4 = zstd), 3 timestamp type, 4 transactional, 5 control, 6 delete horizon |
 * | 23 | 4 | last offset delta | |
 * | 27 | 8 | base timestamp ms | |
 * | 35 | 8 | max timestamp ms | |
 * | 43 | 8 | producer id | |
 * | 51 | 2 | producer epoch | |
 * | 53 | 4 | base sequence | |
 * | 57 | 4 | record count | |
 * | 61 | … | records, one zstd frame | |
 *
 * A record: length varint, attributes 0, timestamp delta varlong, offset delta varint, key (varint length, -1 = null),
 * value (same), header count varint, then key and value of each header. Varints are zigzag.
 *
 * A sealed batch is a batch whose first record carries the `tr` header (source-header.ts). Where that costs nothing much,
 * the frame's first block holds that record alone, and holds it uncompressed: valid for every decoder, and everybody who
 * only asks whose lines these are is spared the decompression of 128 KiB.
 */
import { ByteReader } from './bytes.ts'
import { crc32c } from './crc32c.ts'
import { AppError } from './errors.ts'
import { LABELS_HEADER_KEY } from './labels.ts'
import { decodeSourceHeader, EOF_HEADER_KEY, PART_HEADER_KEY, SOURCE_HEADER_KEY, type SourceHeader } from './source-header.ts'
import { toOffset, type Offset } from './types.ts'
import { parseFrame } from './zstd-frame.ts'
import type { Zstd } from './zstd.ts'

export const BATCH_HEADER_BYTES = 61
/** Base offset and batch length: what is needed to know where the batch ends. */
const BATCH_PREFIX_BYTES = 12
export const CODEC_NONE = 0
export const CODEC_ZSTD = 4
const MAGIC = 2
const CRC_FROM = 21
const ATTRIBUTES_CODEC = 0x07
const ATTRIBUTES_KNOWN = 0x07

export interface BatchHeader {
  readonly baseOffset: Offset
  /** Whole size in bytes, from the base offset to the last byte of the records. */
  readonly sizeBytes: number
  readonly leaderEpoch: number
  readonly crc: number
  readonly attributes: number
  readonly codec: number
  readonly lastOffsetDelta: number
  readonly lastOffset: Offset
  readonly baseTimestampMs: number
  readonly maxTimestampMs: number
  readonly producerId: bigint
  readonly producerEpoch: number
  readonly baseSequence: number
  readonly recordCount: number
}

/** Size of the batch that starts at `at`, or undefined when fewer than 12 bytes are there. May be nonsense in damaged data. */
export function peekBatchSize(buffer: Buffer, at = 0): number | undefined {
  if (buffer.length - at < BATCH_PREFIX_BYTES) return undefined
  return buffer.readInt32BE(at + 8) + BATCH_PREFIX_BYTES
}

/** Reads the 61 header bytes at `at`; checks only what is needed to read them. Throws CORRUPT_MESSAGE. */
export function readBatchHeader(buffer: Buffer, at = 0): BatchHeader {
  const reader = new ByteReader(buffer, at)
  const baseOffset = toOffset(reader.safe64())
  const sizeBytes = reader.i32() + BATCH_PREFIX_BYTES
  if (sizeBytes < BATCH_HEADER_BYTES) throw corrupt(`batch length says ${sizeBytes} bytes`)
  const leaderEpoch = reader.i32()
  const magic = reader.u8()
  if (magic !== MAGIC) throw corrupt(`magic ${magic} instead of 2`)
  const crc = reader.u32()
  const attributes = reader.u16()
  const lastOffsetDelta = reader.i32()
  if (lastOffsetDelta < 0) throw corrupt(`last offset delta ${lastOffsetDelta}`)
  return {
    baseOffset,
    sizeBytes,
    leaderEpoch,
    crc,
    attributes,
    codec: attributes & ATTRIBUTES_CODEC,
    lastOffsetDelta,
    lastOffset: toOffset(baseOffset + lastOffsetDelta),
    baseTimestampMs: signed64(reader),
    maxTimestampMs: signed64(reader),
    producerId: BigInt.asIntN(64, reader.u64()),
    producerEpoch: reader.i16(),
    baseSequence: reader.i32(),
    recordCount: reader.i32(),
  }
}

function signed64(reader: ByteReader): number {
  return Number(BigInt.asIntN(64, reader.u64()))
}

/** Whether the CRC in the header is that of the batch's bytes. `batch` is exactly one batch. */
export function hasValidCrc(batch: Buffer): boolean {
  return batch.length >= BATCH_HEADER_BYTES && crc32c(batch.subarray(CRC_FROM)) === batch.readUInt32BE(17)
}

/** Sets the two fields that stand outside the CRC: the only bytes of a sealed batch that a collector ever changes. */
export function patchBatch(batch: Buffer, fields: { baseOffset: Offset; leaderEpoch: number }): void {
  batch.writeUInt32BE(Math.floor(fields.baseOffset / 0x1_0000_0000), 0)
  batch.writeUInt32BE(fields.baseOffset % 0x1_0000_0000, 4)
  batch.writeInt32BE(fields.leaderEpoch, 12)
}

/**
 * The checks of a batch that comes from outside, without decompressing it: sizes, magic, CRC, zstd codec, no attribute
 * that a producer may not set, count and last offset delta agree, the zstd frame is single and under the cap.
 */
export function checkBatch(batch: Buffer, limits: { contentBytesMax: number }): BatchHeader {
  if (batch.length < BATCH_HEADER_BYTES) throw corrupt(`${batch.length} bytes are too few for a batch`)
  const header = readBatchHeader(batch)
  if (header.sizeBytes !== batch.length) throw corrupt(`batch says ${header.sizeBytes} bytes, frame has ${batch.length}`)
  if (!hasValidCrc(batch)) throw corrupt('CRC-32C does not match')
  if (header.codec !== CODEC_ZSTD) throw new AppError('UNSUPPORTED_COMPRESSION', `codec ${header.codec}, only zstd (4) is taken`)
  if ((header.attributes & ~ATTRIBUTES_KNOWN) !== 0) throw invalid(`attributes 0x${header.attributes.toString(16)} are not a producer's to set`)
  if (header.recordCount < 1) throw invalid(`${header.recordCount} records`)
  if (header.lastOffsetDelta !== header.recordCount - 1) {
    throw invalid(`last offset delta ${header.lastOffsetDelta} with ${header.recordCount} records`)
  }
  if (header.maxTimestampMs < header.baseTimestampMs) throw invalid('max timestamp is before base timestamp')
  parseFrame(recordsOf(batch), limits.contentBytesMax)
  return header
}

/** The records section as stored: one zstd frame, or plain records when the codec is none. */
export function recordsOf(batch: Buffer): Buffer {
  return batch.subarray(BATCH_HEADER_BYTES)
}

/** The records section decompressed. `batch` is one whole batch whose CRC was checked; `allocate` as in `Zstd.decompressSync`. */
export function decodeRecords(batch: Buffer, zstd: Zstd, contentBytesMax: number, allocate?: (bytes: number) => Buffer): Buffer {
  const codec = batch.readUInt16BE(21) & ATTRIBUTES_CODEC
  if (codec === CODEC_NONE) return recordsOf(batch)
  if (codec !== CODEC_ZSTD) throw new AppError('UNSUPPORTED_COMPRESSION', `codec ${codec}`)
  return zstd.decompressSync(recordsOf(batch), contentBytesMax, allocate)
}

/** Key, `tr` header and labels of a batch's first record, as copies or views; undefined where the record has none. */
export interface FirstRecord {
  readonly key: Buffer | undefined
  readonly sourceHeader: Buffer | undefined
  readonly labels: Buffer | undefined
}

/**
 * The first record's key and `tr` header. Costs at most one zstd block; only where the first record is longer than that
 * (128 KiB) is the whole frame decompressed, since headers stand behind the value.
 */
export function readFirstRecord(batch: Buffer, zstd: Zstd, contentBytesMax: number): FirstRecord {
  const codec = batch.readUInt16BE(21) & ATTRIBUTES_CODEC
  if (codec === CODEC_NONE) return firstRecord(recordsOf(batch))
  const firstBlock = zstd.firstBlockSync(recordsOf(batch), contentBytesMax)
  if (holdsFirstRecord(firstBlock)) return firstRecord(firstBlock)
  return firstRecord(zstd.decompressSync(recordsOf(batch), contentBytesMax))
}

/** The `tr` header as it stands in the batch, undefined when the first record has none. */
export function readSourceHeaderBytes(batch: Buffer, zstd: Zstd, contentBytesMax: number): Buffer | undefined {
  return readFirstRecord(batch, zstd, contentBytesMax).sourceHeader
}

export function readSourceHeader(batch: Buffer, zstd: Zstd, contentBytesMax: number): SourceHeader | undefined {
  const bytes = readSourceHeaderBytes(batch, zstd, contentBytesMax)
  return bytes === undefined ? undefined : decodeSourceHeader(bytes)
}

function holdsFirstRecord(raw: Buffer): boolean {
  const reader = new ByteReader(raw)
  const length = reader.varint()
  return length <= reader.remaining
}

function firstRecord(raw: Buffer): FirstRecord {
  const cursor = new RecordCursor(raw)
  if (!cursor.next()) return { key: undefined, sourceHeader: undefined, labels: undefined }
  const key = cursor.keyStart < 0 ? undefined : raw.subarray(cursor.keyStart, cursor.keyEnd)
  return { key, sourceHeader: cursor.header(SOURCE_HEADER_KEY), labels: cursor.header(LABELS_HEADER_KEY) }
}

/** What follows a record's value in its source file. */
export type RecordMark = 'newline' | 'part' | 'eof'

/**
 * Walks decompressed records without allocating per record: the public fields describe the current record, all
 * positions index into `raw`.
 */
export class RecordCursor {
  readonly raw: Buffer
  /** Position of the record's length varint. */
  start = 0
  /** Behind the record's last byte. */
  end = 0
  timestampDelta = 0
  offsetDelta = 0
  /** -1 when the key is null. */
  keyStart = -1
  keyEnd = -1
  /** -1 when the value is null. */
  valueStart = -1
  valueEnd = -1
  headersAt = 0
  headerCount = 0
  private readonly reader: ByteReader

  constructor(raw: Buffer) {
    this.raw = raw
    this.reader = new ByteReader(raw)
  }

  /** Moves to the next record; false at the end. Throws CORRUPT_MESSAGE. */
  next(): boolean {
    const { reader } = this
    if (reader.at >= this.raw.length) return false
    this.start = reader.at
    const length = reader.varint()
    if (length < 0 || length > reader.remaining) throw corrupt(`record of ${length} bytes at ${this.start}, ${reader.remaining} are left`)
    this.end = reader.at + length
    reader.u8()
    this.timestampDelta = reader.varlong()
    this.offsetDelta = reader.varint()
    const keyLength = reader.varint()
    this.keyStart = keyLength < 0 ? -1 : reader.at
    if (keyLength > 0) this.skip(keyLength)
    this.keyEnd = keyLength < 0 ? -1 : reader.at
    const valueLength = reader.varint()
    this.valueStart = valueLength < 0 ? -1 : reader.at
    if (valueLength > 0) this.skip(valueLength)
    this.valueEnd = valueLength < 0 ? -1 : reader.at
    this.headerCount = reader.varint()
    this.headersAt = reader.at
    if (this.headerCount < 0 || reader.at > this.end) throw corrupt(`record at ${this.start} does not fit its length`)
    reader.at = this.end
    return true
  }

  /** Passes over the records that end at or before `position`, by their lengths alone; `next` then moves to the one behind. */
  skipTo(position: number): void {
    const { reader, raw } = this
    for (let start = reader.at; start < raw.length; start = reader.at) {
      const length = reader.varint()
      const end = reader.at + length
      // A length that makes no sense is left to `next`, which tells.
      if (length < 0 || end > raw.length || end > position) {
        reader.at = start
        return
      }
      reader.at = end
      this.end = end
    }
  }

  /** Value of the current record's header of this name, as a view; undefined when absent or null. */
  header(name: string): Buffer | undefined {
    const reader = new ByteReader(this.raw, this.headersAt, this.end)
    for (let count = 0; count < this.headerCount; count += 1) {
      const key = reader.bytes(reader.varint())
      const length = reader.varint()
      const value = length < 0 ? undefined : reader.bytes(length)
      if (key.length === name.length && key.toString('latin1') === name) return value
    }
    return undefined
  }

  mark(): RecordMark {
    if (this.headerCount === 0) return 'newline'
    if (this.header(PART_HEADER_KEY) !== undefined) return 'part'
    return this.header(EOF_HEADER_KEY) === undefined ? 'newline' : 'eof'
  }

  private skip(count: number): void {
    if (count > this.reader.remaining) throw corrupt(`field of ${count} bytes at ${this.reader.at}`)
    this.reader.at += count
  }
}

export interface RecordsSection {
  readonly raw: Buffer
  /** So many bytes of it are to stand uncompressed at the start of the frame: the first record, or 0. */
  readonly plainBytes: number
  readonly recordCount: number
  readonly baseTimestampMs: number
  readonly maxTimestampMs: number
}

export interface ProducerFields {
  readonly producerId: bigint
  readonly producerEpoch: number
  readonly baseSequence: number
}

export const NO_PRODUCER: ProducerFields = { producerId: -1n, producerEpoch: -1, baseSequence: -1 }

/** 2^62 + 61 bits of the stream id, epoch 0, first ordinal mod 2^31: for Kafka's tools, never for our own decisions. */
export function producerOf(stream: Buffer, firstOrdinal: number): ProducerFields {
  const producerId = (1n << 62n) + (stream.readBigUInt64BE(0) >> 3n)
  return { producerId, producerEpoch: 0, baseSequence: firstOrdinal % 0x8000_0000 }
}

/**
 * The finished batch with base offset 0 and leader epoch -1, as a producer sends it. `frame` is `section.raw`
 * compressed, in pieces. `allocate` gives the memory, of exactly the size asked for.
 */
export function sealBatch(
  section: RecordsSection,
  frame: readonly Uint8Array[],
  producer: ProducerFields,
  allocate: (bytes: number) => Buffer = (bytes) => Buffer.allocUnsafe(bytes),
): Buffer {
  const frameBytes = frame.reduce((sum, piece) => sum + piece.length, 0)
  const batch = allocate(BATCH_HEADER_BYTES + frameBytes)
  batch.fill(0, 0, 8)
  batch.writeInt32BE(batch.length - BATCH_PREFIX_BYTES, 8)
  batch.writeInt32BE(-1, 12)
  batch.writeUInt8(MAGIC, 16)
  batch.writeUInt16BE(CODEC_ZSTD, 21)
  batch.writeInt32BE(section.recordCount - 1, 23)
  batch.writeBigInt64BE(BigInt(section.baseTimestampMs), 27)
  batch.writeBigInt64BE(BigInt(section.maxTimestampMs), 35)
  batch.writeBigInt64BE(producer.producerId, 43)
  batch.writeInt16BE(producer.producerEpoch, 51)
  batch.writeInt32BE(producer.baseSequence, 53)
  batch.writeInt32BE(section.recordCount, 57)
  let at = BATCH_HEADER_BYTES
  for (const piece of frame) {
    batch.set(piece, at)
    at += piece.length
  }
  batch.writeUInt32BE(crc32c(batch.subarray(CRC_FROM)), 17)
  return batch
}

function corrupt(message: string): AppError {
  return new AppError('CORRUPT_MESSAGE', message)
}

function invalid(message: string): AppError {
  return new AppError('INVALID_RECORD', message)
}
