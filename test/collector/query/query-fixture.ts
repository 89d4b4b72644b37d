/**
 * A log of small batches with chosen timestamps, and a naive model of a query over the same records: it sorts
 * everything, looks at every line, and so is obviously right.
 */
import { QueryEngine } from '../../../collector/query/query-engine.ts'
import { createInProcessExecutor } from '../../../collector/query/in-process-executor.ts'
import { parseQuery } from '../../../collector/query/parse-query.ts'
import type { ReadableLog, TopicLog } from '../../../collector/storage/topic-log.ts'
import { defaultScanSizes, type ScanSizes } from '../../../collector/query/scan-sizes.ts'
import { NO_PRODUCER, producerOf, sealBatch } from '../../../shared/record-batch.ts'
import { RecordsBuilder } from '../../../shared/records-builder.ts'
import { splitRecordKey, type QueryEnd, type QueryRecord } from '../../../shared/wire.ts'
import type { Zstd } from '../../../shared/zstd.ts'
import { MemoryTopicLog } from '../../memory-topic-log.ts'
import { simulate } from '../../sim-system.ts'

export interface TestRecord {
  readonly line: string | Buffer
  readonly ts: number
}

export interface TestBatch {
  readonly topic: string
  readonly partition: number
  /** '' = a plain batch. */
  readonly key: string
  readonly records: readonly TestRecord[]
}

/** Units and pages so small that each query is cut many times. */
export const tinySizes: ScanSizes = { unitBytesFirst: 200, unitBytesMin: 100, unitBytesMax: 800, memoryBytes: 4000, pageBytesMin: 150, pageBytesMax: 400, pageRowsMax: 5 }

export function encodeBatch(batch: Pick<TestBatch, 'key' | 'records'>, zstd: Zstd): Buffer {
  const key = Buffer.from(batch.key)
  const sources = batch.records.map(({ line }) => Buffer.from(line))
  const builder = new RecordsBuilder({ capacity: sources.reduce((sum, line) => sum + line.length + key.length + 64, 0), key, sourceHeaderBytes: 0 })
  for (const [at, source] of sources.entries()) {
    builder.append(source, { start: 0, end: source.length, mark: 'newline', timestampMs: batch.records[at]?.ts ?? 0 })
  }
  const section = builder.finish(undefined)
  const producer = batch.key === '' ? NO_PRODUCER : producerOf(Buffer.from(batch.key.padEnd(16, '.')).subarray(0, 16), 0)
  return sealBatch(section, [zstd.compressSync(section.raw, 1)], producer)
}

export interface TestLog {
  readonly log: MemoryTopicLog
  readonly records: readonly NaiveRecord[]
}

export interface NaiveRecord {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly ts: number
  readonly arrivalMs: number
  /** Running maximum of the timestamp in the partition. */
  readonly key: number
  readonly host: string
  readonly path: string
  readonly line: string
}

export async function fillLog(batches: readonly TestBatch[], zstd: Zstd): Promise<TestLog> {
  const log = new MemoryTopicLog({ zstd, nowMs: () => 0 })
  return { log, records: await fill(log, batches, zstd) }
}

/** Topics get four partitions. */
export async function fill(log: TopicLog, batches: readonly TestBatch[], zstd: Zstd): Promise<readonly NaiveRecord[]> {
  const maxima = new Map<string, number>()
  const records: NaiveRecord[] = []
  for (const { topic, partition, key, records: lines } of batches) {
    if (log.topic(topic) === undefined) await log.createTopic(topic, { partitions: 4 })
    const { baseOffset } = await log.appendPlain({ topic, partition, batch: encodeBatch({ key, records: lines }, zstd) })
    for (const [at, { line, ts }] of lines.entries()) {
      const max = Math.max(ts, maxima.get(`${topic}:${partition}`) ?? -Infinity)
      maxima.set(`${topic}:${partition}`, max)
      const arrivalMs = Math.max(ts, lines[0]?.ts ?? 0)
      records.push({ topic, partition, offset: baseOffset + at, ts, arrivalMs, key: max, line: line.toString('utf8'), ...splitRecordKey(key) })
    }
  }
  return records
}

export function naiveOrder(records: readonly NaiveRecord[]): NaiveRecord[] {
  return records.toSorted(
    (a, b) => a.key - b.key || (a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : 0) || a.partition - b.partition || a.offset - b.offset,
  )
}

export interface Answer {
  readonly rows: readonly QueryRecord[]
  readonly end: QueryEnd['end']
}

export function engineOn(log: ReadableLog, zstd: Zstd, sizes: ScanSizes = defaultScanSizes): QueryEngine {
  return new QueryEngine({ log, executor: createInProcessExecutor(zstd), clock: simulate().clock, sizes })
}

export async function ask(engine: QueryEngine, parameters: string): Promise<Answer> {
  const prepared = await engine.prepare(parseQuery(new URLSearchParams(parameters)))
  const pieces: Uint8Array[] = []
  for await (const piece of engine.answer(prepared, new AbortController().signal)) pieces.push(Uint8Array.from(piece))
  return parseAnswer(Buffer.concat(pieces))
}

export function parseAnswer(bytes: Buffer): Answer {
  const lines = bytes.toString('utf8').trimEnd().split('\n')
  const last = lines.pop() ?? ''
  const { end } = JSON.parse(last) as QueryEnd
  return { rows: lines.map((line) => JSON.parse(line) as QueryRecord), end }
}

/** What stands out about a row, for comparisons. */
export function nameOf(row: { topic: string; partition: number; offset: number; line: string }): string {
  return `${row.topic}:${row.partition}@${row.offset} ${row.line}`
}
