/**
 * Sorts the records of one partition into table files by hour. Bytes in, bytes out: it reads no disk and knows no store,
 * so it runs in a worker (table-worker.ts) or in the caller's thread alike.
 *
 * Deterministic: the same job and the same batches in the same order give the same files with the same names, whatever
 * the pieces they come in. A step that is made again after a crash rests on that.
 *
 * Bounded: a file holds at most one row group or gzip member, all together are flushed down at 32 MiB, and when more
 * than 32 hours are open the one that waited longest is finished; its hour then gets one more file.
 */
import { assert, AppError, unreachable } from '../../../shared/errors.ts'
import { decodeLabels, LABELS_HEADER_KEY } from '../../../shared/labels.ts'
import { decodeRecords, readBatchHeader, RecordCursor, type BatchHeader } from '../../../shared/record-batch.ts'
import { decodeSourceHeader, SOURCE_HEADER_KEY } from '../../../shared/source-header.ts'
import { splitRecordKey, wireLimits } from '../../../shared/wire.ts'
import type { Zstd } from '../../../shared/zstd.ts'
import { JsonlWriter } from './jsonl-writer.ts'
import { ParquetWriter } from './parquet-writer.ts'
import { clampTimestamp, HOUR_MS, hourOf, type TableFormat } from './table-layout.ts'
import type { RowSource, RowWriter, TableRow } from './table-row.ts'

/** Which rows of the batches belong into this step: see table-plan.ts for the rule. */
export interface EncodeJob {
  readonly topic: string
  readonly partition: number
  readonly format: TableFormat
  /** Rows below this offset and this hour were published before. */
  readonly scannedOffset: number
  readonly hourLimit: number
  /** Rows of hours from here on are held back for a later step; null = nothing is held back. */
  readonly dueHourLimit: number | null
}

export interface BatchInput {
  /** Whole batches with a checked CRC, back to back. */
  readonly batches: Uint8Array
  /** The collector's wall clock when their segment was last appended to; null = not known. */
  readonly lastAppendMs: number | null
}

export interface EncodedFile {
  /** Counts from 0 within the job. */
  readonly index: number
  readonly hour: number
  readonly firstOffset: number
  readonly nextOffset: number
  readonly rows: number
}

export interface EncodeOutput {
  /** To be appended to the files of these indexes, in this order. */
  readonly pieces: readonly { readonly index: number; readonly bytes: Uint8Array }[]
  readonly finished: readonly EncodedFile[]
  /** Rows that were held back for a later step. */
  readonly heldBack: number
  /** Records in batches whose content can't be read: in no table, only in the raw segments. */
  readonly unreadable: number
}

interface OpenFile {
  readonly index: number
  readonly hour: number
  readonly firstOffset: number
  readonly writer: RowWriter
  nextOffset: number
  rows: number
  lineBytes: number
}

const OPEN_FILES_MAX = 32
const HELD_BYTES_MAX = 32 * 1024 * 1024
/** Bytes of lines after which a file is full: some 100 MiB of gzip, which no reader can split. */
const FILE_LINE_BYTES = 768 * 1024 * 1024
const noSource: RowSource = { host: undefined, path: undefined, stream: undefined, labels: undefined }

export class TableEncoder {
  private readonly job: EncodeJob
  private readonly zstd: Zstd
  /** By hour; the one used last stands last. */
  private readonly open = new Map<number, OpenFile>()
  private current: OpenFile | undefined
  private nextIndex = 0
  private heldBack = 0
  private unreadable = 0
  private pieces: { index: number; bytes: Uint8Array }[] = []
  private finished: EncodedFile[] = []
  /** Of the last key and headers seen: neighbours mostly share them, and writers compare by identity. */
  private known: { readonly key: Buffer; readonly headers: BatchHeaders; readonly source: RowSource } | undefined

  constructor(job: EncodeJob, zstd: Zstd) {
    this.job = job
    this.zstd = zstd
  }

  /** CORRUPT_MESSAGE for bytes that are no batches; the encoder is of no use then. */
  add({ batches, lastAppendMs }: BatchInput): EncodeOutput {
    const all = Buffer.from(batches.buffer, batches.byteOffset, batches.byteLength)
    for (let at = 0; at < all.length; ) {
      const header = readBatchHeader(all, at)
      const batch = all.subarray(at, at + header.sizeBytes)
      this.addBatch(batch, header, lastAppendMs ?? Number.POSITIVE_INFINITY)
      at += header.sizeBytes
    }
    return this.answer()
  }

  finish(): EncodeOutput {
    for (const file of [...this.open.values()]) this.close(file)
    return this.answer()
  }

  private answer(): EncodeOutput {
    const { pieces, finished, heldBack, unreadable } = this
    this.pieces = []
    this.finished = []
    this.heldBack = 0
    this.unreadable = 0
    return { pieces, finished, heldBack, unreadable }
  }

  private addBatch(batch: Buffer, header: BatchHeader, lastAppendMs: number): void {
    const raw = readableRecords(batch, header, this.zstd)
    if (raw === undefined) {
      // Told once: by the step that goes over these offsets for the first time.
      if (header.baseOffset >= this.job.scannedOffset) this.unreadable += header.lastOffset - header.baseOffset + 1
      return
    }
    const cursor = new RecordCursor(raw)
    const row: TableRow = { timestampMs: 0, offset: 0, source: noSource, raw, valueStart: 0, valueEnd: 0, mark: 'newline' }
    let headers: BatchHeaders | undefined
    while (cursor.next()) {
      headers ??= batchHeaders(cursor)
      row.timestampMs = clampTimestamp(header.baseTimestampMs + cursor.timestampDelta)
      row.offset = header.baseOffset + cursor.offsetDelta
      const hour = hourOf(row.timestampMs)
      if (!this.isDue(row.offset, hour, lastAppendMs)) continue
      row.source = this.sourceOf(cursor, headers)
      row.valueStart = cursor.valueStart < 0 ? cursor.end : cursor.valueStart
      row.valueEnd = cursor.valueStart < 0 ? cursor.end : cursor.valueEnd
      row.mark = cursor.mark()
      this.write(row, hour)
    }
  }

  /**
   * Each row is due in exactly one step. A row from the future (its hour began after its segment was last appended to:
   * somebody's clock is wrong) is due at once, since nobody may wait for that hour.
   */
  private isDue(offset: number, hour: number, lastAppendMs: number): boolean {
    const { scannedOffset, hourLimit, dueHourLimit } = this.job
    const isFuture = hour * HOUR_MS > lastAppendMs
    if (offset < scannedOffset && (isFuture || hour < hourLimit)) return false
    if (dueHourLimit === null || isFuture || hour < dueHourLimit) return true
    this.heldBack += 1
    return false
  }

  private write(row: TableRow, hour: number): void {
    const file = this.fileOf(hour, row.offset)
    file.rows += 1
    file.nextOffset = row.offset + 1
    file.lineBytes += row.valueEnd - row.valueStart
    const bytes = file.writer.add(row)
    if (bytes === undefined) return
    this.pieces.push({ index: file.index, bytes })
    if (file.lineBytes >= FILE_LINE_BYTES) this.close(file)
  }

  private fileOf(hour: number, offset: number): OpenFile {
    if (this.current?.hour === hour) return this.current
    const known = this.open.get(hour)
    // Behind all others: the first one is then the one that waited longest.
    if (known !== undefined) this.open.delete(hour)
    else this.makeRoom()
    const file = known ?? this.begin(hour, offset)
    this.open.set(hour, file)
    this.current = file
    return file
  }

  private begin(hour: number, offset: number): OpenFile {
    const file = { index: this.nextIndex, hour, firstOffset: offset, nextOffset: offset, rows: 0, lineBytes: 0, writer: this.createWriter() }
    this.nextIndex += 1
    return file
  }

  private createWriter(): RowWriter {
    const { topic, partition, format } = this.job
    switch (format) {
      case 'jsonl':
        return new JsonlWriter(partition)
      case 'parquet':
        return new ParquetWriter({ topic, partition, zstd: this.zstd })
      default:
        return unreachable(format)
    }
  }

  /** Looked at only when the hour changes: within one hour a writer flushes itself. */
  private makeRoom(): void {
    if (this.open.size >= OPEN_FILES_MAX) {
      const [oldest] = this.open.values()
      assert(oldest !== undefined, 'a full table has a first file')
      this.close(oldest)
    }
    let held = 0
    for (const { writer } of this.open.values()) held += writer.heldBytes
    if (held < HELD_BYTES_MAX) return
    for (const { index, writer } of this.open.values()) {
      const bytes = writer.flush()
      if (bytes !== undefined) this.pieces.push({ index, bytes })
    }
  }

  private close(file: OpenFile): void {
    const { index, hour, firstOffset, nextOffset, rows } = file
    this.pieces.push({ index, bytes: file.writer.finish() })
    this.finished.push({ index, hour, firstOffset, nextOffset, rows })
    this.open.delete(hour)
    if (this.current === file) this.current = undefined
  }

  private sourceOf(cursor: RecordCursor, headers: BatchHeaders): RowSource {
    const key = cursor.keyStart < 0 ? noKey : cursor.raw.subarray(cursor.keyStart, cursor.keyEnd)
    const { known } = this
    if (known !== undefined && known.headers.stream === headers.stream && known.headers.labels === headers.labels && known.key.equals(key)) return known.source
    const { host, path } = splitRecordKey(key.toString('utf8'))
    const source = { host: host === '' ? undefined : host, path: path === '' ? undefined : path, ...headers }
    this.known = { key: Buffer.from(key), headers, source }
    return source
  }
}

/**
 * Ingest does not decompress every batch whole, so one with a good CRC may still hold nonsense. It must not keep the
 * other rows out of the tables for ever. Walked once before a row is written: half a batch would be worse than none.
 */
function readableRecords(batch: Buffer, header: BatchHeader, zstd: Zstd): Buffer | undefined {
  try {
    const raw = decodeRecords(batch, zstd, wireLimits.batchContentBytesMax)
    const cursor = new RecordCursor(raw)
    while (cursor.next()) if (cursor.offsetDelta < 0 || cursor.offsetDelta > header.lastOffsetDelta) return undefined
    return raw
  } catch (error) {
    if (error instanceof AppError) return undefined
    throw error
  }
}

const noKey = Buffer.alloc(0)

interface BatchHeaders {
  readonly stream: string | undefined
  readonly labels: string | undefined
}

/** Headers of a batch's first record hold for all its records. */
function batchHeaders(first: RecordCursor): BatchHeaders {
  const source = first.header(SOURCE_HEADER_KEY)
  const labels = first.header(LABELS_HEADER_KEY)
  return { stream: source === undefined ? undefined : streamOf(source), labels: labels === undefined ? undefined : labelsOf(labels) }
}

function streamOf(header: Buffer): string | undefined {
  return orUndefined(() => decodeSourceHeader(header).streamId.toString('hex'))
}

function labelsOf(header: Buffer): string | undefined {
  return orUndefined(() => JSON.stringify(decodeLabels(header)))
}

/** Batches that came another way than through our ingest may bear anything under these names. */
function orUndefined(read: () => string): string | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof AppError) return undefined
    throw error
  }
}
