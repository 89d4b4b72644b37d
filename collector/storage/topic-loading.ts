/**
 * Opens every topic that is on disk: settings, tombstones, partitions. What a missing or bad settings file leaves in
 * doubt is served with default settings, never dropped.
 */
import { AppError } from '../../shared/errors.ts'
import type { FileSystem, System } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import type { Zstd } from '../../shared/zstd.ts'
import { diskError } from './disk.ts'
import { partitionDirectoryName, parsePartitionDirectoryName, parseSegmentName, type DataPaths } from './filenames.ts'
import { recoverPartition, type RecoveredPartition } from './recovery.ts'
import type { FoldBase } from './recovery-scan.ts'
import type { Snapshot } from './stream-snapshot.ts'
import { loadTopicFiles, type TopicFile } from './topic-files.ts'
import type { StreamState, TopicConfig } from './topic-log.ts'

/** Partitions that recover at the same time. */
const RECOVERIES_MAX = 4

export interface LoadingContext {
  readonly system: Pick<System, 'fs' | 'log'>
  readonly paths: DataPaths
  readonly zstd: Zstd
  readonly contentBytesMax: number
  readonly defaults: TopicConfig
  readonly acceptDuplicates: boolean
  /** Newest first. */
  readonly snapshots: readonly SnapshotByPartition[]
}

/** A snapshot, by partition folder name. */
export type SnapshotByPartition = ReadonlyMap<string, FoldBase>

export function groupByPartition(snapshot: Snapshot): SnapshotByPartition {
  const grouped = new Map<string, { nextOffset: Offset; streams: StreamState[] }>()
  for (const { topic, partition, nextOffset } of snapshot.partitions) {
    grouped.set(partitionDirectoryName(topic, partition), { nextOffset, streams: [] })
  }
  for (const state of snapshot.streams) {
    const key = partitionDirectoryName(state.topic, state.partition)
    const base = grouped.get(key) ?? { nextOffset: toOffset(0), streams: [] }
    grouped.set(key, base)
    base.streams.push(state)
  }
  return grouped
}

export interface LoadedTopic {
  readonly file: TopicFile
  readonly partitions: readonly RecoveredPartition[]
}

export interface LoadedTopics {
  readonly topics: readonly LoadedTopic[]
  readonly tombstones: readonly TopicFile[]
  /** Settings files that could not be read, and why. */
  readonly bad: readonly string[]
  /** Topics of such files that hold no records: what the file said, a tombstone perhaps, nothing else says. */
  readonly unreadable: readonly string[]
}

export async function loadTopics(context: LoadingContext): Promise<LoadedTopics> {
  const { files, bad: badFiles } = await loadTopicFiles(context.system.fs, context.paths.topics)
  const bad = badFiles.map(({ reason }) => reason)
  const used = await usedPartitions(context)
  for (const file of files) if (file.state === 'deleted') await removeTopicFolders(context, file.topic)
  const live = files.filter((file) => file.state === 'live').map((file) => withUsed(file, used.get(file.topic) ?? 0))
  const named = new Set(files.map((file) => file.topic))
  for (const [topic, count] of used) {
    if (named.has(topic)) continue
    live.push(withUsed({ topic, state: 'live', partitions: context.defaults.partitions, overrides: {}, startOffsets: [] }, count))
    const isThere = badFiles.some((file) => file.topic === topic)
    bad.push(isThere ? `${topic}: defaults are used` : `${topic}: its settings file is missing, defaults are used`)
  }
  const topics: LoadedTopic[] = []
  for (const file of live) topics.push({ file, partitions: await recoverAll(context, file) })
  const unreadable = badFiles.map(({ topic }) => topic).filter((topic) => !used.has(topic))
  return { topics, tombstones: files.filter((file) => file.state === 'deleted'), bad, unreadable }
}

/** Also for topics that are being made: with folders that are not there yet this creates them. */
export async function recoverAll(context: LoadingContext, file: TopicFile, from = 0): Promise<RecoveredPartition[]> {
  const numbers = Array.from({ length: file.partitions - from }, (_none, index) => from + index)
  const recovered: RecoveredPartition[] = []
  try {
    for (let at = 0; at < numbers.length; at += RECOVERIES_MAX) {
      const step = numbers.slice(at, at + RECOVERIES_MAX).map((partition) => recoverOne(context, file, partition))
      const settled = await Promise.allSettled(step)
      for (const outcome of settled) if (outcome.status === 'fulfilled') recovered.push(outcome.value)
      for (const outcome of settled) if (outcome.status === 'rejected') throw diskError(outcome.reason, 'recover a partition')
    }
  } catch (error) {
    await closeRecovered(recovered)
    throw error
  }
  await context.system.fs.syncDirectory(context.paths.topics)
  return recovered
}

async function closeRecovered(partitions: readonly RecoveredPartition[]): Promise<void> {
  for (const { start } of partitions) {
    await start.active.handle.retire()
    await start.recoveryPoint.close()
  }
}

export function partitionDirectory(paths: DataPaths, topic: string, partition: number): string {
  return `${paths.topics}/${partitionDirectoryName(topic, partition)}`
}

/** Removes the folders of a deleted topic, and what is in them. */
export async function removeTopicFolders({ system, paths }: Pick<LoadingContext, 'system' | 'paths'>, topic: string): Promise<void> {
  const { fs } = system
  for (const { name, kind } of await fs.list(paths.topics)) {
    if (kind !== 'directory' || parsePartitionDirectoryName(name)?.topic !== topic) continue
    const directory = `${paths.topics}/${name}`
    for (const entry of await fs.list(directory)) await fs.remove(`${directory}/${entry.name}`)
    await fs.removeDirectory(directory)
  }
  await fs.syncDirectory(paths.topics)
}

function recoverOne(context: LoadingContext, file: TopicFile, partition: number): Promise<RecoveredPartition> {
  const { system, zstd, contentBytesMax, acceptDuplicates } = context
  const { topic } = file
  return recoverPartition({
    system, zstd, contentBytesMax, acceptDuplicates, topic, partition,
    directory: partitionDirectory(context.paths, topic, partition),
    startOffset: file.startOffsets[partition] ?? toOffset(0),
    // A snapshot that does not name the partition is from before it began.
    bases: context.snapshots.map((snapshot) => snapshot.get(partitionDirectoryName(topic, partition)) ?? { nextOffset: toOffset(0), streams: [] }),
  })
}

function withUsed(file: TopicFile, used: number): TopicFile {
  return file.partitions >= used ? file : { ...file, partitions: used }
}

/** By topic, one more than the highest partition whose folder holds data. */
async function usedPartitions({ system, paths }: LoadingContext): Promise<Map<string, number>> {
  const used = new Map<string, number>()
  for (const { name, kind } of await system.fs.list(paths.topics)) {
    const parsed = kind === 'directory' ? parsePartitionDirectoryName(name) : undefined
    if (parsed === undefined || !(await holdsData(system.fs, `${paths.topics}/${name}`))) continue
    used.set(parsed.topic, Math.max(used.get(parsed.topic) ?? 0, parsed.partition + 1))
  }
  return used
}

async function holdsData(fs: FileSystem, directory: string): Promise<boolean> {
  for (const { name } of await fs.list(directory)) {
    if (parseSegmentName(name)?.suffix !== '.log') continue
    if (((await fs.stat(`${directory}/${name}`))?.size ?? 0) > 0) return true
  }
  return false
}

export function unknownTopic(topic: string): AppError {
  return new AppError('UNKNOWN_TOPIC', `there is no topic ${JSON.stringify(topic)}`, { hint: 'tailrace topics lists them' })
}
