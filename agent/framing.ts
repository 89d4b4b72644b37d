/**
 * Source bytes to records: finds line ends and copies each line into the records of a batch. No value is made per line;
 * of ordinary lines many are taken in one call.
 * Deterministic: the same bytes with the same options give the same records, which re-framing after a split relies on.
 */
import type { RecordMark } from '../shared/record-batch.ts'
import type { RecordsBuilder } from '../shared/records-builder.ts'

export interface FrameOptions {
  readonly window: Buffer
  /** Index in the window of the stream's position. */
  readonly from: number
  /** Behind the last byte that was read. */
  readonly to: number
  readonly lineBytesMax: number
  /** The batch ends before a record that begins at or behind `from + sourceBytesMax`. */
  readonly sourceBytesMax: number
  /** The bytes end here for good: what has no newline becomes an `eof` record. */
  readonly isFinal: boolean
  readonly timestampMs: number
}

export interface Framed {
  /** Index in the window behind the last byte that is in a record. */
  readonly end: number
  readonly endsWithEof: boolean
  /** Whether the batch was full, so that more may follow at once. */
  readonly isFull: boolean
}

const NEWLINE = 0x0a

/**
 * A line longer than `lineBytesMax` is cut into `part` records of that size as soon as so many bytes are there; the rest
 * waits for its newline like any line.
 */
export function frameLines(builder: RecordsBuilder, options: FrameOptions): Framed {
  const { window, from, to, lineBytesMax, timestampMs } = options
  const stopAt = Math.min(to, from + options.sourceBytesMax)
  let at = from
  // Searching behind `to` is harmless but slow: the view ends where the bytes end.
  const bytes = window.length === to ? window : window.subarray(0, to)
  while (at < stopAt) {
    if (builder.takesLines) at = builder.appendLines(window, { from: at, stop: stopAt, to, lineBytesMax }, timestampMs)
    if (at >= stopAt) break
    const newline = bytes.indexOf(NEWLINE, at)
    const lineEnd = newline < 0 ? to : newline
    let end = lineEnd
    let mark: RecordMark = 'newline'
    if (lineEnd - at > lineBytesMax) {
      end = at + lineBytesMax
      mark = 'part'
    } else if (newline < 0) {
      if (!options.isFinal) break
      mark = 'eof'
    }
    if (!builder.appendRange(bytes, at, end, mark, timestampMs)) return { end: at, endsWithEof: false, isFull: true }
    at = mark === 'newline' ? end + 1 : end
    if (mark === 'eof') return { end: at, endsWithEof: true, isFull: false }
  }
  return { end: at, endsWithEof: false, isFull: at >= stopAt && stopAt < to }
}
