/**
 * Batches without a source: what `POST /v1/topics/<topic>/lines` stores. Kafka's record format as in record-batch.ts,
 * with a null key, no producer id, and at most one header of ours, on the first record:
 *
 * | header | value |
 * |---|---|
 * | `tr.key` | 16 bytes hash of the request's lines, then the Idempotency-Key in UTF-8 |
 */
import { varintSize, writeVarint } from './bytes.ts'
import { AppError } from './errors.ts'
import { HASH_BYTES } from './source-header.ts'
import { NO_PRODUCER, RecordCursor, sealBatch } from './record-batch.ts'
import type { Zstd } from './zstd.ts'

export const IDEMPOTENCY_HEADER_KEY = 'tr.key'

/** What makes a repeated request recognisable, also after a restart, since it lies in the log. */
export interface IdempotencyMark {
  readonly key: string
  /** Tells a repeat from another request that uses the same key by mistake. */
  readonly contentHash: Buffer
}

export interface PlainBatchOptions {
  /** Not empty. */
  readonly lines: readonly Buffer[]
  readonly timestampMs: number
  readonly mark?: IdempotencyMark
  readonly zstd: Zstd
  readonly level: number
  /** Records section at most; MESSAGE_TOO_LARGE is thrown before memory is taken for more. */
  readonly contentBytesMax: number
}

export async function sealPlainBatch(options: PlainBatchOptions): Promise<Buffer> {
  const raw = encodeRecords(options)
  const section = { raw, plainBytes: 0, recordCount: options.lines.length, baseTimestampMs: options.timestampMs, maxTimestampMs: options.timestampMs }
  return options.zstd.compress(raw, { level: options.level, plainBytes: 0 }, (frame) => sealBatch(section, frame, NO_PRODUCER))
}

/** The mark of a batch, from its decompressed records. */
export function readIdempotencyMark(records: Buffer): IdempotencyMark | undefined {
  const cursor = new RecordCursor(records)
  const value = cursor.next() ? cursor.header(IDEMPOTENCY_HEADER_KEY) : undefined
  if (value === undefined || value.length <= HASH_BYTES) return undefined
  return { key: value.toString('utf8', HASH_BYTES), contentHash: Buffer.from(value.subarray(0, HASH_BYTES)) }
}

function encodeRecords({ lines, mark, contentBytesMax }: PlainBatchOptions): Buffer {
  const headers = encodeHeaders(mark)
  const noHeaders = encodeHeaders(undefined)
  let size = 0
  for (const [index, line] of lines.entries()) {
    const body = bodySize(index, line, index === 0 ? headers : noHeaders)
    size += varintSize(body) + body
  }
  if (size > contentBytesMax) {
    throw new AppError('MESSAGE_TOO_LARGE', `${lines.length} lines take ${size} bytes as records, over ${contentBytesMax}`, {
      hint: 'send them in several requests',
    })
  }
  const raw = Buffer.allocUnsafe(size)
  let at = 0
  for (const [index, line] of lines.entries()) {
    at = writeRecord(raw, at, { index, line, headers: index === 0 ? headers : noHeaders })
  }
  return raw
}

/** Attributes, timestamp delta 0, offset delta, key length -1, value, headers. */
function bodySize(index: number, line: Buffer, headers: Buffer): number {
  return 1 + 1 + varintSize(index) + 1 + varintSize(line.length) + line.length + headers.length
}

function writeRecord(raw: Buffer, start: number, { index, line, headers }: { index: number; line: Buffer; headers: Buffer }): number {
  let at = writeVarint(raw, start, bodySize(index, line, headers))
  raw[at] = 0
  at = writeVarint(raw, at + 1, 0)
  at = writeVarint(raw, at, index)
  at = writeVarint(raw, at, -1)
  at = writeVarint(raw, at, line.length)
  raw.set(line, at)
  raw.set(headers, at + line.length)
  return at + line.length + headers.length
}

/** The header count and, with a mark, the header itself. */
function encodeHeaders(mark: IdempotencyMark | undefined): Buffer {
  if (mark === undefined) return Buffer.alloc(1)
  const value = Buffer.concat([mark.contentHash, Buffer.from(mark.key, 'utf8')])
  const nameLength = IDEMPOTENCY_HEADER_KEY.length
  const out = Buffer.alloc(1 + varintSize(nameLength) + nameLength + varintSize(value.length) + value.length)
  let at = writeVarint(out, 0, 1)
  at = writeVarint(out, at, nameLength)
  at += out.write(IDEMPOTENCY_HEADER_KEY, at, 'latin1')
  at = writeVarint(out, at, value.length)
  out.set(value, at)
  return out
}
