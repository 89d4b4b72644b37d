/**
 * The records of a replay: one query from a vector of offsets, cut at ends that were pinned before. A broken connection
 * is made again and goes on behind the last record that was handed out.
 */
import { toAppError } from '../../shared/errors.ts'
import type { QueryRecord } from '../../shared/wire.ts'
import type { CollectorClient, QueryValues } from './collector-client.ts'
import type { CliContext } from './context.ts'
import { formatCursor, partitionKey, splitPartitionKey, toVector, type OffsetVector } from './offset-vector.ts'
import { QueryStream, recordsIn } from './query-stream.ts'

const RETRIES_MAX = 10
const RETRY_MS = 1000

export interface ReplayRange {
  readonly next: OffsetVector
  readonly ends: OffsetVector
}

export interface SourceOptions extends ReplayRange {
  readonly client: CollectorClient
  readonly context: CliContext
  /** Filters only: no order, no limit. */
  readonly values: QueryValues
}

export class ReplaySource {
  /** Ranges that could not be read, as text. */
  readonly missing: string[] = []
  private readonly options: SourceOptions

  constructor(options: SourceOptions) {
    this.options = options
  }

  /** In the order of the log: merged by time over the partitions, offset order within each. */
  async *records(): AsyncGenerator<QueryRecord> {
    const { ends, context } = this.options
    const next = new Map(this.options.next)
    for (let failures = 0; ; ) {
      try {
        for await (const record of this.open(next)) {
          const key = partitionKey(record.topic, record.partition)
          if (record.offset < (next.get(key) ?? Infinity) || record.offset >= (ends.get(key) ?? 0)) continue
          next.set(key, record.offset + 1)
          failures = 0
          yield record
        }
        return
      } catch (error) {
        failures += 1
        if (context.signal.aborted || !toAppError(error).retryable || failures > RETRIES_MAX) throw error
        await context.system.clock.sleep(RETRY_MS * failures, context.signal)
      }
    }
  }

  private async *open(next: OffsetVector): AsyncGenerator<QueryRecord> {
    const stream = new QueryStream(this.options.client, { ...this.options.values, from: formatCursor(next) })
    for await (const block of stream.blocks()) yield* recordsIn(block)
    for (const hole of stream.end?.missing ?? []) {
      this.missing.push(`${hole.topic}-${hole.partition} offsets ${hole.fromOffset} to ${hole.toOffset}: ${hole.reason}`)
    }
  }
}

/** Every matching record of [next, end), partition after partition: small ranges only, all are held. */
export async function recordsBetween(options: SourceOptions): Promise<QueryRecord[]> {
  const found: QueryRecord[] = []
  for (const [key, end] of options.ends) {
    const from = options.next.get(key) ?? 0
    if (from >= end) continue
    const { topic, partition } = splitPartitionKey(key)
    const values = { ...options.values, topic: [topic], partition: [String(partition)] }
    const range = { next: toVector({ [key]: from }), ends: toVector({ [key]: end }) }
    for await (const record of new ReplaySource({ ...options, ...range, values }).records()) {
      found.push(record)
      if (record.offset === end - 1) break
    }
  }
  return found
}
