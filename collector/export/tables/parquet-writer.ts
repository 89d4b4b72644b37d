/**
 * A Parquet file of row groups of about 8 MiB, zstd. Deterministic: what a row group holds follows from the rows alone.
 * Row groups are small because a worker holds those of many hours at once.
 */
import { isUtf8 } from 'node:buffer'
import { ByteWriter, ParquetWriter as FileWriter } from 'hyparquet-writer'
import type { Zstd } from '../../../shared/zstd.ts'
import { lineLevel } from './line-level.ts'
import { storedFrame } from './stored-frame.ts'
import type { RowSource, RowWriter, TableRow } from './table-row.ts'

const ROW_GROUP_BYTES = 8 * 1024 * 1024
/** Of what one row costs beside its line. */
const ROW_BYTES = 256
const ZSTD_LEVEL = 3
/** A page is compressed in one call, and zstd-codec takes 3 MiB. Only a page with a line of more than a MiB is over this. */
const COMPRESSED_PAGE_BYTES_MAX = 2 * 1024 * 1024
const DICTIONARY_BYTES_MAX = 1024 * 1024

const text = { type: 'BYTE_ARRAY', converted_type: 'UTF8', logical_type: { type: 'STRING' } } as const
const schema: ConstructorParameters<typeof FileWriter>[0]['schema'] = [
  { name: 'root', num_children: 11 },
  { name: 'ts', type: 'INT64', repetition_type: 'REQUIRED', converted_type: 'TIMESTAMP_MILLIS', logical_type: { type: 'TIMESTAMP', isAdjustedToUTC: true, unit: 'MILLIS' } },
  { name: 'offset', type: 'INT64', repetition_type: 'REQUIRED' },
  { name: 'partition', type: 'INT32', repetition_type: 'REQUIRED' },
  { name: 'host', repetition_type: 'OPTIONAL', ...text },
  { name: 'path', repetition_type: 'OPTIONAL', ...text },
  { name: 'stream', repetition_type: 'OPTIONAL', ...text },
  { name: 'level', repetition_type: 'OPTIONAL', ...text },
  { name: 'message', repetition_type: 'REQUIRED', ...text },
  { name: 'messageB64', repetition_type: 'OPTIONAL', ...text },
  { name: 'labels', repetition_type: 'OPTIONAL', ...text },
  { name: 'mark', repetition_type: 'OPTIONAL', ...text },
]

interface Columns {
  readonly ts: bigint[]
  readonly offset: bigint[]
  readonly partition: number[]
  readonly host: (string | undefined)[]
  readonly path: (string | undefined)[]
  readonly stream: (string | undefined)[]
  readonly level: (string | undefined)[]
  readonly message: (string | Uint8Array)[]
  readonly messageB64: (string | undefined)[]
  readonly labels: (string | undefined)[]
  readonly mark: (string | undefined)[]
}

const columnNames = ['ts', 'offset', 'partition', 'host', 'path', 'stream', 'level', 'message', 'messageB64', 'labels', 'mark'] as const satisfies readonly (keyof Columns)[]

function emptyColumns(): Columns {
  return { ts: [], offset: [], partition: [], host: [], path: [], stream: [], level: [], message: [], messageB64: [], labels: [], mark: [] }
}

export class ParquetWriter implements RowWriter {
  heldBytes = 0
  private readonly partition: number
  private readonly bytes = new ByteWriter()
  private readonly file: FileWriter
  private columns = emptyColumns()

  constructor(options: { topic: string; partition: number; zstd: Zstd }) {
    const { zstd } = options
    this.partition = options.partition
    this.file = new FileWriter({
      writer: this.bytes,
      schema,
      codec: 'ZSTD',
      compressors: { ZSTD: (page) => (page.length > COMPRESSED_PAGE_BYTES_MAX ? storedFrame(page) : zstd.compressSync(page, ZSTD_LEVEL)) },
      kvMetadata: [{ key: 'tailrace.topic', value: options.topic }, { key: 'tailrace.partition', value: String(options.partition) }],
      createdBy: 'tailrace',
    })
  }

  add(row: TableRow): Uint8Array | undefined {
    this.push(row, row.source)
    return this.heldBytes >= ROW_GROUP_BYTES ? this.flush() : undefined
  }

  flush(): Uint8Array | undefined {
    if (this.columns.ts.length === 0) return undefined
    const { columns } = this
    const columnData = columnNames.map((name) => ({ name, data: columns[name] }))
    // Only a writer that flushes to somewhere answers with a promise.
    void this.file.write({ columnData, rowGroupSize: columns.ts.length, dictionarySize: DICTIONARY_BYTES_MAX })
    this.columns = emptyColumns()
    this.heldBytes = 0
    return this.take()
  }

  finish(): Uint8Array {
    const rows = this.flush()
    void this.file.finish()
    const footer = this.take()
    return rows === undefined ? footer : Buffer.concat([rows, footer])
  }

  private push(row: TableRow, source: RowSource): void {
    const { columns } = this
    const { raw, valueStart, valueEnd } = row
    const value = raw.subarray(valueStart, valueEnd)
    const isText = isUtf8(value)
    columns.ts.push(BigInt(row.timestampMs))
    columns.offset.push(BigInt(row.offset))
    columns.partition.push(this.partition)
    columns.host.push(source.host)
    columns.path.push(source.path)
    columns.stream.push(source.stream)
    columns.level.push(lineLevel(raw, valueStart, valueEnd))
    // A copy: a view would keep its whole decompressed batch alive until the row group is written.
    columns.message.push(isText ? Buffer.from(value) : value.toString('utf8'))
    columns.messageB64.push(isText ? undefined : value.toString('base64'))
    columns.labels.push(source.labels)
    columns.mark.push(row.mark === 'newline' ? undefined : row.mark)
    this.heldBytes += value.length * (isText ? 1 : 3) + ROW_BYTES
  }

  /** The bytes written since the last call; positions in the file go on counting. */
  private take(): Uint8Array {
    const taken = Uint8Array.from(this.bytes.getBytes())
    this.bytes.index = 0
    return taken
  }
}
