/**
 * The embedded topic log: topics on the collector's own disk. See topic-log.ts for what its callers may rely on.
 *
 * Whether a batch is accepted is decided in one synchronous step (position, offset, queue), so calls for one stream keep
 * their order. Topics are made, altered and deleted one at a time.
 */
import { AppError } from '../../shared/errors.ts'
import { NO_TAIL_HASH, partitionOf } from '../../shared/hashes.ts'
import { readBatchHeader, readSourceHeaderBytes, type BatchHeader } from '../../shared/record-batch.ts'
import type { System } from '../../shared/system.ts'
import { toOffset, toPosition, type Offset } from '../../shared/types.ts'
import { recordKey } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'
import { judge, STREAM_BEGIN, type Acceptance } from './acceptance.ts'
import { Alarms, type Alarm } from './alarms.ts'
import { ClockGuard } from './clock-guard.ts'
import { ByteBudget } from './commit-queue.ts'
import { openDataFolder, type DataFolder, type RestoreAccess } from './data-folder.ts'
import { DiskFullWatch } from './disk-full-watch.ts'
import { diskError } from './disk.ts'
import { Maintenance } from './maintenance.ts'
import { OpenSegments } from './open-segments.ts'
import { PartitionLog, type CommittedBatch } from './partition-log.ts'
import { offsetForTimestamp, readPartition } from './partition-reader.ts'
import type { RecoveredPartition } from './recovery.ts'
import { Snapshotter } from './snapshotter.ts'
import { createStorageMetrics, type StorageMetrics } from './storage-metrics.ts'
import { loadSnapshots, type Snapshot } from './stream-snapshot.ts'
import { MemoryStreamTable, type StreamEntry } from './stream-table.ts'
import { groupByPartition, loadTopics, partitionDirectory, type LoadedTopics, type LoadingContext } from './topic-loading.ts'
import { beingDeleted, TopicRegistry } from './topic-registry.ts'
import type {
  AppendResult, PlainBatch, ReadRequest, ReadResult, SegmentInfo, SourcedBatch, StreamTable, TopicConfig, TopicDescription, TopicLog, Watermarks,
} from './topic-log.ts'
import { describeSegment, describeTopic, partitionOfTopic, type Topic } from './topic.ts'

const READ_BYTES_MAX = 64 * 1024 * 1024
const DAY_MS = 86_400_000

export interface StoreLimits {
  readonly partitionQueueBytesMax: number
  readonly queueBytesMax: number
  /** Sealed segments kept open for reading, over all partitions. */
  readonly openSegmentsMax: number
  readonly closedStreamsKeptMs: number
}

const defaultLimits: StoreLimits = {
  partitionQueueBytesMax: 64 * 1024 * 1024,
  queueBytesMax: 256 * 1024 * 1024,
  openSegmentsMax: 64,
  closedStreamsKeptMs: 30 * DAY_MS,
}

export type StoreSystem = Pick<System, 'fs' | 'clock' | 'random' | 'log' | 'metrics'>

export interface TopicStoreOptions {
  readonly dataDir: string
  readonly zstd: Zstd
  /** Settings of topics that are made on first use. */
  readonly defaults: TopicConfig
  /** Records section of one batch, decompressed. */
  readonly batchContentBytesMax: number
  /** Start although positions are lost: agents then send again what they still have. */
  readonly acceptDuplicates?: boolean
  /** A partition failed: what is on disk is in doubt until the process ends and recovers. Called once per partition. */
  readonly onFatal?: (error: AppError) => void
  readonly limits?: Partial<StoreLimits>
  /** Only for a restore, which holds the folder's lock itself. */
  readonly restoring?: RestoreAccess
}

export interface TopicStore extends TopicLog {
  /** Where the partition's log began: what was exported from below belongs to a deleted topic of the same name. */
  beginOffset(topic: string, partition: number): Offset
  alarms(): readonly Alarm[]
  /** Someone looked at the wall clock after a step: retention by age goes on. */
  confirmClock(): void
}

/** Takes the data folder, recovers every partition and answers when all positions are synced. */
export async function openTopicStore(system: StoreSystem, options: TopicStoreOptions): Promise<TopicStore> {
  const folder = await openDataFolder(system, options.dataDir, options.restoring)
  try {
    return await openInFolder(system, options, folder)
  } catch (error) {
    await folder.release()
    throw diskError(error, `open ${options.dataDir}`)
  }
}

async function openInFolder(system: StoreSystem, options: TopicStoreOptions, folder: DataFolder): Promise<TopicStore> {
  const { snapshots, bad, lastNumber } = await loadSnapshots(system.fs, folder.paths.streams)
  const context: LoadingContext = {
    system, paths: folder.paths, zstd: options.zstd, contentBytesMax: options.batchContentBytesMax, defaults: options.defaults,
    acceptDuplicates: options.acceptDuplicates === true, snapshots: snapshots.map(groupByPartition),
  }
  const loaded = await loadTopics(context)
  const all = loaded.topics.flatMap(({ partitions }) => partitions)
  if (all.some((partition) => partition.havePositionsGoneBack)) await folder.raiseLogEpoch()
  const store = new EmbeddedTopicStore(system, options, { folder, context, lastNumber, newest: snapshots[0] ?? { partitions: [], streams: [] } })
  store.adopt(loaded, { badSnapshots: bad })
  // What the log had to be folded for, the next start need not fold again.
  const mayWrite = options.restoring?.isReading !== true
  if (mayWrite && all.some((partition) => partition.foldedBatches > 0 || partition.havePositionsGoneBack)) await store.snapshotIfRoom()
  return store
}

interface StoreParts {
  readonly folder: DataFolder
  readonly context: LoadingContext
  readonly lastNumber: number
  readonly newest: Snapshot
}

class EmbeddedTopicStore implements TopicStore {
  private readonly system: StoreSystem
  private readonly options: TopicStoreOptions
  private readonly parts: StoreParts
  private readonly table = new MemoryStreamTable()
  private readonly metrics: StorageMetrics
  private readonly raised: Alarms
  private readonly clockGuard: ClockGuard
  private readonly diskFull: DiskFullWatch
  private readonly openSegments: OpenSegments
  private readonly budget: ByteBudget
  private readonly limits: StoreLimits
  private readonly registry: TopicRegistry
  private readonly snapshotter: Snapshotter
  private readonly maintenance: Maintenance
  private exportedOffset: (topic: string, partition: number) => Offset | undefined = () => undefined

  constructor(system: StoreSystem, options: TopicStoreOptions, parts: StoreParts) {
    this.system = system
    this.options = options
    this.parts = parts
    this.limits = { ...defaultLimits, ...options.limits }
    this.metrics = createStorageMetrics(system.metrics)
    this.raised = new Alarms(system, this.metrics.alarms)
    this.clockGuard = new ClockGuard(system.clock)
    this.diskFull = new DiskFullWatch(system, { alarms: this.raised, directory: options.dataDir })
    this.openSegments = new OpenSegments(system, this.limits.openSegmentsMax)
    this.budget = new ByteBudget(this.limits.queueBytesMax)
    this.registry = new TopicRegistry({
      system, context: parts.context, table: this.table,
      openPartition: (topic, partition, recovered, limits) => this.openPartition({ topic, partition, recovered, limits }),
      writeSnapshot: () => this.snapshotter.write(),
    })
    this.snapshotter = new Snapshotter(
      {
        system, directory: parts.folder.paths.streams, lastNumber: parts.lastNumber, table: this.table, alarms: this.raised,
        partitions: () => this.registry.partitions(), tombstones: () => this.registry.deletedEnds(),
      },
      parts.newest.partitions,
    )
    this.maintenance = new Maintenance({
      system, table: this.table, snapshotter: this.snapshotter, clockGuard: this.clockGuard, diskFull: this.diskFull, alarms: this.raised, metrics: this.metrics,
      topics: () => this.registry.all(), exportedOffset: (topic, partition) => this.exportedOffset(topic, partition),
      closedStreamsKeptMs: this.limits.closedStreamsKeptMs, queuedBytes: () => this.budget.usedBytes,
    })
  }

  get clusterId(): string {
    return this.parts.folder.clusterId
  }

  get logEpoch(): number {
    return this.parts.folder.logEpoch
  }

  get streams(): StreamTable {
    return this.table
  }

  /** What recovery has found, before anyone else may call. */
  adopt(loaded: LoadedTopics, found: { badSnapshots: readonly string[] }): void {
    for (const name of found.badSnapshots) this.raised.raise('SNAPSHOT_BAD', name, name)
    for (const name of loaded.bad) this.raised.raise('TOPIC_FILE_BAD', name, name)
    this.registry.adoptUnreadable(loaded.unreadable)
    for (const tombstone of loaded.tombstones) this.registry.adoptTombstone(tombstone)
    const live = new Set<string>()
    let lastAppendMs = 0
    for (const { file, partitions } of loaded.topics) {
      live.add(file.topic)
      this.registry.adopt(file, partitions)
      for (const { streams, start } of partitions) {
        for (const state of streams) this.table.restore(state)
        lastAppendMs = Math.max(lastAppendMs, start.active.lastAppendMs ?? start.sealed.at(-1)?.lastAppendMs ?? 0)
      }
    }
    // Streams of deleted topics stand in no log any more.
    for (const state of this.parts.newest.streams) if (!live.has(state.topic)) this.table.restore(state)
    this.snapshotter.adopted()
    if (this.clockGuard.compareWithDisk(lastAppendMs)) {
      this.raised.raise('CLOCK_STEPPED', 'the wall clock is behind the last append: retention by age waits until the clock is confirmed')
    }
  }

  /** A full disk must not keep the collector from starting: the log holds all of it. */
  async snapshotIfRoom(): Promise<void> {
    try {
      await this.snapshotter.write()
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      this.system.log.warn('started without a new snapshot', { reason: error.message })
    }
  }

  topics(): readonly TopicDescription[] {
    return this.registry.all().map(describeTopic)
  }

  topic(name: string): TopicDescription | undefined {
    const topic = this.registry.find(name)
    return topic === undefined ? undefined : describeTopic(topic)
  }

  async createTopic(name: string, config: Partial<TopicConfig>): Promise<TopicDescription> {
    return describeTopic(await this.registry.create(name, config))
  }

  async alterTopic(name: string, config: Partial<TopicConfig>): Promise<TopicDescription> {
    return describeTopic(await this.registry.alter(name, config))
  }

  deleteTopic(name: string): Promise<void> {
    return this.registry.delete(name)
  }

  async append(input: SourcedBatch): Promise<AppendResult> {
    try {
      // Only a topic that is not there yet is waited for: everything else up to the queue happens in this turn.
      const topic = this.registry.find(input.topic) ?? (await this.registry.ensure(input.topic))
      const result = await this.appendTo(topic, input)
      this.metrics.appendResults.add(1, { result: result.kind })
      return result
    } catch (error) {
      throw this.refused(error)
    }
  }

  async appendPlain(input: PlainBatch): Promise<{ readonly baseOffset: Offset }> {
    try {
      const topic = this.registry.find(input.topic) ?? (await this.registry.ensure(input.topic))
      const log = partitionOfTopic(topic, input.partition)
      if (!this.registry.isUsable(topic)) throw beingDeleted(topic.name)
      checkSize(input.batch)
      // Recovery goes by what the batch holds: one with a source in it would be folded as that stream's.
      if (readSourceHeaderBytes(input.batch, this.options.zstd, this.options.batchContentBytesMax) !== undefined) {
        throw new AppError('INVALID_RECORD', 'a batch without a source must not carry a source header')
      }
      log.checkRoom(input.batch.length)
      const baseOffset = await log.append(input.batch, undefined).done
      this.metrics.appendResults.add(1, { result: 'ok' })
      return { baseOffset }
    } catch (error) {
      throw this.refused(error)
    }
  }

  watermarks(topic: string, partition: number): Watermarks {
    const { logStartOffset, highWatermark, logEndOffset } = this.partition(topic, partition)
    return { logStartOffset, localLogStartOffset: logStartOffset, highWatermark, logEndOffset }
  }

  beginOffset(topic: string, partition: number): Offset {
    const { startOffsets } = this.registry.get(topic)
    return startOffsets[this.partition(topic, partition).partition] ?? toOffset(0)
  }

  async read(request: ReadRequest): Promise<ReadResult> {
    const log = this.partition(request.topic, request.partition)
    const bytesMax = Math.min(Math.max(1, request.bytesMax), READ_BYTES_MAX)
    try {
      const result = await readPartition(log, this.openSegments, { offset: request.offset, bytesMax, endOffset: request.endOffset })
      if (result.missing.length > 0) this.noteDamage(log, result.missing)
      return result
    } catch (error) {
      throw diskError(error, `read ${request.topic}-${request.partition}`)
    }
  }

  waitFor(topic: string, partition: number, offset: Offset, signal: AbortSignal): Promise<boolean> {
    return this.partition(topic, partition).waitFor(offset, signal)
  }

  async offsetForTimestamp(topic: string, partition: number, timestampMs: number): Promise<Offset> {
    const log = this.partition(topic, partition)
    try {
      return await offsetForTimestamp(log, this.openSegments, timestampMs)
    } catch (error) {
      throw diskError(error, `look up a time in ${topic}-${partition}`)
    }
  }

  segments(topic: string, partition: number): readonly SegmentInfo[] {
    const log = this.partition(topic, partition)
    return log.segments().map((segment) => describeSegment(log, segment))
  }

  maintain(): Promise<void> {
    return this.maintenance.run()
  }

  roll(topic: string, partition: number): Promise<void> {
    return this.partition(topic, partition).roll({ onlyIfDue: false })
  }

  setExportedOffset(lookup: (topic: string, partition: number) => Offset | undefined): void {
    this.exportedOffset = lookup
  }

  alarms(): readonly Alarm[] {
    return this.raised.list()
  }

  confirmClock(): void {
    this.clockGuard.confirm()
    this.raised.clear('CLOCK_STEPPED')
  }

  async close(): Promise<void> {
    try {
      await this.registry.close()
      if (this.snapshotter.hasChanges() && this.options.restoring?.isReading !== true) await this.snapshotIfRoom()
    } finally {
      await this.openSegments.close()
      await this.parts.folder.release()
    }
  }

  /** Synchronous up to the writer's queue: two batches of one stream can't overtake each other here. */
  private appendTo(topic: Topic, input: SourcedBatch): Promise<AppendResult> {
    const { source, batch } = input
    if (!this.registry.isUsable(topic)) throw beingDeleted(topic.name)
    const { recordCount } = checkSize(batch)
    const known = this.table.entry(source.streamId)
    if (known !== undefined && known.topic !== topic.name) {
      throw new AppError('INVALID_RECORD', `this stream belongs to topic ${known.topic}, not to ${topic.name}`)
    }
    const acceptance = judge(known?.appended ?? STREAM_BEGIN, source)
    if (acceptance !== 'accept') return answerPosition(acceptance, known)
    const partition = known?.partition ?? partitionOf(Buffer.from(recordKey(source.host, source.path)), topic.partitions.length)
    const log = partitionOfTopic(topic, partition)
    log.checkRoom(batch.length)
    const entry = known ?? this.table.begin(source, { topic: topic.name, partition })
    const pending = log.append(batch, source)
    this.table.advance(entry, { source, recordCount, done: pending.done })
    return pending.done.then((baseOffset) => ({ kind: 'ok', partition, baseOffset }))
  }

  private openPartition(input: { topic: string; partition: number; recovered: RecoveredPartition; limits: () => TopicConfig }): PartitionLog {
    const { topic, partition, recovered } = input
    const log = new PartitionLog(
      {
        system: this.system, topic, partition, limits: input.limits, metrics: this.metrics, openSegments: this.openSegments,
        directory: partitionDirectory(this.parts.folder.paths, topic, partition),
        leaderEpoch: () => this.parts.folder.logEpoch,
        budgets: { partitionBytesMax: this.limits.partitionQueueBytesMax, store: this.budget },
        hooks: {
          committed: (batches) => {
            this.fold(topic, partition, batches)
            this.diskFull.stored()
          },
          rolledBack: (batches) => this.table.rollBack(batches.map(({ source }) => source).filter((source) => source !== undefined)),
          fatal: (error) => {
            this.raised.raise('PARTITION_FAILED', error.message, `${topic}-${partition}`)
            this.options.onFatal?.(error)
          },
        },
      },
      recovered.start,
    )
    if (recovered.damages.length > 0) this.noteDamage(log, recovered.damages)
    return log
  }

  private fold(topic: string, partition: number, batches: readonly CommittedBatch[]): void {
    for (const { header, source, appendMs } of batches) {
      if (source !== undefined) this.table.commit({ topic, partition, header, source, appendMs })
    }
  }

  private noteDamage(log: PartitionLog, ranges: ReadResult['missing']): void {
    for (const { fromOffset, toOffset, reason } of ranges) {
      if (toOffset <= log.logStartOffset) continue
      log.isDamaged = true
      const name = `${log.topic}-${log.partition}`
      const range = { topic: log.topic, partition: log.partition, fromOffset, toOffset }
      this.raised.raise('DATA_DAMAGED', `${name}: offsets ${fromOffset} to ${toOffset - 1}: ${reason}`, `${name}@${fromOffset}`, range)
    }
  }

  private partition(topic: string, partition: number): PartitionLog {
    return partitionOfTopic(this.registry.get(topic), partition)
  }

  private refused(error: unknown): AppError {
    const failure = diskError(error, 'append')
    this.diskFull.failed(failure)
    this.metrics.appendResults.add(1, { result: failure.code })
    return failure
  }
}

/** Throws CORRUPT_MESSAGE unless the buffer is exactly one batch: everything else about it was checked on its way in. */
function checkSize(batch: Buffer): BatchHeader {
  const header = readBatchHeader(batch)
  if (header.sizeBytes !== batch.length) throw new AppError('CORRUPT_MESSAGE', `batch says ${header.sizeBytes} bytes, has ${batch.length}`)
  return header
}

/** Waits until the position that the decision went by is synced: an unsynced one must never leave the collector. */
async function answerPosition(kind: Exclude<Acceptance, 'accept'>, entry: StreamEntry | undefined): Promise<AppendResult> {
  if (entry?.inFlight !== undefined) await entry.inFlight
  const state = entry?.state
  return { kind, position: state?.position ?? toPosition(0), tailHash: state?.tailHash ?? NO_TAIL_HASH }
}
