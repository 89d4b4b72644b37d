/**
 * One partition of a tail: waits for new records, scans them, and holds one page until it was given away. A consumer that
 * is slow leaves the page where it is, and nothing more is read: slow readers are paused, never skipped.
 */
import { readBatchHeader } from '../../shared/record-batch.ts'
import type { Clock } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import { QueryStats, type MissingRange } from './query-stats.ts'
import { NO_MAX, runningMaxBefore } from './running-max.ts'
import type { ScanPage } from './scan-types.ts'
import { UnitReader, type ScanContext } from './unit-reader.ts'

export interface TailPartitionOptions {
  readonly topic: string
  readonly partition: number
  readonly startOffset: Offset
  readonly context: ScanContext
  readonly clock: Clock
  /** Something changed here. */
  readonly wake: () => void
  readonly onMissing: (ranges: readonly MissingRange[]) => void
}

export class TailPartition {
  readonly topic: string
  readonly partition: number
  /** The cursor of this partition: everything before it was given, or does not match. */
  position: number
  page: ScanPage | undefined
  /** Next row of the page. */
  at = 0
  /** When the page came, monotonic. */
  pageMs = 0
  isCaughtUp = false
  private readonly options: TailPartitionOptions
  private frontier: number
  private frontierMaxMs: number | undefined

  constructor(options: TailPartitionOptions) {
    this.topic = options.topic
    this.partition = options.partition
    this.position = options.startOffset
    this.frontier = options.startOffset
    this.options = options
  }

  /** Merge key of the next row; only with a page. */
  get key(): number {
    return this.page?.keys[this.at] ?? 0
  }

  /** Moves to the next row; without one the page is dropped. */
  advance(): void {
    this.at += 1
    if (this.page !== undefined && this.at < this.page.rowCount) this.position = this.page.offsets[this.at] ?? this.position
    else {
      this.page = undefined
      this.position = this.frontier
    }
  }

  /** Resolves when there is a page, or when the signal has fired. Rejects as the log does, UNKNOWN_TOPIC too. */
  async fill(): Promise<void> {
    const { context, wake } = this.options
    const { log, signal } = context
    while (!signal.aborted && this.page === undefined) {
      const { highWatermark } = log.watermarks(this.topic, this.partition)
      this.isCaughtUp = highWatermark <= this.frontier
      if (!this.isCaughtUp) await this.scan(highWatermark)
      else {
        wake()
        await log.waitFor(this.topic, this.partition, toOffset(this.frontier), signal)
      }
    }
  }

  private async scan(endOffset: Offset): Promise<void> {
    const { topic, partition, options, frontier } = this
    const stats = new QueryStats()
    const startOffset = toOffset(frontier)
    const reader = new UnitReader({ ...options.context, stats }, { topic, partition, startOffset, endOffset, matchFrom: startOffset })
    const read = await reader.read({ offset: frontier, endOffset, bytesMax: options.context.sizes.unitBytesMax })
    let next: number = endOffset
    let page: ScanPage | undefined
    if (read !== undefined) {
      next = Math.min(read.nextOffset, endOffset)
      const priorMaxMs = this.frontierMaxMs ?? (await this.startMax(read.batches))
      const piece = { batches: read.batches, priorMaxMs, fromOffset: frontier, toOffset: next, emitFrom: frontier, emitEnd: next, isRepeat: false }
      const started = reader.start(piece)
      page = await reader.settle(started.outcome, piece)
      if (read.batches.length > 0) this.frontierMaxMs = page?.resumeAt === undefined ? started.endMaxMs : page.resumeMaxMs
    }
    options.onMissing(stats.missing())
    this.take(page, page?.resumeAt ?? next)
  }

  private take(page: ScanPage | undefined, next: number): void {
    this.frontier = next
    this.position = next
    if (page === undefined || page.rowCount === 0) return
    this.page = page
    this.at = 0
    this.pageMs = this.options.clock.monotonicMs()
    this.position = page.offsets[0] ?? next
  }

  private async startMax(batches: Buffer): Promise<number> {
    if (batches.length === 0) return NO_MAX
    const { baseOffset, baseTimestampMs } = readBatchHeader(batches)
    return runningMaxBefore(this.options.context.log, { topic: this.topic, partition: this.partition, offset: baseOffset, timestampMs: baseTimestampMs })
  }
}
