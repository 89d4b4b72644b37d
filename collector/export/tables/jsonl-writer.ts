/**
 * One JSON object a line, in gzip: a member for each MiB, one behind the other, which is a gzip file like any other.
 * Nothing but the rows is in the bytes (gzip's time is 0), so the same rows give the same file.
 */
import { gzipSync } from 'node:zlib'
import { JsonText } from '../../../shared/json-text.ts'
import { lineLevel } from './line-level.ts'
import type { RowSource, RowWriter, TableRow } from './table-row.ts'

const MEMBER_BYTES = 1024 * 1024
const FIRST_BYTES = 16 * 1024
/** Kept from row to row when a long line made it grow. */
const KEPT_BYTES_MAX = 4 * MEMBER_BYTES
const LEVEL = 6
const nothing = new Uint8Array(0)

export class JsonlWriter implements RowWriter {
  private text = new JsonText(FIRST_BYTES)
  private readonly partition: number
  private source: RowSource | undefined
  private sourceText = ''
  private timestampMs = -1
  private timestampText = ''

  constructor(partition: number) {
    this.partition = partition
  }

  get heldBytes(): number {
    return this.text.length
  }

  add(row: TableRow): Uint8Array | undefined {
    this.write(row)
    return this.text.length >= MEMBER_BYTES ? this.flush() : undefined
  }

  flush(): Uint8Array | undefined {
    if (this.text.length === 0) return undefined
    const member = gzipSync(this.text.view(), { level: LEVEL })
    if (this.text.capacity > KEPT_BYTES_MAX) this.text = new JsonText(FIRST_BYTES)
    else this.text.clear()
    return member
  }

  finish(): Uint8Array {
    return this.flush() ?? nothing
  }

  private write(row: TableRow): void {
    const { text } = this
    const { raw, valueStart, valueEnd } = row
    if (row.timestampMs !== this.timestampMs) {
      this.timestampMs = row.timestampMs
      this.timestampText = new Date(row.timestampMs).toISOString()
    }
    if (row.source !== this.source) {
      this.source = row.source
      this.sourceText = describeSource(row.source)
    }
    const level = lineLevel(raw, valueStart, valueEnd)
    text.write(`{"ts":"${this.timestampText}","offset":${row.offset},"partition":${this.partition}${this.sourceText}${level === undefined ? '' : `,"level":"${level}"`},"message":`)
    if (!text.writeString(raw, valueStart, valueEnd)) {
      text.write(`${JSON.stringify(raw.toString('utf8', valueStart, valueEnd))},"messageB64":"${raw.toString('base64', valueStart, valueEnd)}"`)
    }
    text.write(`${row.source.labels === undefined ? '' : `,"labels":${row.source.labels}`}${row.mark === 'newline' ? '' : `,"mark":"${row.mark}"`}}\n`)
  }
}

function describeSource({ host, path, stream }: RowSource): string {
  const parts = [['host', host], ['path', path], ['stream', stream]] as const
  return parts.map(([name, value]) => (value === undefined ? '' : `,"${name}":${JSON.stringify(value)}`)).join('')
}
