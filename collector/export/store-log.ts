/**
 * A store read as a log, with no collector: what its catalog says was exported, and nothing newer. It does not grow:
 * what is exported later is seen by whoever opens it anew. Any number of calls at the same time; writes nothing.
 */
import { AppError } from '../../shared/errors.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import type { PartitionInfo, ReadableLog, ReadableStreams, ReadRequest, ReadResult, SegmentSummary, TopicDescription, Watermarks } from '../storage/topic-log.ts'
import type { ExportedLog, ExportedRange } from './exported-log.ts'
import { partitionName } from './journal-format.ts'
import type { StoreCatalog } from './store-catalog.ts'

export class StoreLog implements ReadableLog {
  readonly streams: ReadableStreams
  private readonly catalog: StoreCatalog
  private readonly exported: ExportedLog

  constructor(catalog: StoreCatalog, exported: ExportedLog) {
    this.catalog = catalog
    this.exported = exported
    this.streams = {
      size: catalog.streams.size,
      get: (id) => catalog.streams.get(id.toString('hex')),
      list: () => catalog.streams.values(),
    }
  }

  topics(): readonly TopicDescription[] {
    return [...this.catalog.topics.keys()].map((name) => this.describe(name))
  }

  topic(name: string): TopicDescription | undefined {
    return this.catalog.topics.has(name) ? this.describe(name) : undefined
  }

  watermarks(topic: string, partition: number): Watermarks {
    const range = this.range(topic, partition)
    return { logStartOffset: this.exported.firstOffset(range) ?? range.to, localLogStartOffset: range.to, highWatermark: range.to, logEndOffset: range.to }
  }

  async read(request: ReadRequest): Promise<ReadResult> {
    const range = this.range(request.topic, request.partition)
    if (request.offset > range.to) throw new AppError('OFFSET_OUT_OF_RANGE', `${request.topic}-${request.partition} is exported up to ${range.to}, offset ${request.offset} is not`)
    return this.exported.read(range, { ...request, endOffset: toOffset(Math.min(request.endOffset ?? range.to, range.to)) })
  }

  /** Nothing comes any more. */
  async waitFor(topic: string, partition: number, offset: Offset, signal: AbortSignal): Promise<boolean> {
    if (this.range(topic, partition).to > offset) return true
    if (!signal.aborted) await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
    return false
  }

  async offsetForTimestamp(topic: string, partition: number, timestampMs: number): Promise<Offset> {
    const range = this.range(topic, partition)
    return (await this.exported.offsetForTimestamp(range, timestampMs)) ?? range.to
  }

  segments(topic: string, partition: number): readonly SegmentSummary[] {
    return this.exported.summaries(this.range(topic, partition))
  }

  /** Everything. Throws UNKNOWN_TOPIC, INVALID_PARTITIONS. */
  private range(topic: string, partition: number): ExportedRange {
    const count = this.catalog.topics.get(topic)
    if (count === undefined) throw new AppError('UNKNOWN_TOPIC', `there is no topic ${topic} on the store`)
    if (partition >= count) throw new AppError('INVALID_PARTITIONS', `${topic} has ${count} partitions, there is no ${partition}`)
    let end = 0
    for (const { key } of this.catalog.partitions.get(partitionName({ topic, partition }))?.values() ?? []) end = Math.max(end, key.nextOffset)
    return { topic, partition, from: toOffset(0), to: toOffset(end) }
  }

  private describe(name: string): TopicDescription {
    const count = this.catalog.topics.get(name) ?? 0
    return {
      name,
      config: { partitions: count, segmentBytes: 0, segmentAgeMs: 0, retentionBytes: undefined, retentionAgeMs: undefined },
      partitions: Array.from({ length: count }, (_each, partition) => this.describePartition(name, partition)),
    }
  }

  private describePartition(topic: string, partition: number): PartitionInfo {
    const segments = this.segments(topic, partition)
    return {
      partition,
      ...this.watermarks(topic, partition),
      sizeBytes: segments.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      segmentCount: segments.length,
      firstAppendMs: undefined,
      lastAppendMs: undefined,
      state: 'ok',
    }
  }
}
