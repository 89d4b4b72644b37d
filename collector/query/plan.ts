/**
 * Turns what is asked into ranges of offsets, pinned at this moment: a query ends where the log ended when it began.
 */
import { AppError } from '../../shared/errors.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import type { ReadableLog, TopicDescription } from '../storage/topic-log.ts'
import { partitionKey, type Cursor } from './cursor.ts'
import { compileGlobs, isGlob } from './glob.ts'
import { queryLimits } from './query-spec.ts'

export interface PartitionRange {
  readonly topic: string
  readonly partition: number
  /** Where the first admitted record may stand. */
  readonly startOffset: Offset
  /** High watermark when the query began. */
  readonly endOffset: Offset
}

export interface PlanRequest {
  readonly topics: readonly string[]
  readonly partitions: ReadonlySet<number> | undefined
  readonly from: Cursor | undefined
  readonly sinceMs: number | undefined
}

/** In order of topic, then partition: equal keys are merged in this order. Throws UNKNOWN_TOPIC, OFFSET_OUT_OF_RANGE, INVALID_QUERY. */
export async function planRanges(log: ReadableLog, request: PlanRequest): Promise<PartitionRange[]> {
  const partitions = selectPartitions(log, request)
  checkCursor(partitions, request.from)
  const ranges: PartitionRange[] = []
  for (const { topic, partition } of partitions) {
    const { logStartOffset, highWatermark } = log.watermarks(topic, partition)
    const cursor = request.from?.get(partitionKey(topic, partition))
    if (cursor !== undefined && cursor > highWatermark) {
      throw new AppError('OFFSET_OUT_OF_RANGE', `${topic}:${partition} ends at ${highWatermark}, the cursor says ${cursor}`, {
        hint: 'the cursor is of another cluster, or the log was restored from an older state: begin without it',
      })
    }
    // A cursor before the log start stays as it is: reading reports what is gone.
    let startOffset = cursor ?? logStartOffset
    if (request.sinceMs !== undefined && startOffset < highWatermark) {
      startOffset = later(startOffset, await log.offsetForTimestamp(topic, partition, request.sinceMs))
    }
    ranges.push({ topic, partition, startOffset: startOffset > highWatermark ? highWatermark : startOffset, endOffset: highWatermark })
  }
  return ranges
}

/** Throws UNKNOWN_TOPIC for a plain name that does not exist; a glob may find nothing. */
function selectPartitions(log: ReadableLog, request: Pick<PlanRequest, 'topics' | 'partitions'>): { topic: string; partition: number }[] {
  for (const name of request.topics) {
    if (!isGlob(name) && log.topic(name) === undefined) throw unknownTopic(name, log.topics())
  }
  return matchingPartitions(log, request)
}

/** The partitions that there are now. Throws INVALID_QUERY when they are too many. */
export function matchingPartitions(log: ReadableLog, request: Pick<PlanRequest, 'topics' | 'partitions'>): { topic: string; partition: number }[] {
  const isWanted = compileGlobs(request.topics)
  const partitions = log
    .topics()
    .filter(({ name }) => isWanted(name))
    .toSorted((a, b) => compareNames(a.name, b.name))
    .flatMap(({ name, partitions: all }) => all.map(({ partition }) => ({ topic: name, partition })))
    .filter(({ partition }) => request.partitions?.has(partition) ?? true)
  if (partitions.length > queryLimits.partitions) {
    throw new AppError('INVALID_QUERY', `${partitions.length} partitions are over ${queryLimits.partitions}`, { hint: 'name fewer topics' })
  }
  return partitions
}

/** A cursor that says nothing about what is asked would silently read everything. */
function checkCursor(partitions: readonly { topic: string; partition: number }[], cursor: Cursor | undefined): void {
  if (cursor === undefined || cursor.size === 0 || partitions.length === 0) return
  if (partitions.some(({ topic, partition }) => cursor.has(partitionKey(topic, partition)))) return
  throw new AppError('INVALID_QUERY', 'the cursor holds none of the partitions asked for', { hint: 'a cursor reads topic:partition@offset,…' })
}

function unknownTopic(name: string, known: readonly TopicDescription[]): AppError {
  const names = known.slice(0, 5).map((topic) => topic.name)
  return new AppError('UNKNOWN_TOPIC', `there is no topic ${JSON.stringify(name.slice(0, 220))}`, {
    hint: names.length === 0 ? 'there are no topics yet' : `topics here: ${names.join(', ')}${known.length > names.length ? ', …' : ''}`,
  })
}

function later(a: Offset, b: Offset): Offset {
  return toOffset(Math.max(a, b))
}

/** By code units: the same everywhere, whatever the locale. */
function compareNames(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
