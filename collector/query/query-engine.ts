/**
 * Runs queries: `prepare` finds every mistake and pins the ends, `answer` streams the NDJSON: one line per record in the
 * one order of all queries (merge.ts), then the end line (QueryEnd). Knows no HTTP.
 *
 * Queries may be asked for at any time; more than `QUERIES_MAX` at once are refused, and each holds a bounded number of
 * bytes. A consumer that stops asking pauses its query; one that returns early ends it.
 */
import { setMaxListeners } from 'node:events'
import { AppError } from '../../shared/errors.ts'
import type { Clock } from '../../shared/system.ts'
import { toOffset } from '../../shared/types.ts'
import type { QueryEnd } from '../../shared/wire.ts'
import type { ReadableLog } from '../storage/topic-log.ts'
import { AnswerRows } from './answer-rows.ts'
import { formatCursor } from './cursor.ts'
import { compileGlobs } from './glob.ts'
import { answerFrom, findNewest, oldestFirst } from './newest-matches.ts'
import { planRanges, type PartitionRange } from './plan.ts'
import { pageSources, scanContext, wholeRange, type QueryRun } from './query-run.ts'
import { queryLimits, type QuerySpec, type SourceSpec, type TailSpec } from './query-spec.ts'
import { QueryStats } from './query-stats.ts'
import { compileMatcher } from './record-matcher.ts'
import { defaultScanSizes, type ScanSizes } from './scan-sizes.ts'
import type { ScanExecutor } from './scan-types.ts'
import { createProducerFilter } from './stream-filter.ts'
import { timeCountRow, TimeCounts } from './time-counts.ts'
import { checkTailPartitions, TailRun, type TailEvent } from './tail-run.ts'

const QUERIES_MAX = 32
const TAILS_MAX = 256
const COUNTS_PER_PIECE = 1000

export interface QueryEngineOptions {
  readonly log: ReadableLog
  readonly executor: ScanExecutor
  readonly clock: Clock
  readonly sizes?: ScanSizes
}

/** A query without mistakes, pinned to where the log ended when it was prepared. */
export interface PreparedQuery {
  readonly spec: QuerySpec
  readonly ranges: readonly PartitionRange[]
}

export interface PreparedTail {
  readonly spec: TailSpec
  readonly ranges: readonly PartitionRange[]
}

interface Outcome {
  matched: number
  isTruncated: boolean
  /** Per range: where the next query would begin. */
  nextOffsets: readonly number[]
}

export class QueryEngine {
  private readonly options: QueryEngineOptions
  private running = 0
  private tailing = 0

  constructor(options: QueryEngineOptions) {
    this.options = options
  }

  /** Throws INVALID_QUERY, UNKNOWN_TOPIC, OFFSET_OUT_OF_RANGE, UNAVAILABLE. */
  async prepare(spec: QuerySpec): Promise<PreparedQuery> {
    if (this.running >= QUERIES_MAX) {
      throw new AppError('UNAVAILABLE', `${QUERIES_MAX} queries are running`, { retryAfterMs: 1000, hint: 'try again when one has ended' })
    }
    compileMatcher(spec.match)
    checkSource(spec.source)
    return { spec, ranges: await planRanges(this.options.log, spec) }
  }

  async *answer(prepared: PreparedQuery, signal: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
    const { clock, log, executor } = this.options
    const { spec, ranges } = prepared
    const startedMs = clock.monotonicMs()
    const ended = new AbortController()
    const run: QueryRun = {
      log, executor, filters: spec, ranges,
      stats: new QueryStats(),
      mayHold: createProducerFilter(log.streams, spec.source),
      signal: AbortSignal.any([signal, ended.signal]),
      sizes: this.options.sizes ?? defaultScanSizes,
    }
    const outcome: Outcome = { matched: 0, isTruncated: false, nextOffsets: ranges.map(({ endOffset }) => endOffset) }
    this.running += 1
    try {
      yield* answerRows(run, spec, outcome)
      yield endLine(run, outcome, clock.monotonicMs() - startedMs)
    } finally {
      this.running -= 1
      // Scans that are still in flight have nobody to answer to.
      ended.abort()
    }
  }

  /** Throws INVALID_QUERY, UNKNOWN_TOPIC, OFFSET_OUT_OF_RANGE, UNAVAILABLE. */
  async prepareTail(spec: TailSpec): Promise<PreparedTail> {
    if (this.tailing >= TAILS_MAX) {
      throw new AppError('UNAVAILABLE', `${TAILS_MAX} tails are running`, { retryAfterMs: 5000, hint: 'try again when one has ended' })
    }
    compileMatcher(spec.match)
    checkSource(spec.source)
    const ranges = await planRanges(this.options.log, { ...spec, sinceMs: undefined })
    checkTailPartitions(ranges.length)
    return { spec, ranges }
  }

  /** Ends with the signal, or throws when the log can't be followed any more. */
  async *tail({ spec, ranges }: PreparedTail, signal: AbortSignal): AsyncGenerator<readonly TailEvent[], void, void> {
    const { clock, log, executor } = this.options
    const ended = new AbortController()
    const filters = { ...spec, sinceMs: undefined, untilMs: undefined }
    // A stream that begins later must be seen too: the worker decides by the record key, not by a snapshot of the table.
    const run: QueryRun = {
      log, executor, filters, ranges,
      stats: new QueryStats(),
      mayHold: () => true,
      signal: AbortSignal.any([signal, ended.signal]),
      sizes: this.options.sizes ?? defaultScanSizes,
    }
    // Each partition waits with a listener of its own.
    setMaxListeners(2 * queryLimits.tailPartitions, run.signal)
    this.tailing += 1
    try {
      const starts = await this.tailStarts(run, spec)
      const context = scanContext(run, ranges.length, { want: 'rows', direction: 'forward' })
      yield* new TailRun({ spec, starts, context, clock }).bursts()
    } finally {
      this.tailing -= 1
      ended.abort()
    }
  }

  private async tailStarts(run: QueryRun, spec: TailSpec): Promise<readonly PartitionRange[]> {
    if (spec.from !== undefined) return run.ranges
    const offsets = spec.last === 0 ? undefined : (await findNewest(run, spec.last, { keepRows: false })).starts
    return run.ranges.map((range, at) => ({ ...range, startOffset: toOffset(offsets?.[at] ?? range.endOffset) }))
  }
}

function checkSource(source: SourceSpec): void {
  compileGlobs(source.hosts)
  compileGlobs(source.paths)
}

async function* answerRows(run: QueryRun, spec: QuerySpec, outcome: Outcome): AsyncGenerator<Uint8Array, void, void> {
  if (spec.count) return countMatches(run, spec, outcome)
  if (spec.countByMs !== undefined) return yield* countByTime(run, spec.countByMs, outcome)
  if (spec.last !== undefined && !spec.reverse) return yield* answerNewest(run, spec.last, outcome)
  const direction = spec.reverse ? 'backward' : 'forward'
  const rows = new AnswerRows(run, { ranges: run.ranges.map(wholeRange), direction, limit: spec.reverse ? (spec.last ?? spec.limit) : spec.limit })
  yield* rows.pieces()
  outcome.matched = rows.matched
  outcome.isTruncated = rows.isTruncated
  if (rows.isTruncated && !spec.reverse) outcome.nextOffsets = rows.nextOffsets
}

async function* answerNewest(run: QueryRun, count: number, outcome: Outcome): AsyncGenerator<Uint8Array, void, void> {
  const hasContext = run.filters.before + run.filters.after > 0
  const newest = await findNewest(run, count, { keepRows: !hasContext })
  outcome.matched = newest.matched
  outcome.isTruncated = newest.isTruncated
  if (newest.rows !== undefined) yield* oldestFirst(newest.rows)
  else if (newest.matched > 0) yield* answerFrom(run, newest.starts).pieces()
}

async function countMatches(run: QueryRun, spec: QuerySpec, outcome: Outcome): Promise<void> {
  const most = spec.last ?? spec.limit ?? Infinity
  for (const source of pageSources({ ...run, filters: { ...run.filters, before: 0, after: 0 } }, run.ranges.map(wholeRange), { want: 'count', direction: 'forward' })) {
    for await (const page of source) {
      outcome.matched += page.matched
      if (outcome.matched < most) continue
      outcome.matched = most
      outcome.isTruncated = true
      return
    }
  }
}

/** All partitions must be read before the first stretch is complete, so nothing is given before. */
async function* countByTime(run: QueryRun, widthMs: number, outcome: Outcome): AsyncGenerator<Uint8Array, void, void> {
  const times = new TimeCounts(widthMs, queryLimits.timeCounts)
  for (const source of pageSources(run, run.ranges.map(wholeRange), { want: 'count', direction: 'forward', countByMs: widthMs })) {
    for await (const page of source) for (const pair of page.timeCounts) times.addPair(pair)
  }
  const pairs = times.pairs()
  for (let at = 0; at < pairs.length; at += COUNTS_PER_PIECE) yield Buffer.from(pairs.slice(at, at + COUNTS_PER_PIECE).map(timeCountRow).join(''))
  outcome.matched = pairs.reduce((sum, [, count]) => sum + count, 0)
  outcome.isTruncated = times.isTruncated
}

function endLine(run: QueryRun, outcome: Outcome, elapsedMs: number): Uint8Array {
  const { batches, batchesRead, bytesRead, contentBytes } = run.stats
  const cursor = formatCursor(run.ranges.map(({ topic, partition }, at) => ({ topic, partition, offset: outcome.nextOffsets[at] ?? 0 })))
  const end: QueryEnd = {
    end: {
      matched: outcome.matched, truncated: outcome.isTruncated, missing: run.stats.missing(), batches, batchesRead, bytesRead, contentBytes,
      ms: Math.round(elapsedMs), cursor,
    },
  }
  return Buffer.from(`${JSON.stringify(end)}\n`)
}
