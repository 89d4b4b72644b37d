/**
 * Reads a piece of a partition, drops what the headers rule out, and gives the rest to the executor. Shared by the scans
 * in both directions and by the tail. What can't be read or decoded is noted as missing and never ends a query.
 */
import { AppError, toAppError } from '../../shared/errors.ts'
import type { Offset } from '../../shared/types.ts'
import type { ReadableLog, ReadResult } from '../storage/topic-log.ts'
import type { QueryStats } from './query-stats.ts'
import type { ScanExecutor, ScanPage, ScanTask } from './scan-types.ts'
import type { ScanSizes } from './scan-sizes.ts'
import { selectBatches, type Selection } from './select-batches.ts'
import type { ProducerFilter } from './stream-filter.ts'

/** One partition's part of a query. Everything here is offsets: admitted, [start, end); matching, from matchFrom. */
export interface ScanRange {
  readonly topic: string
  readonly partition: number
  readonly startOffset: Offset
  readonly endOffset: Offset
  readonly matchFrom: Offset
}

/** What all partitions of a query share. */
export interface ScanContext {
  readonly log: ReadableLog
  readonly executor: ScanExecutor
  readonly task: ScanTask
  readonly stats: QueryStats
  readonly mayHold: ProducerFilter
  readonly countsWholeBatches: boolean
  readonly signal: AbortSignal
  readonly sizes: ScanSizes
  readonly pageBytes: number
  readonly pageRows: number
  /** Scans that one partition keeps in flight. */
  readonly depth: number
}

/** undefined = could not be read; it is noted as missing. */
export type ReadOutcome = ReadResult | undefined

export interface Piece {
  readonly batches: Buffer
  readonly priorMaxMs: number
  readonly fromOffset: number
  readonly toOffset: number
  readonly emitFrom: number
  readonly emitEnd: number
  /** Read for the second time, to go on with a cut page. */
  readonly isRepeat: boolean
}

export interface StartedScan {
  /** Never rejects by itself, so that a scan in flight may be forgotten: see `settle`. */
  readonly outcome: Promise<ScanOutcome>
  readonly endMaxMs: number
}

export type ScanOutcome = { readonly page: ScanPage } | { readonly error: AppError }

export class UnitReader {
  readonly context: ScanContext
  readonly range: ScanRange

  constructor(context: ScanContext, range: ScanRange) {
    this.context = context
    this.range = range
  }

  checkAlive(): void {
    if (this.context.signal.aborted) throw cancelled()
  }

  async read(request: { offset: number; endOffset: number; bytesMax: number }): Promise<ReadOutcome> {
    const { log, stats } = this.context
    const { topic, partition } = this.range
    this.checkAlive()
    try {
      const result = await log.read({ topic, partition, offset: request.offset as Offset, endOffset: request.endOffset as Offset, bytesMax: request.bytesMax })
      stats.bytesRead += result.batches.length
      for (const missing of result.missing) this.addMissing(missing.fromOffset, missing.toOffset, missing.reason)
      if (result.nextOffset > request.offset) return result
      // Below the high watermark a read always gets on; if it does not, that must show.
      this.addMissing(request.offset, request.endOffset, 'nothing could be read here')
      return undefined
    } catch (error) {
      this.noteUnreadable(error, request.offset, request.endOffset)
      return undefined
    }
  }

  /** Starts the scan of a piece; a piece without a batch worth decoding is answered at once. */
  start(piece: Piece): StartedScan {
    const { context, range } = this
    const { task, stats, executor } = context
    const selection = this.select(piece)
    if (!piece.isRepeat) stats.batches += selection.seen
    const counted = piece.isRepeat ? 0 : selection.counted
    const timeCounts = piece.isRepeat ? [] : selection.timeCounts
    if (selection.priorMaxMs.length === 0) return { outcome: Promise.resolve({ page: emptyPage(counted, timeCounts) }), endMaxMs: selection.endMaxMs }
    const unit = {
      topic: range.topic,
      partition: range.partition,
      batches: selection.batches,
      priorMaxMs: selection.priorMaxMs,
      admitFrom: range.startOffset,
      admitEnd: range.endOffset,
      matchFrom: range.matchFrom,
      emitFrom: piece.emitFrom,
      emitEnd: piece.emitEnd,
      textBytesMax: context.pageBytes,
      rowsMax: context.pageRows,
    }
    const outcome = executor.scan(task, unit, context.signal).then(
      (page): ScanOutcome => ({ page: { ...page, matched: page.matched + counted, timeCounts: [...timeCounts, ...page.timeCounts] } }),
      (error: unknown): ScanOutcome => ({ error: toAppError(error) }),
    )
    return { outcome, endMaxMs: selection.endMaxMs }
  }

  /** The page of a scan, with its costs noted. Throws ABORTED and UNAVAILABLE; any other failure is a missing range. */
  async settle(outcome: Promise<ScanOutcome>, piece: { fromOffset: number; toOffset: number }): Promise<ScanPage | undefined> {
    const settled = await outcome
    this.checkAlive()
    if ('error' in settled) {
      this.noteUnreadable(settled.error, piece.fromOffset, piece.toOffset)
      return undefined
    }
    const { page } = settled
    this.context.stats.batchesRead += page.batchesRead
    this.context.stats.contentBytes += page.contentBytes
    for (const { fromOffset, toOffset, reason } of page.damaged) this.addMissing(fromOffset, toOffset, reason)
    return page
  }

  /** Turns a failure into a missing range. Throws what ends the whole query: ABORTED, UNAVAILABLE, and bugs. */
  noteUnreadable(error: unknown, fromOffset: number, toOffset: number): void {
    if (!(error instanceof AppError) || error.code === 'ABORTED' || error.code === 'UNAVAILABLE') throw error
    this.checkAlive()
    this.addMissing(fromOffset, toOffset, `${error.code}: ${error.message}`)
  }

  private select(piece: Piece): Selection {
    const { task, mayHold, countsWholeBatches } = this.context
    return selectBatches(piece.batches, piece.priorMaxMs, {
      sinceMs: task.sinceMs ?? -Infinity,
      untilMs: task.untilMs ?? Infinity,
      admitFrom: Math.max(this.range.startOffset, piece.emitFrom),
      admitEnd: Math.min(this.range.endOffset, piece.emitEnd),
      mayHold,
      countsWholeBatches,
      countByMs: task.countByMs,
    })
  }

  private addMissing(fromOffset: number, toOffset: number, reason: string): void {
    const { topic, partition, startOffset, endOffset } = this.range
    this.context.stats.addMissing({ topic, partition, fromOffset: Math.max(fromOffset, startOffset), toOffset: Math.min(toOffset, endOffset), reason })
  }
}

function cancelled(): AppError {
  return new AppError('ABORTED', 'the query was cancelled')
}

function emptyPage(matched: number, timeCounts: ScanPage['timeCounts']): ScanPage {
  return {
    rowCount: 0, keys: new Float64Array(), offsets: new Float64Array(), ends: new Uint32Array(), text: new Uint8Array(), isMatch: new Uint8Array(),
    sourceOf: new Uint32Array(), sources: [], matched, timeCounts, resumeAt: undefined, resumeMaxMs: 0, batchesRead: 0, contentBytes: 0, damaged: [],
  }
}
