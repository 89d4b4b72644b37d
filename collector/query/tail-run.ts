/**
 * Follows partitions: new records that match, in the order of all queries as far as it can be known in time. A line
 * waits until every other partition has shown its next one or has nothing new, and then at most `holdMs`; one that comes
 * later still is given at once, out of order, never dropped.
 *
 * Partitions and topics that appear meanwhile are taken up from their start. Every event carries the cursor behind it:
 * beginning again there misses nothing and repeats nothing.
 */
import { AppError, toAppError } from '../../shared/errors.ts'
import type { Clock } from '../../shared/system.ts'
import { ContextLines, rowText } from './context-lines.ts'
import { formatCursor, partitionKey } from './cursor.ts'
import { matchingPartitions, type PartitionRange } from './plan.ts'
import { queryLimits, type TailSpec } from './query-spec.ts'
import type { MissingRange } from './query-stats.ts'
import { TailPartition } from './tail-partition.ts'
import type { ScanContext } from './unit-reader.ts'

const HEARTBEAT_MS = 15_000
/** How often new topics and partitions are looked for. */
const REFRESH_MS = 1000
/** Events handed over together. */
const BURST_MAX = 256

export type TailEvent =
  /** `row` is one JSON object and a newline. */
  | { readonly kind: 'record'; readonly cursor: string; readonly row: Uint8Array }
  | { readonly kind: 'missing'; readonly range: MissingRange }
  /** Where the tail stands: at its start, and when nothing was given for a while. */
  | { readonly kind: 'position'; readonly cursor: string }

export interface TailOptions {
  readonly spec: TailSpec
  /** Where each partition begins. */
  readonly starts: readonly Pick<PartitionRange, 'topic' | 'partition' | 'startOffset'>[]
  readonly context: ScanContext
  readonly clock: Clock
}

export class TailRun {
  private readonly options: TailOptions
  /** In order of topic and partition: equal keys are given in this order. */
  private partitions: TailPartition[] = []
  private readonly filling = new Set<TailPartition>()
  private readonly contextLines: ContextLines | undefined
  private ready: TailEvent[] = []
  private failure: Error | undefined
  private wakeUp: (() => void) | undefined
  private isWoken = false
  private lastEventMs: number
  private refreshedMs: number

  constructor(options: TailOptions) {
    const { spec, starts, clock } = options
    this.options = options
    this.contextLines = spec.before + spec.after > 0 ? new ContextLines(spec, 'forward') : undefined
    this.partitions = starts.map((start) => this.open(start))
    this.lastEventMs = clock.monotonicMs()
    this.refreshedMs = this.lastEventMs
  }

  /** Bursts of events, each given as soon as it is known. Ends with the signal. */
  async *bursts(): AsyncGenerator<readonly TailEvent[], void, void> {
    const { signal } = this.options.context
    const wake = (): void => this.wake()
    signal.addEventListener('abort', wake)
    // A client that loses the connection before the first record must not begin at a later end.
    this.push({ kind: 'position', cursor: this.cursor() })
    try {
      while (!signal.aborted) {
        if (this.failure !== undefined) throw this.failure
        this.refresh()
        this.fillAll()
        const waitMs = this.giveNext()
        if (this.ready.length >= BURST_MAX || (waitMs > 0 && this.ready.length > 0)) yield this.takeReady()
        else if (waitMs > 0) await this.pause(waitMs)
      }
    } finally {
      signal.removeEventListener('abort', wake)
    }
  }

  private open(start: Pick<PartitionRange, 'topic' | 'partition' | 'startOffset'>): TailPartition {
    const { context, clock } = this.options
    return new TailPartition({
      ...start, context, clock,
      wake: () => this.wake(),
      onMissing: (ranges) => this.ready.push(...ranges.map((range): TailEvent => ({ kind: 'missing', range }))),
    })
  }

  private fillAll(): void {
    for (const partition of this.partitions) {
      if (partition.page !== undefined || this.filling.has(partition)) continue
      this.filling.add(partition)
      partition.isCaughtUp = false
      partition.fill().then(
        () => this.filled(partition),
        (error: unknown) => this.filled(partition, error),
      )
    }
  }

  private filled(partition: TailPartition, error?: unknown): void {
    this.filling.delete(partition)
    // A topic that was deleted has nothing more to give; others go on.
    if (error instanceof AppError && error.code === 'UNKNOWN_TOPIC') this.partitions = this.partitions.filter((other) => other !== partition)
    else if (error !== undefined) this.failure = error instanceof Error ? error : toAppError(error)
    this.wake()
  }

  /** Gives the next row if its turn has come. Answers how long to wait, 0 = go on. */
  private giveNext(): number {
    const { clock } = this.options
    const head = this.nextHead()
    const sinceEventMs = clock.monotonicMs() - this.lastEventMs
    if (head === undefined || this.waitMs(head) > 0) {
      if (sinceEventMs >= HEARTBEAT_MS) {
        this.push({ kind: 'position', cursor: this.cursor() })
        return 0
      }
      const untilRefreshMs = this.refreshedMs + REFRESH_MS - clock.monotonicMs()
      return Math.max(1, Math.min(head === undefined ? Infinity : this.waitMs(head), HEARTBEAT_MS - sinceEventMs, untilRefreshMs))
    }
    this.give(head)
    return 0
  }

  private nextHead(): TailPartition | undefined {
    let first: TailPartition | undefined
    for (const partition of this.partitions) {
      if (partition.page !== undefined && (first === undefined || partition.key < first.key)) first = partition
    }
    return first
  }

  private waitMs(head: TailPartition): number {
    const without = this.partitions.filter((partition) => partition.page === undefined)
    if (without.some((partition) => !partition.isCaughtUp)) return Infinity
    if (without.length === 0) return 0
    const { clock, spec } = this.options
    // An old line has nothing to wait for. A clock ahead of ours must not hold a line longer than holdMs.
    return Math.max(0, Math.min(head.key + spec.holdMs - clock.nowMs(), head.pageMs + spec.holdMs - clock.monotonicMs()))
  }

  private give(head: TailPartition): void {
    const { page, at } = head
    if (page === undefined) return
    const before = this.contextLines === undefined ? '' : this.cursor()
    head.advance()
    if (this.contextLines === undefined) {
      this.push({ kind: 'record', cursor: this.cursor(), row: rowText(page, at) })
      return
    }
    const rows: Uint8Array[] = []
    this.contextLines.push(page, at, { partition: partitionKey(head.topic, head.partition), takesMatches: true }, (row) => rows.push(row))
    // Context before a match bears the cursor before it: whoever stops between them gets both again.
    for (const [index, row] of rows.entries()) this.push({ kind: 'record', cursor: index === rows.length - 1 ? this.cursor() : before, row })
  }

  private push(event: TailEvent): void {
    this.ready.push(event)
    this.lastEventMs = this.options.clock.monotonicMs()
  }

  private takeReady(): readonly TailEvent[] {
    const events = this.ready
    this.ready = []
    return events
  }

  private cursor(): string {
    return formatCursor(this.partitions.map(({ topic, partition, position }) => ({ topic, partition, offset: position })))
  }

  private refresh(): void {
    const { clock, context, spec } = this.options
    if (clock.monotonicMs() - this.refreshedMs < REFRESH_MS) return
    this.refreshedMs = clock.monotonicMs()
    const known = new Map(this.partitions.map((partition) => [partitionKey(partition.topic, partition.partition), partition]))
    const wanted = matchingPartitions(context.log, spec)
    if (wanted.every(({ topic, partition }) => known.has(partitionKey(topic, partition)))) return
    checkTailPartitions(wanted.length)
    this.partitions = wanted.map(
      ({ topic, partition }) =>
        known.get(partitionKey(topic, partition)) ??
        this.open({ topic, partition, startOffset: context.log.watermarks(topic, partition).logStartOffset }),
    )
  }

  private wake(): void {
    this.isWoken = true
    this.wakeUp?.()
  }

  /** Until something changes, at most `ms`. */
  private async pause(ms: number): Promise<void> {
    if (!this.isWoken) {
      const done = new AbortController()
      const woken = new Promise<void>((resolve) => {
        this.wakeUp = resolve
      })
      await Promise.race([woken, this.options.clock.sleep(ms, done.signal).catch(ignoreAbort)])
      this.wakeUp = undefined
      done.abort()
    }
    this.isWoken = false
  }
}

/** Throws INVALID_QUERY. */
export function checkTailPartitions(count: number): void {
  if (count <= queryLimits.tailPartitions) return
  throw new AppError('INVALID_QUERY', `a tail of ${count} partitions is over ${queryLimits.tailPartitions}`, {
    hint: 'each event carries a cursor of all of them: name fewer topics',
  })
}

/** The timer of a pause that ended early. */
function ignoreAbort(error: unknown): void {
  if (!(error instanceof AppError) || error.code !== 'ABORTED') throw error
}
