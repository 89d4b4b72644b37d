/**
 * The newest n matches of all partitions, oldest first: found by scanning backward, so that the last hundred lines of a
 * terabyte cost a few batches. What was found is kept while it is small; where it is not, or where context is wanted, only
 * the place of the oldest one per partition is kept, and the answer is read from there.
 */
import { toOffset } from '../../shared/types.ts'
import { AnswerRows } from './answer-rows.ts'
import { rowText } from './context-lines.ts'
import { mergePages } from './merge.ts'
import type { PartitionRange } from './plan.ts'
import { pageSources, wholeRange, type QueryRun } from './query-run.ts'
import type { ScanRange } from './unit-reader.ts'
import { windowStart } from './window-start.ts'

const KEPT_BYTES_MAX = 16 * 1024 * 1024
const PIECE_ROWS = 512
/** How far before the first match its leading context is looked for, in stored bytes. */
const WARM_UP_BYTES = 1024 * 1024

export interface NewestMatches {
  /** Per range: where the oldest of them stands; the range's end where there is none. */
  readonly starts: readonly number[]
  readonly matched: number
  /** Newest first; undefined when they were too large to keep. */
  readonly rows: readonly Uint8Array[] | undefined
  /** There may be older matches. */
  readonly isTruncated: boolean
}

export async function findNewest(run: QueryRun, count: number, options: { keepRows: boolean }): Promise<NewestMatches> {
  const starts: number[] = run.ranges.map(({ endOffset }) => endOffset)
  const withoutContext = { ...run, filters: { ...run.filters, before: 0, after: 0 } }
  const want = options.keepRows ? 'rows' : 'keys'
  let rows: Uint8Array[] | undefined = options.keepRows ? [] : undefined
  let keptBytes = 0
  let matched = 0
  const sources = pageSources(withoutContext, run.ranges.map(wholeRange), { want, direction: 'backward', limit: count })
  for await (const { page, source, from, to } of mergePages(sources, 'backward')) {
    const end = Math.min(to, from + count - matched)
    starts[source] = page.offsets[end - 1] ?? 0
    matched += end - from
    for (let at = from; at < end && rows !== undefined; at += 1) {
      // A copy: one kept row must not hold its page.
      const row = Uint8Array.from(rowText(page, at))
      keptBytes += row.length
      rows.push(row)
      if (keptBytes > KEPT_BYTES_MAX) rows = undefined
    }
    if (matched === count) return { starts, matched, rows, isTruncated: true }
  }
  return { starts, matched, rows, isTruncated: false }
}

/** The kept rows, oldest first. */
export function* oldestFirst(rows: readonly Uint8Array[]): Generator<Uint8Array, void, void> {
  for (let end = rows.length; end > 0; end -= PIECE_ROWS) yield Buffer.concat(rows.slice(Math.max(0, end - PIECE_ROWS), end).toReversed())
}

/** Reads the found matches again, forward, with their context. */
export function answerFrom(run: QueryRun, starts: readonly number[]): AnswerRows {
  const ranges = run.ranges.map((range, at) => rangeFrom(run, range, starts[at] ?? range.endOffset))
  return new AnswerRows(run, { ranges, direction: 'forward', limit: undefined })
}

function rangeFrom(run: QueryRun, range: PartitionRange, start: number): ScanRange {
  const matchFrom = toOffset(start)
  const startOffset =
    run.filters.before === 0 || start >= range.endOffset
      ? matchFrom
      : windowStart(run.log, { topic: range.topic, partition: range.partition, high: start, low: range.startOffset, bytes: WARM_UP_BYTES })
  return { ...range, startOffset: toOffset(Math.max(startOffset, range.startOffset)), matchFrom }
}
