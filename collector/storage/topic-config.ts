/**
 * A topic's settings. What a topic does not say itself follows the collector's defaults, also when those change later;
 * only the partition count is fixed when the topic is made.
 */
import { AppError } from '../../shared/errors.ts'
import { SEGMENT_BYTES_LIMIT } from './policy.ts'
import type { TopicConfig } from './topic-log.ts'

/** Each partition keeps two files open and has a writer of its own. */
const PARTITIONS_MAX = 1024
const SEGMENT_BYTES_MIN = 1024

/** What a topic says itself. A key that is there but undefined means "unlimited" where that is possible. */
export type TopicOverrides = Partial<Omit<TopicConfig, 'partitions'>>

export function overridesOf(changes: Partial<TopicConfig>): TopicOverrides {
  const { partitions: _partitions, ...overrides } = changes
  return overrides
}

/** Throws INVALID_PARTITIONS or INVALID_CONFIG. Keys that are there but undefined mean "unlimited" where that is possible. */
export function mergeTopicConfig(base: TopicConfig, changes: Partial<TopicConfig>): TopicConfig {
  const merged: TopicConfig = {
    partitions: changes.partitions ?? base.partitions,
    segmentBytes: changes.segmentBytes ?? base.segmentBytes,
    segmentAgeMs: changes.segmentAgeMs ?? base.segmentAgeMs,
    retentionBytes: 'retentionBytes' in changes ? changes.retentionBytes : base.retentionBytes,
    retentionAgeMs: 'retentionAgeMs' in changes ? changes.retentionAgeMs : base.retentionAgeMs,
  }
  if (!isCount(merged.partitions, 1) || merged.partitions > PARTITIONS_MAX) {
    throw new AppError('INVALID_PARTITIONS', `${merged.partitions} partitions, 1 to ${PARTITIONS_MAX} are possible`)
  }
  if (!isCount(merged.segmentBytes, SEGMENT_BYTES_MIN) || merged.segmentBytes > SEGMENT_BYTES_LIMIT) {
    throw new AppError('INVALID_CONFIG', `segmentBytes ${merged.segmentBytes}, ${SEGMENT_BYTES_MIN} to ${SEGMENT_BYTES_LIMIT} are possible`)
  }
  if (!isCount(merged.segmentAgeMs, 1)) throw new AppError('INVALID_CONFIG', `segmentAge ${merged.segmentAgeMs} is not above 0`)
  for (const [key, value] of [['retentionBytes', merged.retentionBytes], ['retentionAge', merged.retentionAgeMs]] as const) {
    if (value !== undefined && !isCount(value, 0)) throw new AppError('INVALID_CONFIG', `${key} ${value} is not a whole number from 0 on`)
  }
  return merged
}

/** Throws INVALID_PARTITIONS: streams stay where they are, so a partition that may hold some can't go. */
export function checkNotFewer(config: TopicConfig, used: number): void {
  if (config.partitions >= used) return
  throw new AppError('INVALID_PARTITIONS', `${used} partitions are in use, fewer than that are not possible`, {
    hint: 'make a new topic with fewer partitions',
  })
}

function isCount(value: number, min: number): boolean {
  return Number.isSafeInteger(value) && value >= min
}
