/**
 * `tailrace inspect`: a segment file as it lies on disk, without a server: its batches, on wish its records, whether
 * each is valid, and whether the indexes beside it agree. Reads only; may run on a live or an exported segment.
 */
import { AppError, errnoOf, toAppError } from '../../shared/errors.ts'
import { RecordCursor, type BatchHeader } from '../../shared/record-batch.ts'
import type { FileHandle } from '../../shared/system.ts'
import { toOffset } from '../../shared/types.ts'
import type { Zstd } from '../../shared/zstd.ts'
import { scanBatches, type Scanned } from '../storage/batch-scan.ts'
import { jsonOption, type CommandInput, type CommandSpec } from './command.ts'
import type { CliContext } from './context.ts'
import { exitCodes, usageError } from './exit-codes.ts'
import { humanBytes, humanCount, humanTime, type TimeZone } from './human.ts'
import { IndexAudit } from './inspect-index.ts'
import { readWholeFile } from './local-file.ts'
import { openBatch, type OpenedBatch } from './opened-batch.ts'
import { Output } from './output.ts'
import { terminalLine, visibleBytes, visibleJson, visibleText } from './terminal-text.ts'

const INDEX_BYTES_MAX = 256 * 1024 * 1024
const READ_BYTES = 1024 * 1024

export const inspectCommand: CommandSpec = {
  name: 'inspect',
  operands: ['<file>'],
  summary: 'look into a segment file on disk; needs no server',
  examples: [
    { command: 'tailrace inspect data/topics/app-0/00000000000000000000.log', meaning: 'its batches, and whether all is valid' },
    { command: 'tailrace inspect 00000000000000000000.log --records | less', meaning: 'every record as well' },
    { command: "tailrace inspect 00000000000000000000.log --json | jq '.[] | select(.valid | not)'", meaning: 'only what is damaged' },
  ],
  options: [
    { flags: '--records', kind: 'flag', help: 'print every record' },
    { flags: '--utc', kind: 'flag', help: 'times are UTC, not the local zone' },
    jsonOption,
  ],
  details: 'Exit code 3 when a batch is damaged, 1 when only an index disagrees with the log. The .index and .timeindex beside the file\nare compared when they are there; the segment that is being written has none yet.',
  run: runInspect,
}

/** One batch, or a range of bytes that is none. */
interface BatchRow {
  readonly position: number
  readonly sizeBytes: number
  readonly valid: boolean
  readonly problem: string | undefined
  readonly header: BatchHeader | undefined
  readonly opened: OpenedBatch | undefined
}

async function runInspect(input: CommandInput, context: CliContext): Promise<number> {
  const path = input.operands[0] ?? ''
  if (!path.endsWith('.log')) throw usageError(`${path} is not a segment`, 'give the .log file; the indexes beside it are found by its name')
  const handle = await openSegment(context, path)
  const view = input.flag('json') ? new JsonView(context, input) : new TextView(context, input)
  try {
    const zstd = await context.loadZstd()
    const { size } = await handle.stat()
    const base = baseOffsetOf(path)
    let audit: IndexAudit | undefined
    let damaged = 0
    const options = { from: 0, to: size, expectedOffset: toOffset(base ?? 0), shouldVerify: () => true, stepBytes: READ_BYTES }
    for await (const scanned of scanBatches(handle, options)) {
      const row = judge(scanned, zstd)
      audit ??= row.header === undefined ? undefined : await openAudit(context, path, base ?? row.header.baseOffset)
      if (row.header !== undefined) audit?.add(row.header, row.position)
      if (!row.valid) damaged += 1
      await view.add(row)
    }
    audit?.finish()
    await view.finish({ size, damaged, audit })
    if (damaged > 0) return exitCodes.partial
    return (audit?.problems.length ?? 0) > 0 ? exitCodes.nothing : exitCodes.ok
  } finally {
    await handle.close()
  }
}

async function openSegment(context: CliContext, path: string): Promise<FileHandle> {
  try {
    return await context.system.fs.open(path, 'read')
  } catch (error) {
    throw usageError(`cannot open ${path}: ${errnoOf(error) ?? String(error)}`)
  }
}

/** Local segments are named by their base offset, exported ones by base, next and epoch. */
function baseOffsetOf(path: string): number | undefined {
  const match = /^([0-9]{20})(?:-[0-9]{20}-[0-9]+)?\.log$/.exec(path.slice(path.lastIndexOf('/') + 1))
  const base = Number(match?.[1])
  return Number.isSafeInteger(base) ? base : undefined
}

async function openAudit(context: CliContext, path: string, baseOffset: number): Promise<IndexAudit> {
  const read = async (suffix: string): Promise<Buffer | undefined> => {
    const file = path.replace(/\.log$/, suffix)
    if ((await context.system.fs.stat(file, { followSymlinks: true })) === undefined) return undefined
    return readWholeFile(context.system.fs, file, INDEX_BYTES_MAX)
  }
  return new IndexAudit(baseOffset, { offsets: await read('.index'), times: await read('.timeindex') })
}

function judge(scanned: Scanned, zstd: Zstd): BatchRow {
  const place = { position: scanned.position, sizeBytes: scanned.end - scanned.position }
  if (scanned.kind === 'bad') return { ...place, valid: false, problem: scanned.reason, header: undefined, opened: undefined }
  const { header, batch } = scanned
  try {
    if (batch === undefined) throw new AppError('CORRUPT_MESSAGE', 'batch was not read')
    return { ...place, valid: true, problem: undefined, header, opened: openBatch({ header, bytes: batch }, zstd) }
  } catch (error) {
    return { ...place, valid: false, problem: toAppError(error).message, header, opened: undefined }
  }
}

interface Totals {
  readonly size: number
  readonly damaged: number
  readonly audit: IndexAudit | undefined
}

interface RecordRow {
  readonly offset: number
  readonly ts: number
  readonly key: string | null
  readonly mark: string
  readonly value: Buffer
}

function* recordRows({ header, raw }: OpenedBatch): Generator<RecordRow> {
  const cursor = new RecordCursor(raw)
  while (cursor.next()) {
    yield {
      offset: header.baseOffset + cursor.offsetDelta,
      ts: header.baseTimestampMs + cursor.timestampDelta,
      key: cursor.keyStart < 0 ? null : visibleBytes(raw.subarray(cursor.keyStart, cursor.keyEnd)),
      mark: cursor.mark(),
      value: cursor.valueStart < 0 ? Buffer.alloc(0) : raw.subarray(cursor.valueStart, cursor.valueEnd),
    }
  }
}

class TextView {
  private readonly output: Output
  private readonly zone: TimeZone
  private readonly withRecords: boolean
  private batches = 0
  private records = 0

  constructor(context: CliContext, input: CommandInput) {
    this.output = new Output(context.stdout)
    this.zone = input.zone
    this.withRecords = input.flag('records')
  }

  async add(row: BatchRow): Promise<void> {
    const { header, opened } = row
    this.batches += 1
    this.records += header?.recordCount ?? 0
    const facts = [`position ${row.position}`, `size ${row.sizeBytes}`]
    if (header !== undefined) {
      facts.push(
        `offsets ${header.baseOffset}-${header.lastOffset}`, `records ${header.recordCount}`, `epoch ${header.leaderEpoch}`,
        `time ${humanTime(header.baseTimestampMs, this.zone)} to ${humanTime(header.maxTimestampMs, this.zone)}`,
        `crc ${header.crc.toString(16).padStart(8, '0')}`, header.codec === 4 ? 'zstd' : `codec ${header.codec}`,
      )
    }
    if (opened?.source !== undefined) {
      const { source } = opened
      facts.push(`stream ${source.streamId.toString('hex').slice(0, 12)} generation ${source.generation} bytes ${source.start}-${source.end} ${source.host}:${source.path}`)
    }
    facts.push(row.valid ? 'valid' : `DAMAGED: ${row.problem ?? ''}`)
    this.output.put(`${visibleText(facts.join('  '))}\n`)
    if (this.withRecords && opened !== undefined) await this.addRecords(opened)
    if (this.output.isFull) await this.output.flush()
  }

  async finish({ size, damaged, audit }: Totals): Promise<void> {
    for (const problem of audit?.problems ?? []) this.output.put(`INDEX ${problem}\n`)
    const indexes = audit === undefined ? '' : `, ${audit.offsetEntries} index and ${audit.timeEntries} time index entries`
    const found = damaged > 0 ? `${damaged} DAMAGED` : (audit?.problems.length ?? 0) > 0 ? 'log valid, INDEX DISAGREES' : 'all valid'
    this.output.put(`${humanCount(this.batches)} batches, ${humanCount(this.records)} records, ${humanBytes(size)}${indexes}: ${found}\n`)
    await this.output.flush()
  }

  private async addRecords(opened: OpenedBatch): Promise<void> {
    for (const record of recordRows(opened)) {
      const mark = record.mark === 'newline' ? '' : ` (${record.mark})`
      this.output.put(`  ${record.offset} ${humanTime(record.ts, this.zone)}${mark} `)
      if (this.output.isTty) this.output.put(terminalLine(record.value))
      else this.output.putBytes(record.value)
      this.output.put('\n')
      if (this.output.isFull) await this.output.flush()
    }
  }
}

/** One array, a batch a line; streamed, so that a segment of any size can be shown. */
class JsonView {
  private readonly output: Output
  private readonly withRecords: boolean
  private separator = '['

  constructor(context: CliContext, input: CommandInput) {
    this.output = new Output(context.stdout)
    this.withRecords = input.flag('records')
  }

  async add(row: BatchRow): Promise<void> {
    const json = JSON.stringify(this.toJson(row))
    this.output.put(`${this.separator}\n  ${this.output.isTty ? visibleJson(json) : json}`)
    this.separator = ','
    if (this.output.isFull) await this.output.flush()
  }

  async finish({ audit }: Totals): Promise<void> {
    for (const problem of audit?.problems ?? []) {
      this.output.put(`${this.separator}\n  ${JSON.stringify({ valid: false, problem })}`)
      this.separator = ','
    }
    this.output.put(this.separator === '[' ? '[]\n' : '\n]\n')
    await this.output.flush()
  }

  private toJson({ position, sizeBytes, valid, problem, header, opened }: BatchRow): object {
    return {
      position, sizeBytes, valid, problem,
      ...(header === undefined ? {} : { ...header, producerId: header.producerId.toString() }),
      ...(opened?.source === undefined ? {} : { source: sourceJson(opened.source) }),
      ...(this.withRecords && opened !== undefined ? { records: [...recordRows(opened)].map(recordJson) } : {}),
    }
  }
}

function sourceJson(source: NonNullable<OpenedBatch['source']>): object {
  return Object.fromEntries(
    Object.entries(source).map(([name, value]: [string, unknown]) => [
      name, Buffer.isBuffer(value) ? value.toString('hex') : typeof value === 'bigint' ? value.toString() : value,
    ]),
  )
}

function recordJson(record: RecordRow): object {
  const line = record.value.toString('utf8')
  const isUtf8 = Buffer.from(line, 'utf8').equals(record.value)
  return { ...record, value: undefined, line, ...(isUtf8 ? {} : { b64: record.value.toString('base64') }) }
}
