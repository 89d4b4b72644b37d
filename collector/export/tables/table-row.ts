/**
 * One row of a table, and the columns that both formats have. New columns may be added at the end; none changes its
 * meaning.
 *
 * | column | JSON | Parquet | |
 * |---|---|---|---|
 * | `ts` | ISO 8601, UTC, ms | TIMESTAMP(ms, UTC) | the record's timestamp, held between the years 1970 and 9999 |
 * | `offset`, `partition` | number | INT64, INT32 | together they name the record |
 * | `host`, `path` | string | STRING | of the source file; absent (null) for lines that came by `POST /lines` without a key |
 * | `stream` | string | STRING | id of the stream, hex; absent without a source |
 * | `level` | string | STRING | trace, debug, info, warn, error, fatal: a guess (line-level.ts) |
 * | `message` | string | STRING | the line; bytes that are not UTF-8 are U+FFFD here |
 * | `messageB64` | string | STRING | the line's bytes, only where `message` is not the whole truth |
 * | `labels` | object | STRING, JSON | static labels of the input |
 * | `mark` | string | STRING | `part` or `eof` where no newline follows; absent where one does |
 */
import type { RecordMark } from '../../../shared/record-batch.ts'

/** What all rows of one source share. */
export interface RowSource {
  readonly host: string | undefined
  readonly path: string | undefined
  readonly stream: string | undefined
  /** JSON text. */
  readonly labels: string | undefined
}

/** Filled again for each row; valid during the call it is passed to. */
export interface TableRow {
  timestampMs: number
  offset: number
  source: RowSource
  raw: Buffer
  valueStart: number
  valueEnd: number
  mark: RecordMark
}

/** Writes the rows of one file. What it answers are the file's next bytes. */
export interface RowWriter {
  /** Bytes of rows that are held and not answered yet. */
  readonly heldBytes: number
  add(row: TableRow): Uint8Array | undefined
  /** Gives out what is held, as far as the format can. */
  flush(): Uint8Array | undefined
  /** The rest of the file. */
  finish(): Uint8Array
}
