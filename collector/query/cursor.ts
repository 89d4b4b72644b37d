/**
 * A cursor: the next offset of each partition, as text `topic:partition@offset,…`. Never a timestamp: offsets are exact,
 * resumable, and the same for everybody.
 */
import { AppError } from '../../shared/errors.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import { isTopicName } from '../../shared/wire.ts'
import { queryLimits } from './query-spec.ts'

/** Keys are those of `partitionKey`. */
export type Cursor = ReadonlyMap<string, Offset>

export interface CursorEntry {
  readonly topic: string
  readonly partition: number
  readonly offset: number
}

export function partitionKey(topic: string, partition: number): string {
  return `${topic}:${partition}`
}

export function formatCursor(entries: Iterable<CursorEntry>): string {
  const parts: string[] = []
  for (const { topic, partition, offset } of entries) parts.push(`${topic}:${partition}@${offset}`)
  return parts.join(',')
}

/** Throws INVALID_QUERY. An empty text is an empty cursor. */
export function parseCursor(text: string): Cursor {
  const cursor = new Map<string, Offset>()
  if (text === '') return cursor
  if (text.length > queryLimits.cursorBytes) throw invalid(`a cursor of ${text.length} characters is over ${queryLimits.cursorBytes}`)
  const entries = text.split(',')
  if (entries.length > queryLimits.partitions) throw invalid(`a cursor of ${entries.length} partitions is over ${queryLimits.partitions}`)
  for (const entry of entries) {
    const match = /^([^:@]+):([0-9]{1,6})@([0-9]{1,16})$/.exec(entry)
    const [, topic = '', partition = '', offset = ''] = match ?? []
    if (match === null || !isTopicName(topic) || !Number.isSafeInteger(Number(offset))) {
      throw invalid(`${JSON.stringify(entry.slice(0, 240))} is not topic:partition@offset`)
    }
    const key = partitionKey(topic, Number(partition))
    if (cursor.has(key)) throw invalid(`${key} stands twice in the cursor`)
    cursor.set(key, toOffset(Number(offset)))
  }
  return cursor
}

function invalid(message: string): AppError {
  return new AppError('INVALID_QUERY', message, { hint: 'a cursor reads topic:partition@offset,…' })
}
