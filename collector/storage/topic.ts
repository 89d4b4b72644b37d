/** A topic as the running store holds it. Settings change; partitions are only ever added. */
import { AppError } from '../../shared/errors.ts'
import { partitionDirectoryName, segmentFiles } from './filenames.ts'
import type { PartitionLog } from './partition-log.ts'
import { maxTimestampOf, nextOffsetOf, type Segment } from './segment.ts'
import type { PartitionInfo, SegmentInfo, TopicConfig, TopicDescription } from './topic-log.ts'
import type { TopicOverrides } from './topic-config.ts'
import type { Offset } from '../../shared/types.ts'

export interface Topic {
  readonly name: string
  /** What the settings file says, and what follows from it with the collector's defaults. */
  overrides: TopicOverrides
  config: TopicConfig
  partitions: readonly PartitionLog[]
  /** Where each partition began, for the settings file. */
  startOffsets: readonly Offset[]
}

/** Throws INVALID_PARTITIONS. */
export function partitionOfTopic(topic: Topic, partition: number): PartitionLog {
  const found = topic.partitions[partition]
  if (found !== undefined) return found
  throw new AppError('INVALID_PARTITIONS', `${topic.name} has ${topic.partitions.length} partitions, there is no ${partition}`)
}

export function describeTopic(topic: Topic): TopicDescription {
  return { name: topic.name, config: topic.config, partitions: topic.partitions.map(describePartition) }
}

export function describePartition(log: PartitionLog): PartitionInfo {
  const segments = log.segments()
  const times = segments.filter((segment) => segment.sizeBytes > 0)
  return {
    partition: log.partition,
    logStartOffset: log.logStartOffset,
    localLogStartOffset: log.logStartOffset,
    highWatermark: log.highWatermark,
    logEndOffset: log.logEndOffset,
    sizeBytes: log.sizeBytes(),
    segmentCount: segments.length,
    firstAppendMs: times[0]?.firstAppendMs,
    lastAppendMs: times.at(-1)?.lastAppendMs,
    state: log.isFailed ? 'failed' : log.isDamaged ? 'damaged' : 'ok',
  }
}

export function describeSegment(log: PartitionLog, segment: Segment): SegmentInfo {
  const names = segmentFiles(segment.baseOffset)
  const at = (name: string): string => `${log.directory}/${name}`
  const isEmpty = segment.sizeBytes === 0
  return {
    topic: log.topic,
    partition: log.partition,
    baseOffset: segment.baseOffset,
    nextOffset: nextOffsetOf(segment),
    sizeBytes: segment.sizeBytes,
    isSealed: segment.kind === 'sealed',
    firstAppendMs: isEmpty ? undefined : segment.firstAppendMs,
    lastAppendMs: isEmpty ? undefined : segment.lastAppendMs,
    maxTimestampMs: maxTimestampOf(segment),
    files: { log: at(names.log), index: at(names.index), timeIndex: at(names.timeIndex), meta: at(names.meta) },
  }
}

export function partitionKey(log: { readonly topic: string; readonly partition: number }): string {
  return partitionDirectoryName(log.topic, log.partition)
}
