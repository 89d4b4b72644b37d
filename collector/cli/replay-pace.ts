/**
 * When a record is due: on an absolute schedule, so that small delays never add up. Time between two records is what lay
 * between them in the log, divided by the speed, and never more than `maxGapMs`. A record that is older than one before
 * it is due at once and counts as late. Pure: the caller owns the clock.
 */

export interface PaceOptions {
  /** 2 = twice as fast; undefined = no waiting at all. */
  readonly speed: number | undefined
  /** Longest wait between two records, in time of the replay. */
  readonly maxGapMs: number | undefined
}

export class ReplayPace {
  late = 0
  private readonly options: PaceOptions
  private newestMs: number | undefined
  private scheduleMs = 0

  constructor(options: PaceOptions) {
    this.options = options
  }

  /** ms after the start at which a record with this timestamp is due. Call once per record, in order. */
  dueMs(timestampMs: number): number {
    const { speed, maxGapMs } = this.options
    const before = this.newestMs ?? timestampMs
    if (timestampMs < before) this.late += 1
    else {
      const gapMs = speed === undefined ? 0 : (timestampMs - before) / speed
      this.scheduleMs += maxGapMs === undefined ? gapMs : Math.min(gapMs, maxGapMs)
      this.newestMs = timestampMs
    }
    return this.scheduleMs
  }
}
