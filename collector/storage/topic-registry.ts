/**
 * The topics of a running store: found by name, made, altered and deleted, one change at a time. A change is durable
 * when it resolves; what a crash interrupts is finished or gone at the next start.
 */
import { AppError } from '../../shared/errors.ts'
import type { System } from '../../shared/system.ts'
import { toOffset } from '../../shared/types.ts'
import { checkTopicName } from '../../shared/wire.ts'
import { diskError } from './disk.ts'
import { Mutex } from './mutex.ts'
import type { PartitionLog } from './partition-log.ts'
import type { RecoveredPartition } from './recovery.ts'
import type { FoldedPartition } from './stream-snapshot.ts'
import type { MemoryStreamTable } from './stream-table.ts'
import { checkNotFewer, mergeTopicConfig, overridesOf } from './topic-config.ts'
import { writeTopicFile, type TopicFile } from './topic-files.ts'
import { recoverAll, removeTopicFolders, unknownTopic, type LoadingContext } from './topic-loading.ts'
import type { TopicConfig } from './topic-log.ts'
import type { Topic } from './topic.ts'

const RETRY_AFTER_MS = 1000
const UNREADABLE_RETRY_MS = 30_000

export interface RegistryOptions {
  readonly system: Pick<System, 'fs' | 'log'>
  readonly context: LoadingContext
  readonly table: MemoryStreamTable
  readonly openPartition: (topic: string, partition: number, recovered: RecoveredPartition, limits: () => TopicConfig) => PartitionLog
  readonly writeSnapshot: () => Promise<void>
}

export class TopicRegistry {
  private readonly options: RegistryOptions
  private readonly changes = new Mutex()
  private readonly topics = new Map<string, Topic>()
  private readonly tombstones = new Map<string, TopicFile>()
  /** Topics whose settings file can't be read: it may be a tombstone. */
  private readonly unreadable = new Set<string>()
  private readonly creating = new Map<string, Promise<Topic>>()
  private readonly deleting = new Set<string>()
  private isClosed = false

  constructor(options: RegistryOptions) {
    this.options = options
  }

  /** In order of name. */
  all(): readonly Topic[] {
    return [...this.topics.keys()].sort().map((name) => this.get(name))
  }

  find(name: string): Topic | undefined {
    return this.topics.get(name)
  }

  /** Throws UNKNOWN_TOPIC. */
  get(name: string): Topic {
    const topic = this.topics.get(name)
    if (topic === undefined) throw unknownTopic(name)
    return topic
  }

  partitions(): readonly PartitionLog[] {
    return [...this.topics.values()].flatMap((topic) => topic.partitions)
  }

  /** Ends of deleted topics, for the snapshots: their streams' positions stay valid. */
  deletedEnds(): readonly FoldedPartition[] {
    return [...this.tombstones.values()].flatMap(({ topic, startOffsets }) => startOffsets.map((nextOffset, partition) => ({ topic, partition, nextOffset })))
  }

  adopt(file: TopicFile, recovered: readonly RecoveredPartition[]): Topic {
    const { overrides, startOffsets } = file
    const config = mergeTopicConfig(this.options.context.defaults, { ...overrides, partitions: file.partitions })
    const topic: Topic = { name: file.topic, overrides, config, partitions: [], startOffsets }
    topic.partitions = recovered.map((partition, number) => this.options.openPartition(file.topic, number, partition, () => topic.config))
    this.topics.set(file.topic, topic)
    return topic
  }

  adoptUnreadable(topics: readonly string[]): void {
    for (const topic of topics) this.unreadable.add(topic)
  }

  adoptTombstone(file: TopicFile): void {
    this.tombstones.set(file.topic, file)
  }

  /** Makes the topic on first use; throws UNAVAILABLE while it is being deleted. */
  ensure(name: string): Promise<Topic> {
    const known = this.topics.get(name)
    if (known !== undefined) return this.deleting.has(name) ? Promise.reject(beingDeleted(name)) : Promise.resolve(known)
    const running = this.creating.get(name)
    if (running !== undefined) return running
    const making = this.changes.run(async () => this.topics.get(name) ?? (await this.make(name, {}))).finally(() => this.creating.delete(name))
    this.creating.set(name, making)
    return making
  }

  isUsable(topic: Topic): boolean {
    return !this.isClosed && !this.deleting.has(topic.name)
  }

  create(name: string, config: Partial<TopicConfig>): Promise<Topic> {
    return this.changes.run(async () => {
      if (this.topics.has(name)) throw new AppError('TOPIC_EXISTS', `topic ${name} exists`)
      return this.make(name, config)
    })
  }

  alter(name: string, changes: Partial<TopicConfig>): Promise<Topic> {
    return this.changes.run(async () => {
      const topic = this.get(name)
      const config = mergeTopicConfig(topic.config, changes)
      const overrides = { ...topic.overrides, ...overridesOf(changes) }
      checkNotFewer(config, topic.partitions.length)
      const startOffsets = Array.from({ length: config.partitions }, (_none, partition) => topic.startOffsets[partition] ?? toOffset(0))
      const file: TopicFile = { topic: name, state: 'live', partitions: config.partitions, overrides, startOffsets }
      try {
        const used = topic.partitions.length
        const added = await recoverAll({ ...this.options.context, snapshots: [] }, file, used)
        await writeTopicFile(this.options.system.fs, this.options.context.paths.topics, file)
        const opened = added.map((recovered, index) => this.options.openPartition(name, used + index, recovered, () => topic.config))
        topic.partitions = [...topic.partitions, ...opened]
      } catch (error) {
        throw diskError(error, `alter topic ${name}`)
      }
      topic.overrides = overrides
      topic.config = config
      topic.startOffsets = startOffsets
      return topic
    })
  }

  /** Leaves a tombstone: a topic made again goes on at these offsets, and its streams' positions are kept. */
  delete(name: string): Promise<void> {
    return this.changes.run(async () => {
      const topic = this.get(name)
      this.deleting.add(name)
      try {
        for (const log of topic.partitions) await log.flush()
        this.options.table.closeTopic(name)
        await this.options.writeSnapshot()
        const startOffsets = topic.partitions.map((log) => log.highWatermark)
        const tombstone: TopicFile = { topic: name, state: 'deleted', partitions: topic.partitions.length, overrides: {}, startOffsets }
        await writeTopicFile(this.options.system.fs, this.options.context.paths.topics, tombstone)
        this.tombstones.set(name, tombstone)
        this.topics.delete(name)
        for (const log of topic.partitions) await log.close()
        await removeTopicFolders(this.options.context, name)
      } catch (error) {
        throw diskError(error, `delete topic ${name}`)
      } finally {
        this.deleting.delete(name)
      }
    })
  }

  /** Finishes what is queued and closes every partition; the first error is thrown once all are tried. */
  async close(): Promise<void> {
    this.isClosed = true
    await this.changes.run(async () => {
      const outcomes = await Promise.allSettled(this.partitions().map((log) => log.close()))
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw diskError(outcome.reason, 'close a partition')
    })
  }

  private async make(name: string, changes: Partial<TopicConfig>): Promise<Topic> {
    checkTopicName(name)
    if (this.isClosed) throw new AppError('UNAVAILABLE', 'the collector is shutting down', { retryAfterMs: RETRY_AFTER_MS })
    if (this.unreadable.has(name)) throw unreadableTopic(name)
    const tombstone = this.tombstones.get(name)
    const used = tombstone?.startOffsets.length ?? 0
    const wanted = mergeTopicConfig(this.options.context.defaults, changes)
    if (changes.partitions !== undefined) checkNotFewer(wanted, used)
    const partitions = Math.max(wanted.partitions, used)
    const startOffsets = Array.from({ length: partitions }, (_none, partition) => tombstone?.startOffsets[partition] ?? toOffset(0))
    const file: TopicFile = { topic: name, state: 'live', partitions, overrides: overridesOf(changes), startOffsets }
    try {
      // A deletion that met an error may have left folders behind; the tombstone says that they count for nothing.
      if (tombstone !== undefined) await removeTopicFolders(this.options.context, name)
      const recovered = await recoverAll({ ...this.options.context, snapshots: [] }, file)
      await writeTopicFile(this.options.system.fs, this.options.context.paths.topics, file)
      this.tombstones.delete(name)
      this.options.system.log.info('topic made', { topic: name, partitions })
      return this.adopt(file, recovered)
    } catch (error) {
      throw diskError(error, `make topic ${name}`)
    }
  }
}

/** Retryable, so that agents keep the lines until somebody has looked. */
function unreadableTopic(name: string): AppError {
  return new AppError('UNAVAILABLE', `the settings file of topic ${name} can't be read, and if the topic was deleted, nothing else says at which offsets it goes on`, {
    retryAfterMs: UNREADABLE_RETRY_MS,
    hint: `bring <data>/topics/${name}.json back from a backup and start again; only if the topic was never used before may the file be removed`,
  })
}

export function beingDeleted(name: string): AppError {
  return new AppError('UNAVAILABLE', `topic ${name} is being deleted, or the collector is shutting down`, { retryAfterMs: RETRY_AFTER_MS })
}
