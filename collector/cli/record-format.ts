/**
 * How records are printed: text, raw, json, logfmt, csv. Into a pipe a line's bytes go unchanged; on a terminal whatever
 * it would obey is shown instead (terminal-text.ts). No waiting here: blocks of records go into an Output.
 */
import { unreachable } from '../../shared/errors.ts'
import type { QueryRecord } from '../../shared/wire.ts'
import { humanTime, type TimeZone } from './human.ts'
import type { Output } from './output.ts'
import { recordsIn, valueOf } from './query-stream.ts'
import { terminalLine, visibleJson, visibleText } from './terminal-text.ts'

export const recordFormats = ['text', 'raw', 'json', 'logfmt', 'csv'] as const
export type RecordFormat = (typeof recordFormats)[number]

export interface FormatOptions {
  readonly format: RecordFormat
  readonly zone: TimeZone
  readonly color: boolean
  /** Print `--` where lines of context do not follow each other. */
  readonly separators: boolean
}

export interface RecordWriter {
  /** Puts a block of NDJSON record lines into the output and answers how many records it held. */
  writeBlock(block: Buffer): number
  writeRecord(record: QueryRecord): void
}

export function createRecordWriter(output: Output, options: FormatOptions): RecordWriter {
  switch (options.format) {
    case 'json':
      return output.isTty ? lineByLine(output, putVisibleJson) : passThrough(output)
    case 'raw':
      return lineByLine(output, putRaw)
    case 'text':
      return textWriter(output, options)
    case 'logfmt':
      return lineByLine(output, (target, record) => {
        target.put(`${tty(target, logfmtLine(record, options.zone))}\n`)
      })
    case 'csv':
      return csvWriter(output, options.zone)
    default:
      return unreachable(options.format)
  }
}

type PutRecord = (output: Output, record: QueryRecord) => void

function lineByLine(output: Output, put: PutRecord): RecordWriter {
  return {
    writeRecord: (record) => {
      put(output, record)
    },
    writeBlock: (block) => {
      let count = 0
      for (const record of recordsIn(block)) {
        put(output, record)
        count += 1
      }
      return count
    },
  }
}

/** The server's lines are the output already. */
function passThrough(output: Output): RecordWriter {
  return {
    writeRecord: (record) => {
      output.put(`${JSON.stringify(record)}\n`)
    },
    writeBlock: (block) => {
      output.putBytes(block)
      let count = 0
      for (let at = block.indexOf(0x0a); at >= 0; at = block.indexOf(0x0a, at + 1)) count += 1
      return count
    },
  }
}

function putVisibleJson(output: Output, record: QueryRecord): void {
  output.put(`${visibleJson(JSON.stringify(record))}\n`)
}

function putRaw(output: Output, record: QueryRecord): void {
  putValue(output, record)
  output.put('\n')
}

function putValue(output: Output, record: QueryRecord): void {
  if (output.isTty) output.put(terminalLine(valueOf(record)))
  else if (record.b64 === undefined) output.put(record.line)
  else output.putBytes(valueOf(record))
}

function textWriter(output: Output, options: FormatOptions): RecordWriter {
  const [dim, cyan, plain] = options.color ? ['\x1b[2m', '\x1b[36m', '\x1b[0m'] : ['', '', '']
  let previous: QueryRecord | undefined
  return lineByLine(output, (target, record) => {
    if (options.separators && previous !== undefined && !follows(previous, record)) target.put('--\n')
    previous = record
    target.put(`${dim}${humanTime(record.ts, options.zone)}${plain} ${cyan}${tty(target, originOf(record))}${plain} `)
    putValue(target, record)
    target.put('\n')
  })
}

/** `host:path` for what came from a file, the topic for what was posted. */
function originOf(record: QueryRecord): string {
  return record.host === '' && record.path === '' ? record.topic : `${record.host}:${record.path}`
}

function follows(previous: QueryRecord, record: QueryRecord): boolean {
  return (
    previous.topic === record.topic && previous.partition === record.partition && previous.host === record.host &&
    previous.path === record.path && Math.abs(record.offset - previous.offset) === 1
  )
}

function tty(output: Output, text: string): string {
  return output.isTty ? visibleText(text) : text
}

function logfmtLine(record: QueryRecord, zone: TimeZone): string {
  const pairs = [
    `ts=${humanTime(record.ts, zone)}`, `host=${logfmtValue(record.host)}`, `path=${logfmtValue(record.path)}`,
    `topic=${record.topic}`, `partition=${record.partition}`, `offset=${record.offset}`, `line=${logfmtValue(record.line)}`,
  ]
  if (record.b64 !== undefined) pairs.push(`b64=${record.b64}`)
  if (record.mark !== undefined) pairs.push(`mark=${record.mark}`)
  return pairs.join(' ')
}

function logfmtValue(text: string): string {
  return /^[^\s"=\\\x00-\x1f\x7f]+$/.test(text) ? text : JSON.stringify(text)
}

/** RFC 4180, but for `\n` as the end of a line. */
function csvWriter(output: Output, zone: TimeZone): RecordWriter {
  let hasHead = false
  return lineByLine(output, (target, record) => {
    if (!hasHead) target.put('ts,host,path,topic,partition,offset,line,b64\n')
    hasHead = true
    const cells = [
      humanTime(record.ts, zone), record.host, record.path, record.topic, String(record.partition), String(record.offset),
      record.line, record.b64 ?? '',
    ]
    target.put(`${cells.map((cell) => tty(target, csvCell(cell))).join(',')}\n`)
  })
}

function csvCell(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}
