/** What a query has cost and what it could not read; bounded, whatever happens to the log. */
import { queryLimits } from './query-spec.ts'

export interface MissingRange {
  readonly topic: string
  readonly partition: number
  readonly fromOffset: number
  readonly toOffset: number
  readonly reason: string
}

export class QueryStats {
  /** Batches whose headers were seen. */
  batches = 0
  /** Batches that were decompressed. */
  batchesRead = 0
  /** As stored. */
  bytesRead = 0
  /** Decompressed. */
  contentBytes = 0
  private readonly ranges = new Map<string, MissingRange>()
  private unlisted = 0

  /** A range is listed once, however often it was met. */
  addMissing(range: MissingRange): void {
    if (range.fromOffset >= range.toOffset) return
    const key = `${range.topic}:${range.partition}:${range.fromOffset}`
    const known = this.ranges.get(key)
    if (known !== undefined && known.toOffset >= range.toOffset) return
    if (known !== undefined || this.ranges.size < queryLimits.missingRanges) this.ranges.set(key, range)
    else this.unlisted += 1
  }

  missing(): MissingRange[] {
    const listed = [...this.ranges.values()]
    const last = listed.at(-1)
    if (this.unlisted > 0 && last !== undefined) listed[listed.length - 1] = { ...last, reason: `${last.reason} (and ${this.unlisted} more ranges)` }
    return listed
  }
}
