/**
 * A batch as our code reads it, in the JSON shape that java/KafkaBatches.java prints for what Kafka's code reads: the
 * two must be equal. Bytes in hex, 64-bit numbers as strings.
 */
import { ByteReader } from '../../shared/bytes.ts'
import { decodeRecords, hasValidCrc, readBatchHeader, RecordCursor, type BatchHeader } from '../../shared/record-batch.ts'
import type { Zstd } from '../../shared/zstd.ts'

export interface DescribedRecord {
  readonly offset: string
  readonly timestamp: string
  readonly sequence: number
  readonly key: string | null
  readonly value: string | null
  readonly headers: readonly (readonly [string, string | null])[]
}

export interface DescribedBatch {
  readonly baseOffset: string
  readonly sizeBytes: number
  readonly leaderEpoch: number
  readonly magic: number
  readonly crc: number
  readonly codec: number
  readonly isLogAppendTime: boolean
  readonly isTransactional: boolean
  readonly isControl: boolean
  readonly lastOffset: string
  readonly baseTimestamp: string
  readonly maxTimestamp: string
  readonly producerId: string
  readonly producerEpoch: number
  readonly baseSequence: number
  readonly recordCount: number
  readonly records: readonly DescribedRecord[]
}

const LOG_APPEND_TIME = 0x08
const TRANSACTIONAL = 0x10
const CONTROL = 0x20
const CONTENT_BYTES_MAX = 8 * 1024 * 1024

/** `batch` is exactly one batch. */
export function describeBatch(batch: Buffer, zstd: Zstd): DescribedBatch {
  if (!hasValidCrc(batch)) throw new Error('CRC does not match')
  const header = readBatchHeader(batch)
  return { ...describeHeader(header, batch), records: describeRecords(header, decodeRecords(batch, zstd, CONTENT_BYTES_MAX)) }
}

export function describeHeader(header: BatchHeader, batch: Buffer): Omit<DescribedBatch, 'records'> {
  return {
    baseOffset: String(header.baseOffset),
    sizeBytes: header.sizeBytes,
    leaderEpoch: header.leaderEpoch,
    magic: batch.readInt8(16),
    crc: header.crc,
    codec: header.codec,
    isLogAppendTime: (header.attributes & LOG_APPEND_TIME) !== 0,
    isTransactional: (header.attributes & TRANSACTIONAL) !== 0,
    isControl: (header.attributes & CONTROL) !== 0,
    lastOffset: String(header.lastOffset),
    baseTimestamp: String(header.baseTimestampMs),
    maxTimestamp: String(header.maxTimestampMs),
    producerId: String(header.producerId),
    producerEpoch: header.producerEpoch,
    baseSequence: header.baseSequence,
    recordCount: header.recordCount,
  }
}

function describeRecords(header: BatchHeader, raw: Buffer): readonly DescribedRecord[] {
  const cursor = new RecordCursor(raw)
  const records: DescribedRecord[] = []
  const isLogAppendTime = (header.attributes & LOG_APPEND_TIME) !== 0
  while (cursor.next()) {
    records.push({
      offset: String(header.baseOffset + cursor.offsetDelta),
      timestamp: String(isLogAppendTime ? header.maxTimestampMs : header.baseTimestampMs + cursor.timestampDelta),
      sequence: header.baseSequence < 0 ? -1 : (header.baseSequence + cursor.offsetDelta) % 0x8000_0000,
      key: hexOf(raw, { start: cursor.keyStart, end: cursor.keyEnd }),
      value: hexOf(raw, { start: cursor.valueStart, end: cursor.valueEnd }),
      headers: describeHeaders(cursor),
    })
  }
  return records
}

function describeHeaders(cursor: RecordCursor): readonly (readonly [string, string | null])[] {
  const reader = new ByteReader(cursor.raw, cursor.headersAt, cursor.end)
  const headers: (readonly [string, string | null])[] = []
  for (let count = 0; count < cursor.headerCount; count += 1) {
    const key = reader.bytes(reader.varint()).toString('hex')
    const length = reader.varint()
    headers.push([key, length < 0 ? null : reader.bytes(length).toString('hex')])
  }
  return headers
}

function hexOf(raw: Buffer, range: { start: number; end: number }): string | null {
  return range.start < 0 ? null : raw.subarray(range.start, range.end).toString('hex')
}
