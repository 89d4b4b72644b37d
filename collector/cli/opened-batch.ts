/**
 * A batch opened and checked down to its last byte: CRC, one zstd frame, records, source header, and the source bytes
 * that it rebuilds. What `cat` writes and `verify` judges. Pure; knows no HTTP.
 */
import { AppError } from '../../shared/errors.ts'
import { sha256Prefix } from '../../shared/hashes.ts'
import { decodeRecords, hasValidCrc, producerOf, RecordCursor, type BatchHeader, type RecordMark } from '../../shared/record-batch.ts'
import { decodeSourceHeader, SOURCE_HEADER_KEY, type SourceHeader } from '../../shared/source-header.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { RawBatch } from './fetch-batches.ts'

/** More than any batch we make; batches of a real Kafka cluster may be larger than ours. */
export const CONTENT_BYTES_MAX = 64 * 1024 * 1024

export interface OpenedBatch {
  readonly header: BatchHeader
  /** undefined: the batch was posted, it comes from no file. */
  readonly source: SourceHeader | undefined
  /** The decompressed records section. */
  readonly raw: Buffer
  /** Source bytes [source.start, source.end); for a posted batch its values, each with `\n`. */
  readonly content: Buffer
}

/** Throws CORRUPT_MESSAGE, UNSUPPORTED_COMPRESSION, UNSUPPORTED_VERSION or MESSAGE_TOO_LARGE with what is wrong. */
export function openBatch({ header, bytes }: RawBatch, zstd: Zstd): OpenedBatch {
  if (!hasValidCrc(bytes)) throw corrupt('CRC-32C does not match')
  const raw = decodeRecords(bytes, zstd, CONTENT_BYTES_MAX)
  const walked = walkRecords(raw)
  if (walked.count !== header.recordCount) throw corrupt(`header says ${header.recordCount} records, there are ${walked.count}`)
  const { source, content } = walked
  if (source !== undefined) checkSource(source, { content, header, lastMark: walked.lastMark })
  return { header, source, raw, content }
}

interface Walked {
  readonly count: number
  readonly source: SourceHeader | undefined
  readonly content: Buffer
  readonly lastMark: RecordMark
}

function walkRecords(raw: Buffer): Walked {
  // A record takes at least seven bytes more than its value, so the values and their newlines always fit.
  const content = Buffer.allocUnsafe(raw.length)
  const cursor = new RecordCursor(raw)
  let source: SourceHeader | undefined
  let lastMark: RecordMark = 'newline'
  let at = 0
  let count = 0
  while (cursor.next()) {
    if (cursor.offsetDelta !== count) throw corrupt(`record ${count} has offset delta ${cursor.offsetDelta}`)
    if (count === 0) {
      const bytes = cursor.header(SOURCE_HEADER_KEY)
      source = bytes === undefined ? undefined : decodeSourceHeader(bytes)
    }
    if (cursor.valueStart >= 0) at += raw.copy(content, at, cursor.valueStart, cursor.valueEnd)
    lastMark = cursor.mark()
    if (lastMark === 'newline') {
      content[at] = 0x0a
      at += 1
    }
    count += 1
  }
  return { count, source, content: content.subarray(0, at), lastMark }
}

function checkSource(source: SourceHeader, facts: { content: Buffer; header: BatchHeader; lastMark: RecordMark }): void {
  const { content, header, lastMark } = facts
  if (content.length !== source.end - source.start) {
    throw corrupt(`records rebuild ${content.length} bytes, source range ${source.start} to ${source.end} has ${source.end - source.start}`)
  }
  if (!sha256Prefix(content).equals(source.sourceHash)) throw corrupt('hash of the source bytes does not match')
  if (header.producerId !== producerOf(source.streamId, source.firstOrdinal).producerId) throw corrupt('producer id is not that of the stream')
  if (source.endsWithEof !== (lastMark === 'eof')) throw corrupt('the eof flag and the mark of the last record disagree')
}

function corrupt(message: string): AppError {
  return new AppError('CORRUPT_MESSAGE', message)
}
