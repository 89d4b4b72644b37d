/**
 * Builds the records section of one batch into a buffer that is reused: no value is made per record. The format is in
 * record-batch.ts.
 */
import { varintSize, writeVarint } from './bytes.ts'
import { assert } from './errors.ts'
import { LABELS_HEADER_KEY } from './labels.ts'
import type { RecordMark, RecordsSection } from './record-batch.ts'
import { EOF_HEADER_KEY, PART_HEADER_KEY, SOURCE_HEADER_KEY } from './source-header.ts'

/** A batch below this is decompressed as fast as it is asked for. */
const PLAIN_START_FROM_BYTES = 32 * 1024
/** A longer first record is left to zstd: its line may compress well. */
const PLAIN_START_BYTES_MAX = 4 * 1024

const noValue = Buffer.alloc(0)
const partHeader = encodeHeader(PART_HEADER_KEY, noValue)
const eofHeader = encodeHeader(EOF_HEADER_KEY, noValue)

function encodeHeader(key: string, value: Buffer): Buffer {
  const out = Buffer.alloc(varintSize(key.length) + key.length + varintSize(value.length) + value.length)
  let at = writeVarint(out, 0, key.length)
  at += out.write(key, at, 'latin1')
  at = writeVarint(out, at, value.length)
  out.set(value, at)
  return out
}

/** Source bytes that hold lines: they begin in [from, stop) and end before `to`. */
export interface LineRange {
  readonly from: number
  readonly stop: number
  readonly to: number
  readonly lineBytesMax: number
}

/** Appends many ordinary lines in one call, into the builder's own buffer. */
export interface LineAppender {
  /** Whether it can take records with this key, which it keeps. */
  takes(keyField: Buffer): boolean
  /** Answers where the records end: it stops at the first line that is not ordinary or does not fit below `limit`. */
  append(source: Buffer, range: LineRange, at: { out: number; limit: number; keyBytes: number; count: number }): number
  /** After `append`: behind the last line, and the number of records. */
  readonly sourceAt: number
  readonly recordCount: number
}

/** The first record is written with room for its `tr` header, whose contents are known only at the end (`finish`). */
export class RecordsBuilder {
  private readonly buffer: Buffer
  /** The record key behind its length. */
  private readonly keyField: Buffer
  private readonly sourceHeaderBytes: number
  private readonly labelsHeader: Buffer | undefined
  private readonly lines: LineAppender | undefined
  private at = 0
  private sourceHeaderAt = 0
  private baseTimestampMs = 0
  private maxTimestampMs = 0
  private records = 0
  private firstRecordBytes = 0

  /**
   * `capacity`: bytes of the records section, at most. `key`: the record key of every record. `sourceHeaderBytes`:
   * size of the `tr` header of the first record, 0 for none. `labels`: encoded labels, for the first record. `buffer`: memory of the caller's to build in, of at least
   * `capacity` bytes, so that builders of many keys share a few buffers. `lines`: what appends into that buffer.
   */
  constructor(options: { capacity: number; key: Buffer; sourceHeaderBytes: number; labels?: Buffer | undefined; buffer?: Buffer; lines?: LineAppender | undefined }) {
    this.buffer = options.buffer?.subarray(0, options.capacity) ?? Buffer.allocUnsafe(options.capacity)
    this.keyField = Buffer.allocUnsafe(varintSize(options.key.length) + options.key.length)
    this.keyField.set(options.key, writeVarint(this.keyField, 0, options.key.length))
    this.sourceHeaderBytes = options.sourceHeaderBytes
    this.labelsHeader = options.labels === undefined ? undefined : encodeHeader(LABELS_HEADER_KEY, options.labels)
    this.lines = options.lines?.takes(this.keyField) === true ? options.lines : undefined
  }

  get count(): number {
    return this.records
  }

  get sizeBytes(): number {
    return this.at
  }

  reset(): void {
    this.at = 0
    this.records = 0
  }

  /** Appends source[start, end) as one record; false (and nothing written) when it does not fit any more. */
  append(source: Buffer, options: { start: number; end: number; mark: RecordMark; timestampMs: number }): boolean {
    return this.appendRange(source, options.start, options.end, options.mark, options.timestampMs)
  }

  /** `append` for the hot path, without an options object per record. */
  appendRange(source: Buffer, start: number, end: number, mark: RecordMark, timestampMs: number): boolean {
    if (this.records === 0) {
      this.baseTimestampMs = timestampMs
      this.maxTimestampMs = timestampMs
    }
    const { buffer, keyField } = this
    const valueLength = end - start
    const timestampDelta = timestampMs - this.baseTimestampMs
    const extraBytes = this.headerBytes(mark)
    const body =
      1 + varintSize(timestampDelta) + varintSize(this.records) + keyField.length + varintSize(valueLength) + valueLength + extraBytes
    if (this.at + varintSize(body) + body > buffer.length) return false
    let at = writeVarint(buffer, this.at, body)
    buffer[at] = 0
    at = writeVarint(buffer, at + 1, timestampDelta)
    at = writeVarint(buffer, at, this.records)
    buffer.set(keyField, at)
    at = writeVarint(buffer, at + keyField.length, valueLength)
    source.copy(buffer, at, start, end)
    at += valueLength
    if (mark === 'newline' && this.records > 0) {
      // No headers, as of nearly every record.
      buffer[at] = 0
      this.at = at + 1
    } else this.at = this.writeHeaders(at, mark)
    if (this.records === 0) this.firstRecordBytes = this.at
    this.records += 1
    if (timestampMs > this.maxTimestampMs) this.maxTimestampMs = timestampMs
    return true
  }

  /** There is a LineAppender, and the first record stands: asked for each line, so that no range is made for nothing. */
  get takesLines(): boolean {
    return this.lines !== undefined && this.records > 0
  }

  /** Ordinary lines from `range.from` on, as many as can be taken in one call, if any; answers the position behind the last. */
  appendLines(source: Buffer, range: LineRange, timestampMs: number): number {
    const { lines } = this
    if (lines === undefined || this.records === 0 || timestampMs !== this.baseTimestampMs) return range.from
    this.at = lines.append(source, range, { out: this.at, limit: this.buffer.length, keyBytes: this.keyField.length, count: this.records })
    this.records = lines.recordCount
    return lines.sourceAt
  }

  private headerBytes(mark: RecordMark): number {
    let bytes = 1
    if (this.records === 0 && this.sourceHeaderBytes > 0) {
      bytes += 1 + SOURCE_HEADER_KEY.length + varintSize(this.sourceHeaderBytes) + this.sourceHeaderBytes
    }
    if (this.records === 0 && this.labelsHeader !== undefined) bytes += this.labelsHeader.length
    if (mark === 'part') bytes += partHeader.length
    if (mark === 'eof') bytes += eofHeader.length
    return bytes
  }

  private writeHeaders(start: number, mark: RecordMark): number {
    const { buffer } = this
    const hasSource = this.records === 0 && this.sourceHeaderBytes > 0
    const labels = this.records === 0 ? this.labelsHeader : undefined
    let at = writeVarint(buffer, start, (hasSource ? 1 : 0) + (labels === undefined ? 0 : 1) + (mark === 'newline' ? 0 : 1))
    if (hasSource) {
      at = writeVarint(buffer, at, SOURCE_HEADER_KEY.length)
      at += buffer.write(SOURCE_HEADER_KEY, at, 'latin1')
      at = writeVarint(buffer, at, this.sourceHeaderBytes)
      this.sourceHeaderAt = at
      at += this.sourceHeaderBytes
    }
    if (labels !== undefined) {
      buffer.set(labels, at)
      at += labels.length
    }
    if (mark === 'newline') return at
    const header = mark === 'part' ? partHeader : eofHeader
    buffer.set(header, at)
    return at + header.length
  }

  /** Fills in the `tr` header and answers the section; the view is valid until `reset`. */
  finish(sourceHeader: Buffer | undefined): RecordsSection {
    assert(this.records > 0, 'a batch holds at least one record')
    assert((sourceHeader?.length ?? 0) === this.sourceHeaderBytes, 'source header has the size it was announced with')
    if (sourceHeader !== undefined) this.buffer.set(sourceHeader, this.sourceHeaderAt)
    return {
      raw: this.buffer.subarray(0, this.at),
      plainBytes: this.at < PLAIN_START_FROM_BYTES || this.firstRecordBytes > PLAIN_START_BYTES_MAX ? 0 : this.firstRecordBytes,
      recordCount: this.records,
      baseTimestampMs: this.baseTimestampMs,
      maxTimestampMs: this.maxTimestampMs,
    }
  }
}
