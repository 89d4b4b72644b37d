/**
 * Every name that the collector's storage puts on disk, formatted and parsed here and nowhere else. Names that parse to
 * nothing are not ours: they are left alone.
 */
import { isTopicName } from '../../shared/wire.ts'
import { toOffset, type Offset } from '../../shared/types.ts'

export type SegmentSuffix = '.log' | '.index' | '.timeindex' | '.meta'
/** `torn`: bytes of a tail that was never synced. `damaged`: bytes around a hole in synced data. */
export type AsideKind = 'torn' | 'damaged'

const BASE_DIGITS = 20
const OFFSET_LENGTH_MAX = 16
const PARTITION_DIGITS_MAX = 6

export const COLLECTOR_FILE_NAME = 'collector.json'
export const RECOVERY_POINT_NAME = 'recovery-point'
/** There while a restore replaces parts of the folder: no collector starts beside it. */
export const RESTORE_FILE_NAME = 'restore.json'
/** What a restore is about to put in place of the name without this ending. */
export const RESTORED_SUFFIX = '.restored'
/** Files with this ending are half made: whoever opens the folder removes them. */
export const UNFINISHED_SUFFIX = '.unfinished'

export interface DataPaths {
  readonly root: string
  readonly collectorFile: string
  readonly restoreFile: string
  readonly lock: string
  readonly topics: string
  readonly streams: string
}

export function dataPaths(dataDir: string): DataPaths {
  return {
    root: dataDir,
    collectorFile: `${dataDir}/${COLLECTOR_FILE_NAME}`,
    restoreFile: `${dataDir}/${RESTORE_FILE_NAME}`,
    lock: `${dataDir}/lock`,
    topics: `${dataDir}/topics`,
    streams: `${dataDir}/streams`,
  }
}

export function segmentName(baseOffset: Offset, suffix: SegmentSuffix): string {
  return String(baseOffset).padStart(BASE_DIGITS, '0') + suffix
}

export function parseSegmentName(name: string): { baseOffset: Offset; suffix: SegmentSuffix } | undefined {
  const match = /^([0-9]{20})(\.log|\.index|\.timeindex|\.meta)$/.exec(name)
  const baseOffset = parseOffset(match?.[1])
  const suffix = match?.[2]
  if (baseOffset === undefined || !isSegmentSuffix(suffix)) return undefined
  return { baseOffset, suffix }
}

/** Names of a segment's files, the log first. */
export function segmentFiles(baseOffset: Offset): Record<'log' | 'index' | 'timeIndex' | 'meta', string> {
  return {
    log: segmentName(baseOffset, '.log'),
    index: segmentName(baseOffset, '.index'),
    timeIndex: segmentName(baseOffset, '.timeindex'),
    meta: segmentName(baseOffset, '.meta'),
  }
}

export function partitionDirectoryName(topic: string, partition: number): string {
  return `${topic}-${partition}`
}

/** A topic may itself end in `-3`: the partition is what stands behind the last dash. */
export function parsePartitionDirectoryName(name: string): { topic: string; partition: number } | undefined {
  const dash = name.lastIndexOf('-')
  const topic = name.slice(0, Math.max(0, dash))
  const digits = name.slice(dash + 1)
  if (dash < 1 || digits.length > PARTITION_DIGITS_MAX || !/^(0|[1-9][0-9]*)$/.test(digits) || !isTopicName(topic)) return undefined
  return { topic, partition: Number(digits) }
}

export function topicFileName(topic: string): string {
  return `${topic}.json`
}

export function parseTopicFileName(name: string): string | undefined {
  if (!name.endsWith('.json')) return undefined
  const topic = name.slice(0, -'.json'.length)
  return isTopicName(topic) ? topic : undefined
}

export function snapshotName(number: number): string {
  return `${number}.snapshot`
}

export function parseSnapshotName(name: string): number | undefined {
  const match = /^([1-9][0-9]{0,14})\.snapshot$/.exec(name)
  return match === null ? undefined : Number(match[1])
}

/** The checksum keeps two different tails at one place apart, and makes a repeated recovery write the same name. */
export function asideName(aside: { baseOffset: Offset; position: number; crc: number; kind: AsideKind }): string {
  const base = String(aside.baseOffset).padStart(BASE_DIGITS, '0')
  return `${base}-${String(aside.position).padStart(10, '0')}-${aside.crc.toString(16).padStart(8, '0')}.${aside.kind}`
}

export function isTornName(name: string): boolean {
  return /^[0-9]{20}-[0-9]{10}-[0-9a-f]{8}\.torn$/.test(name)
}

/** What a restore has taken out of the place of `name`. */
export function setAsideName(name: string, number: number): string {
  return `${name}.aside${number}`
}

export function parseSetAsideName(name: string): { name: string; number: number } | undefined {
  const match = /^(.+)\.aside([1-9][0-9]{0,8})$/.exec(name)
  return match?.[1] === undefined ? undefined : { name: match[1], number: Number(match[2]) }
}

function parseOffset(digits: string | undefined): Offset | undefined {
  if (digits === undefined || !digits.startsWith('0'.repeat(BASE_DIGITS - OFFSET_LENGTH_MAX))) return undefined
  const value = Number(digits)
  return Number.isSafeInteger(value) ? toOffset(value) : undefined
}

function isSegmentSuffix(suffix: string | undefined): suffix is SegmentSuffix {
  return suffix === '.log' || suffix === '.index' || suffix === '.timeindex' || suffix === '.meta'
}
