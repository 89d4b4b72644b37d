/** One running query: what it asks, the ranges it was pinned to, and what it has cost so far. */
import { isSourceFiltered } from './source-decider.ts'
import type { ReadableLog } from '../storage/topic-log.ts'
import { backwardPages } from './backward-scan.ts'
import { forwardPages } from './forward-scan.ts'
import type { PartitionRange } from './plan.ts'
import { matchesEverything } from './record-matcher.ts'
import type { MatchSpec, SourceSpec } from './query-spec.ts'
import type { QueryStats } from './query-stats.ts'
import type { Direction, ScanExecutor, ScanPage, ScanTask } from './scan-types.ts'
import type { ScanSizes } from './scan-sizes.ts'
import type { ProducerFilter } from './stream-filter.ts'
import { UnitReader, type ScanContext, type ScanRange } from './unit-reader.ts'

/** With more partitions than this, reading them side by side is read-ahead enough. */
const READ_AHEAD_PARTITIONS = 16

export interface QueryFilters {
  readonly match: MatchSpec
  readonly source: SourceSpec
  readonly sinceMs: number | undefined
  readonly untilMs: number | undefined
  readonly before: number
  readonly after: number
}

export interface QueryRun {
  readonly log: ReadableLog
  readonly executor: ScanExecutor
  readonly filters: QueryFilters
  readonly ranges: readonly PartitionRange[]
  readonly stats: QueryStats
  readonly mayHold: ProducerFilter
  readonly signal: AbortSignal
  readonly sizes: ScanSizes
}

export interface ScanChoice {
  readonly want: ScanTask['want']
  readonly direction: Direction
  /** No more matches than this are taken from all partitions together. */
  readonly limit?: number | undefined
  /** With `count`. */
  readonly countByMs?: number | undefined
}

/** One source of pages per range, in the order of the ranges. Nothing is read before the first page is asked for. */
export function pageSources(run: QueryRun, ranges: readonly ScanRange[], choice: ScanChoice): AsyncGenerator<ScanPage, void, void>[] {
  const context = scanContext(run, ranges.length, choice)
  return ranges.map((range) => {
    const reader = new UnitReader(context, range)
    return choice.direction === 'forward' ? forwardPages(reader) : backwardPages(reader)
  })
}

export function scanContext(run: QueryRun, partitions: number, choice: ScanChoice): ScanContext {
  const { log, executor, filters, stats, mayHold, signal, sizes } = run
  const depth = partitions === 1 ? executor.concurrency + 1 : partitions <= READ_AHEAD_PARTITIONS ? 2 : 1
  const share = Math.floor(sizes.memoryBytes / (Math.max(1, partitions) * (depth + 1)))
  return {
    log, executor, stats, mayHold, signal, sizes, depth,
    task: {
      match: filters.match, source: filters.source, sinceMs: filters.sinceMs, untilMs: filters.untilMs, before: filters.before, after: filters.after,
      direction: choice.direction, want: choice.want, countByMs: choice.countByMs,
    },
    pageBytes: Math.min(sizes.pageBytesMax, Math.max(sizes.pageBytesMin, share)),
    // Without context a row is a match, and of one partition never more than the limit are needed.
    pageRows: Math.max(1, Math.min(sizes.pageRowsMax, filters.before + filters.after > 0 ? Infinity : (choice.limit ?? Infinity))),
    countsWholeBatches: choice.want === 'count' && matchesEverything(filters.match) && !isSourceFiltered(filters.source),
  }
}

/** The range as it was planned: every admitted record may match. */
export function wholeRange(range: PartitionRange): ScanRange {
  return { ...range, matchFrom: range.startOffset }
}
