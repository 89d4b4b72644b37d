/**
 * The log for readers: what is on this disk, and below it what retention dropped here but the export has. Where the
 * local log misses something that was exported (damage, or a segment dropped under the reader), the export fills in.
 *
 * Offsets: `localLogStartOffset` is where this disk begins, `logStartOffset` where reading can begin at all. Nothing that
 * belongs to a deleted topic of the same name is read back. Any number of calls at the same time; writes nothing.
 */
import { toOffset, type Offset } from '../../shared/types.ts'
import type { ReadableLog, ReadableStreams, ReadRequest, ReadResult, SegmentSummary, TopicDescription, Watermarks } from '../storage/topic-log.ts'
import type { ExportedLog, ExportedRange } from './exported-log.ts'

export interface LocalLog extends ReadableLog {
  /** Where the partition's log began: what was exported from below belongs to a deleted topic of the same name. */
  beginOffset(topic: string, partition: number): Offset
}

export class TieredLog implements ReadableLog {
  private readonly local: LocalLog
  private readonly exported: ExportedLog

  constructor(local: LocalLog, exported: ExportedLog) {
    this.local = local
    this.exported = exported
  }

  get streams(): ReadableStreams {
    return this.local.streams
  }

  topics(): readonly TopicDescription[] {
    return this.local.topics().map((topic) => this.describe(topic))
  }

  topic(name: string): TopicDescription | undefined {
    const topic = this.local.topic(name)
    return topic === undefined ? undefined : this.describe(topic)
  }

  watermarks(topic: string, partition: number): Watermarks {
    const watermarks = this.local.watermarks(topic, partition)
    return { ...watermarks, logStartOffset: this.exported.firstOffset(this.below(topic, partition)) ?? watermarks.localLogStartOffset }
  }

  segments(topic: string, partition: number): readonly SegmentSummary[] {
    return [...this.exported.summaries(this.below(topic, partition)), ...this.local.segments(topic, partition)]
  }

  waitFor(topic: string, partition: number, offset: Offset, signal: AbortSignal): Promise<boolean> {
    return this.local.waitFor(topic, partition, offset, signal)
  }

  async read(request: ReadRequest): Promise<ReadResult> {
    const { localLogStartOffset, highWatermark } = this.local.watermarks(request.topic, request.partition)
    const endOffset = toOffset(Math.min(request.endOffset ?? highWatermark, highWatermark))
    const end = toOffset(Math.min(endOffset, localLogStartOffset))
    if (request.offset >= end) return this.readHere(request)
    const result = await this.exported.read(this.below(request.topic, request.partition), { ...request, endOffset: end })
    if (result.batches.length > 0 || end >= endOffset) return result
    const rest = await this.readHere({ ...request, offset: end, endOffset })
    return { ...rest, missing: [...result.missing, ...rest.missing] }
  }

  async offsetForTimestamp(topic: string, partition: number, timestampMs: number): Promise<Offset> {
    const below = this.below(topic, partition)
    const found = await this.exported.offsetForTimestamp(below, timestampMs)
    if (found === undefined) return this.local.offsetForTimestamp(topic, partition, timestampMs)
    return toOffset(Math.min(found, this.local.watermarks(topic, partition).highWatermark))
  }

  private async readHere(request: ReadRequest): Promise<ReadResult> {
    const result = await this.local.read(request)
    const [gap] = result.missing
    if (gap === undefined || !this.isExported(request, gap.fromOffset)) return result
    // What stands before the gap first; the next read then begins in it.
    if (gap.fromOffset > request.offset) return this.local.read({ ...request, endOffset: gap.fromOffset })
    const { topic, partition } = request
    const range = { topic, partition, from: this.local.beginOffset(topic, partition), to: gap.toOffset }
    const filled = await this.exported.read(range, { ...request, endOffset: gap.toOffset })
    return filled.batches.length > 0 ? filled : result
  }

  private isExported({ topic, partition }: ReadRequest, offset: Offset): boolean {
    return offset >= this.local.beginOffset(topic, partition) && this.exported.holds({ topic, partition, offset })
  }

  /** What was exported and is not here any more. */
  private below(topic: string, partition: number): ExportedRange {
    const { localLogStartOffset } = this.local.watermarks(topic, partition)
    return { topic, partition, from: this.local.beginOffset(topic, partition), to: localLogStartOffset }
  }

  private describe(topic: TopicDescription): TopicDescription {
    return { ...topic, partitions: topic.partitions.map((each) => ({ ...each, ...this.watermarks(topic.name, each.partition) })) }
  }
}
