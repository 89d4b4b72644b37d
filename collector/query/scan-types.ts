/**
 * What goes to a scan and what comes back: plain, structured-cloneable values, so that a scan runs here or in a worker.
 */
import type { MatchSpec, SourceSpec } from './query-spec.ts'
import type { TimePair } from './time-counts.ts'

export type Direction = 'forward' | 'backward'

/** The same for every scan of one query. */
export interface ScanTask {
  readonly match: MatchSpec
  readonly source: SourceSpec
  readonly sinceMs: number | undefined
  readonly untilMs: number | undefined
  readonly before: number
  readonly after: number
  readonly direction: Direction
  /** `keys`: rows without their text. `count`: no rows at all. */
  readonly want: 'rows' | 'keys' | 'count'
  /** With `count`: also by stretches of arrival time of so many ms. */
  readonly countByMs?: number | undefined
}

/** Some batches of one partition, in offset order. */
export interface ScanUnit {
  readonly topic: string
  readonly partition: number
  /** Whole batches back to back; a buffer of its own. */
  readonly batches: Uint8Array
  /** Per batch: the largest timestamp of the partition before it. */
  readonly priorMaxMs: readonly number[]
  /** Records in [admitFrom, admitEnd) are admitted, those from matchFrom on may match. */
  readonly admitFrom: number
  readonly admitEnd: number
  readonly matchFrom: number
  /** Only rows in [emitFrom, emitEnd) are given: a page that was cut goes on here. */
  readonly emitFrom: number
  readonly emitEnd: number
  /** The page is cut at about this size, and at this many rows. */
  readonly textBytesMax: number
  readonly rowsMax: number
}

export interface DamagedRange {
  readonly fromOffset: number
  readonly toOffset: number
  readonly reason: string
}

/** Rows in the order of the direction: forward rising, backward falling. With context, more rows than will be shown. */
export interface ScanPage {
  readonly rowCount: number
  /** Per row: running maximum of the timestamp in the partition, up to and with this record. */
  readonly keys: Float64Array
  readonly offsets: Float64Array
  /** End of each row's text; a row is one JSON object and a newline. Empty when only keys were wanted. */
  readonly ends: Uint32Array
  readonly text: Uint8Array
  /** 1 for a match, 0 for a possible context line. */
  readonly isMatch: Uint8Array
  /** Per row, an index into `sources`; empty without context. */
  readonly sourceOf: Uint32Array
  readonly sources: readonly string[]
  /** Matches in this page, or in the whole unit when only counting. */
  readonly matched: number
  /** The same by time, with `countByMs`; empty otherwise. */
  readonly timeCounts: readonly TimePair[]
  /** Set when the page was cut: forward, the next offset; backward, the end of what is still to do. */
  readonly resumeAt: number | undefined
  /** Forward: `priorMaxMs` of the batch that holds `resumeAt`. */
  readonly resumeMaxMs: number
  readonly batchesRead: number
  readonly contentBytes: number
  readonly damaged: readonly DamagedRange[]
}

/** Runs scans somewhere. Rejects with ABORTED after the signal; other rejections are bugs or a dead worker. */
export interface ScanExecutor {
  /** Scans that can run at the same time. */
  readonly concurrency: number
  scan(task: ScanTask, unit: ScanUnit, signal: AbortSignal): Promise<ScanPage>
  close(): Promise<void>
}
