/**
 * A TopicLog in memory, for tests of handlers and queries: the same answers as the embedded log, with nothing durable,
 * one segment per partition, no retention. `failWith` makes the next appends fail.
 */
import { AppError } from '../shared/errors.ts'
import { partitionOf } from '../shared/hashes.ts'
import { patchBatch, readBatchHeader, readFirstRecord } from '../shared/record-batch.ts'
import type { SourceHeader } from '../shared/source-header.ts'
import { toOffset, type FilePosition, type Offset } from '../shared/types.ts'
import { splitRecordKey, wireLimits } from '../shared/wire.ts'
import type { Zstd } from '../shared/zstd.ts'
import type {
  AppendResult, PlainBatch, ReadRequest, ReadResult, SegmentInfo, SourcedBatch, StreamState, StreamTable, TopicConfig,
  TopicDescription, TopicLog, Watermarks,
} from '../collector/storage/topic-log.ts'

const defaults: TopicConfig = { partitions: 4, segmentBytes: 1024 * 1024, segmentAgeMs: 3_600_000, retentionBytes: undefined, retentionAgeMs: undefined }

interface Stored {
  readonly baseOffset: number
  readonly nextOffset: number
  readonly maxTimestampMs: number
  readonly batch: Buffer
}

interface MemoryTopic {
  config: TopicConfig
  readonly partitions: Stored[][]
}

export class MemoryTopicLog implements TopicLog {
  readonly clusterId = 'cluster-1'
  logEpoch = 1
  readonly streams = new MemoryStreams()
  /** Each append takes one of these errors away and fails with it. */
  readonly failures: AppError[] = []
  rolls = 0
  private readonly byName = new Map<string, MemoryTopic>()
  private readonly waiters = new Set<() => void>()
  private readonly zstd: Zstd
  private readonly nowMs: () => number

  constructor(options: { zstd: Zstd; nowMs: () => number }) {
    this.zstd = options.zstd
    this.nowMs = options.nowMs
  }

  topics(): readonly TopicDescription[] {
    return [...this.byName.keys()].sort().map((name) => this.describe(name))
  }

  topic(name: string): TopicDescription | undefined {
    return this.byName.has(name) ? this.describe(name) : undefined
  }

  async createTopic(name: string, config: Partial<TopicConfig>): Promise<TopicDescription> {
    await Promise.resolve()
    if (this.byName.has(name)) throw new AppError('TOPIC_EXISTS', `topic ${name} exists`)
    this.make(name, config)
    return this.describe(name)
  }

  async alterTopic(name: string, config: Partial<TopicConfig>): Promise<TopicDescription> {
    await Promise.resolve()
    const topic = this.need(name)
    const next = { ...topic.config, ...config }
    if (next.partitions < topic.partitions.length) throw new AppError('INVALID_PARTITIONS', 'a partition count only grows')
    while (topic.partitions.length < next.partitions) topic.partitions.push([])
    topic.config = next
    return this.describe(name)
  }

  async deleteTopic(name: string): Promise<void> {
    await Promise.resolve()
    this.need(name)
    this.byName.delete(name)
  }

  async append(sourced: SourcedBatch): Promise<AppendResult> {
    const result = this.appendNow(sourced)
    await Promise.resolve()
    return result
  }

  appendPlain(plain: PlainBatch): Promise<{ readonly baseOffset: Offset }> {
    const failure = this.failures.shift()
    if (failure !== undefined) return Promise.reject(failure)
    return Promise.resolve({ baseOffset: this.store(this.need(plain.topic), plain.partition, plain.batch) })
  }

  watermarks(topic: string, partition: number): Watermarks {
    const end = endOf(this.partition(topic, partition))
    return { logStartOffset: toOffset(0), localLogStartOffset: toOffset(0), highWatermark: end, logEndOffset: end }
  }

  async read(request: ReadRequest): Promise<ReadResult> {
    await Promise.resolve()
    const stored = this.partition(request.topic, request.partition)
    if (request.offset > endOf(stored)) throw new AppError('OFFSET_OUT_OF_RANGE', `offset ${request.offset} is above the log end`)
    const end = request.endOffset ?? endOf(stored)
    const given: Stored[] = []
    let bytes = 0
    for (const each of stored) {
      if (each.nextOffset <= request.offset || each.baseOffset >= end) continue
      if (given.length > 0 && bytes + each.batch.length > request.bytesMax) break
      given.push(each)
      bytes += each.batch.length
    }
    const nextOffset = toOffset(given.at(-1)?.nextOffset ?? request.offset)
    return { batches: Buffer.concat(given.map(({ batch }) => batch)), nextOffset, missing: [] }
  }

  async waitFor(topic: string, partition: number, offset: Offset, signal: AbortSignal): Promise<boolean> {
    while (endOf(this.partition(topic, partition)) <= offset) {
      if (signal.aborted) return false
      await new Promise<void>((resolve) => {
        this.waiters.add(resolve)
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
    }
    return true
  }

  async offsetForTimestamp(topic: string, partition: number, timestampMs: number): Promise<Offset> {
    await Promise.resolve()
    const stored = this.partition(topic, partition)
    return toOffset(stored.find((each) => each.maxTimestampMs >= timestampMs)?.baseOffset ?? endOf(stored))
  }

  segments(topic: string, partition: number): readonly SegmentInfo[] {
    const stored = this.partition(topic, partition)
    const times = stored.map(({ maxTimestampMs }) => maxTimestampMs)
    return [
      {
        topic, partition, baseOffset: toOffset(0), nextOffset: endOf(stored), isSealed: false,
        sizeBytes: sizeOf(stored), firstAppendMs: times[0], lastAppendMs: times.at(-1),
        maxTimestampMs: times.length === 0 ? undefined : Math.max(...times),
        files: { log: '', index: '', timeIndex: '', meta: '' },
      },
    ]
  }

  async maintain(): Promise<void> {
    await Promise.resolve()
  }

  async roll(topic: string, partition: number): Promise<void> {
    await Promise.resolve()
    this.partition(topic, partition)
    this.rolls += 1
  }

  setExportedOffset(): void {
    // There is no retention here that this could hold back.
  }

  async close(): Promise<void> {
    await Promise.resolve()
  }

  /** Bytes of everything stored: what a refused request must not change. */
  get storedBatches(): number {
    let count = 0
    for (const { partitions } of this.byName.values()) for (const stored of partitions) count += stored.length
    return count
  }

  private appendNow({ topic: name, source, batch }: SourcedBatch): AppendResult {
    const failure = this.failures.shift()
    if (failure !== undefined) throw failure
    const before = this.streams.get(source.streamId)
    const position = before?.position ?? 0
    const synced = { position: position as FilePosition, tailHash: before?.tailHash ?? Buffer.alloc(16) }
    if (source.start < position) return { kind: 'have', ...synced }
    if (source.start > position) return { kind: 'expected', ...synced }
    if (before !== undefined && !before.tailHash.equals(source.tailHashStart)) return { kind: 'diverged', ...synced }
    const topic = this.byName.get(name) ?? this.make(name, {})
    const key = readFirstRecord(batch, this.zstd, wireLimits.batchContentBytesMax).key ?? Buffer.alloc(0)
    const partition = before?.partition ?? partitionOf(key, topic.config.partitions)
    const baseOffset = this.store(topic, partition, batch)
    this.streams.fold({ topic: name, partition, source, batch, keyPath: splitRecordKey(key.toString()).path, nowMs: this.nowMs() })
    return { kind: 'ok', partition, baseOffset }
  }

  private store(topic: MemoryTopic, partition: number, batch: Buffer): Offset {
    const stored = topic.partitions[partition]
    if (stored === undefined) throw new AppError('INVALID_PARTITIONS', `no partition ${partition}`)
    const baseOffset = endOf(stored)
    patchBatch(batch, { baseOffset, leaderEpoch: 0 })
    const header = readBatchHeader(batch)
    stored.push({ baseOffset, nextOffset: baseOffset + header.recordCount, maxTimestampMs: header.maxTimestampMs, batch: Buffer.from(batch) })
    for (const wake of this.waiters) wake()
    this.waiters.clear()
    return baseOffset
  }

  private make(name: string, config: Partial<TopicConfig>): MemoryTopic {
    const whole = { ...defaults, ...config }
    const topic = { config: whole, partitions: Array.from({ length: whole.partitions }, () => []) }
    this.byName.set(name, topic)
    return topic
  }

  private need(name: string): MemoryTopic {
    const topic = this.byName.get(name)
    if (topic === undefined) throw new AppError('UNKNOWN_TOPIC', `there is no topic ${name}`)
    return topic
  }

  private partition(name: string, partition: number): readonly Stored[] {
    const stored = this.need(name).partitions[partition]
    if (stored === undefined) throw new AppError('UNKNOWN_TOPIC', `topic ${name} has no partition ${partition}`)
    return stored
  }

  private describe(name: string): TopicDescription {
    const topic = this.need(name)
    return {
      name,
      config: topic.config,
      partitions: topic.partitions.map((stored, partition) => ({
        ...this.watermarks(name, partition), partition, sizeBytes: sizeOf(stored), segmentCount: 1,
        firstAppendMs: stored[0]?.maxTimestampMs, lastAppendMs: stored.at(-1)?.maxTimestampMs, state: 'ok',
      })),
    }
  }
}

function endOf(stored: readonly Stored[]): Offset {
  return toOffset(stored.at(-1)?.nextOffset ?? 0)
}

function sizeOf(stored: readonly Stored[]): number {
  return stored.reduce((sum, { batch }) => sum + batch.length, 0)
}

interface Folded {
  readonly topic: string
  readonly partition: number
  readonly source: SourceHeader
  readonly batch: Buffer
  readonly keyPath: string
  readonly nowMs: number
}

class MemoryStreams implements StreamTable {
  private readonly byId = new Map<string, StreamState>()

  get size(): number {
    return this.byId.size
  }

  get(streamId: Buffer): StreamState | undefined {
    return this.byId.get(streamId.toString('hex'))
  }

  list(): Iterable<StreamState> {
    return [...this.byId.keys()].sort().flatMap((id) => this.byId.get(id) ?? [])
  }

  ofAgent(agentId: string, options: { after?: Buffer; limit: number }): readonly StreamState[] {
    const after = options.after?.toString('hex') ?? ''
    return [...this.list()].filter(({ source }) => source.agentId === agentId && source.streamId.toString('hex') > after).slice(0, options.limit)
  }

  find(agentId: string, options: { topic: string; inode: bigint; birthtimeNs: bigint }): readonly StreamState[] {
    return [...this.list()].filter(
      ({ source, topic }) =>
        source.agentId === agentId && topic === options.topic && source.inode === options.inode && source.birthtimeNs === options.birthtimeNs,
    )
  }

  close(streamId: Buffer, position: FilePosition): boolean {
    const state = this.get(streamId)
    if (state === undefined || state.position !== position) return false
    this.byId.set(streamId.toString('hex'), { ...state, isOpen: false })
    return true
  }

  fold({ topic, partition, source, batch, keyPath, nowMs }: Folded): void {
    const header = readBatchHeader(batch)
    const before = this.get(source.streamId)
    this.byId.set(source.streamId.toString('hex'), {
      source, topic, partition, keyPath: before?.keyPath ?? keyPath, position: source.end, tailHash: source.tailHashEnd,
      recordCount: (before?.recordCount ?? 0) + header.recordCount, firstOffset: before?.firstOffset ?? header.baseOffset,
      lastOffset: header.lastOffset, lastAppendMs: nowMs, isSuperseded: false, isOpen: true,
    })
  }
}
