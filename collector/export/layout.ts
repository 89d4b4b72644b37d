/**
 * Every name on the store, formatted and parsed here and nowhere else. Paths are relative to the store's root and hold
 * only [A-Za-z0-9._=-] and slashes: other characters have a bad history in WebHDFS. Sealed segments never change, so
 * final names are deterministic: whoever repeats an export meets its own names again.
 *
 * | path | what |
 * |---|---|
 * | `raw/<topic>/p=<partition>/<base20>-<next20>-<epoch>.log` … | one sealed segment: four files, the manifest last |
 * | `_tmp/<partition>-<base20>-<nonce>.<kind>` | uploads that are not verified yet: never data |
 * | `_tmp/check-<nonce>.probe` | a probe of `check-export` |
 * | `_owner/<boot10>-<sequence10>.json` | who writes here: owner.ts |
 * | `_quarantine/<topic>/p=<partition>/<name>.<nonce>` | what stood under a name of ours and was not ours |
 *
 * Hive, Spark and MapReduce ignore names that begin with `_`.
 */
import { checkTopicName, isTopicName } from '../../shared/wire.ts'
import { toOffset, type Offset } from '../../shared/types.ts'

export const TEMP_DIRECTORY = '_tmp'
export const OWNER_DIRECTORY = '_owner'
const QUARANTINE_DIRECTORY = '_quarantine'
export const RAW_DIRECTORY = 'raw'

/** In the order of upload: a manifest under its final name says that the other three are whole. */
export const segmentFileKinds = ['log', 'index', 'timeindex', 'manifest.json'] as const
export type SegmentFileKind = (typeof segmentFileKinds)[number]

/** Which sealed segment, under which log epoch it was first exported. */
export interface SegmentKey {
  readonly topic: string
  readonly partition: number
  readonly baseOffset: Offset
  readonly nextOffset: Offset
  readonly epoch: number
}

const PARTITION_MAX = 1_000_000
const segmentFilePattern = /^(\d{20})-(\d{20})-(\d{1,10})\.(log|index|timeindex|manifest\.json)$/
const ownerPattern = /^(\d{10})-(\d{10})\.json$/

function twenty(offset: number): string {
  return String(offset).padStart(20, '0')
}

export function partitionDirectory(topic: string, partition: number): string {
  return `${RAW_DIRECTORY}/${checkTopicName(topic)}/p=${partition}`
}

/** The inverse; undefined for every path that it would never make. */
export function parsePartitionDirectory(path: string): { readonly topic: string; readonly partition: number } | undefined {
  const [raw, topic = '', directory = '', ...rest] = path.split('/')
  const partition = /^p=(\d{1,7})$/.exec(directory)?.[1]
  if (raw !== RAW_DIRECTORY || rest.length > 0 || !isTopicName(topic) || partition === undefined || Number(partition) > PARTITION_MAX) return undefined
  return partitionDirectory(topic, Number(partition)) === path ? { topic, partition: Number(partition) } : undefined
}

/** `<base20>-<next20>-<epoch>`: what the files of one segment share. */
export function segmentName(key: SegmentKey): string {
  return `${twenty(key.baseOffset)}-${twenty(key.nextOffset)}-${key.epoch}`
}

export function segmentPath(key: SegmentKey, kind: SegmentFileKind): string {
  return `${partitionDirectory(key.topic, key.partition)}/${segmentName(key)}.${kind}`
}

/** The inverse of `segmentPath`; undefined for every path that it would never make. */
export function parseSegmentPath(path: string): { readonly key: SegmentKey; readonly kind: SegmentFileKind } | undefined {
  const [raw, topic = '', directory = '', file = '', ...rest] = path.split('/')
  if (raw !== RAW_DIRECTORY || rest.length > 0 || !isTopicName(topic)) return undefined
  const partition = /^p=(\d{1,7})$/.exec(directory)?.[1]
  const [, base, next, epoch, kindText] = segmentFilePattern.exec(file) ?? []
  const kind = segmentFileKinds.find((each) => each === kindText)
  if (partition === undefined || base === undefined || next === undefined || epoch === undefined || kind === undefined) return undefined
  if (Number(partition) > PARTITION_MAX || !Number.isSafeInteger(Number(next)) || Number(base) > Number(next)) return undefined
  const key = { topic, partition: Number(partition), baseOffset: toOffset(Number(base)), nextOffset: toOffset(Number(next)), epoch: Number(epoch) }
  return segmentPath(key, kind) === path ? { key, kind } : undefined
}

/** Fresh per attempt: an upload that failed may be finished later by nobody but itself. The topic stays out: names end at 255 bytes. */
export function tempPath(key: SegmentKey, kind: SegmentFileKind, nonce: string): string {
  return `${TEMP_DIRECTORY}/${key.partition}-${twenty(key.baseOffset)}-${nonce}.${kind}`
}

/** For `check-export`; swept as any other temp file should it stay behind. */
export function probePath(nonce: string): string {
  return `${TEMP_DIRECTORY}/check-${nonce}.probe`
}

export function quarantineDirectory(key: SegmentKey): string {
  return `${QUARANTINE_DIRECTORY}/${checkTopicName(key.topic)}/p=${key.partition}`
}

export function quarantinePath(key: SegmentKey, kind: SegmentFileKind, nonce: string): string {
  return `${quarantineDirectory(key)}/${segmentName(key)}.${kind}.${nonce}`
}

export interface OwnerName {
  readonly boot: number
  readonly sequence: number
}

/** Sorted by name they are sorted by age: boot count first, then the updates of that boot. */
export function ownerFileName(owner: OwnerName): string {
  return `${String(owner.boot).padStart(10, '0')}-${String(owner.sequence).padStart(10, '0')}.json`
}

export function ownerPath(owner: OwnerName): string {
  return `${OWNER_DIRECTORY}/${ownerFileName(owner)}`
}

export function parseOwnerName(name: string): OwnerName | undefined {
  const [, boot, sequence] = ownerPattern.exec(name) ?? []
  return boot === undefined || sequence === undefined ? undefined : { boot: Number(boot), sequence: Number(sequence) }
}

/** Local file that holds a segment's manifest from `encoded` until `recorded`. */
export function localManifestName(key: SegmentKey): string {
  return `${checkTopicName(key.topic)}-${key.partition}-${twenty(key.baseOffset)}.manifest.json`
}
