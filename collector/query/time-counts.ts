/**
 * Matches counted by time. Bounded: of more than `stretchesMax` stretches the oldest are kept, and their counts are
 * exact, because a stretch that was dropped once is refused ever after. Plain data goes in and out, so that workers can
 * count their part.
 */
import type { TimeCount } from '../../shared/time-count.ts'

/** Start of a stretch in ms, and how many. */
export type TimePair = readonly [startMs: number, count: number]

export class TimeCounts {
  readonly widthMs: number
  /** Newer matches than those that are listed were left out. */
  isTruncated = false
  private readonly stretchesMax: number
  private counts = new Map<number, number>()
  private dropFromMs = Infinity

  constructor(widthMs: number, stretchesMax: number) {
    this.widthMs = widthMs
    this.stretchesMax = stretchesMax
  }

  startOf(timeMs: number): number {
    return Math.floor(timeMs / this.widthMs) * this.widthMs
  }

  add(timeMs: number, count: number): void {
    this.addPair([this.startOf(timeMs), count])
  }

  addPair([startMs, count]: TimePair): void {
    if (startMs >= this.dropFromMs) {
      this.isTruncated = true
      return
    }
    this.counts.set(startMs, (this.counts.get(startMs) ?? 0) + count)
    // Twice as many may gather, so that sorting is paid once for many.
    if (this.counts.size > 2 * this.stretchesMax) this.dropNewest()
  }

  /** Oldest first. */
  pairs(): TimePair[] {
    if (this.counts.size > this.stretchesMax) this.dropNewest()
    return this.sorted()
  }

  private sorted(): TimePair[] {
    return [...this.counts].toSorted(([a], [b]) => a - b)
  }

  private dropNewest(): void {
    const sorted = this.sorted()
    this.dropFromMs = sorted[this.stretchesMax]?.[0] ?? Infinity
    this.counts = new Map(sorted.slice(0, this.stretchesMax))
    this.isTruncated = true
  }
}

export function timeCountRow([startMs, count]: TimePair): string {
  return `${JSON.stringify({ ts: startMs, count } satisfies TimeCount)}\n`
}
