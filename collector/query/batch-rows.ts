/**
 * The rows that one batch yields: its matches, and with context every admitted record that may turn out to be a
 * neighbour of a match. Which of those are shown is decided later and in order (context-lines.ts), because a neighbour
 * may stand in another batch.
 *
 * Columns instead of objects: a batch may hold a hundred thousand rows. One instance is filled again for each batch.
 */
import { AppError } from '../../shared/errors.ts'
import { decodeLabels, LABELS_HEADER_KEY, type Labels } from '../../shared/labels.ts'
import { RecordCursor, type RecordMark } from '../../shared/record-batch.ts'
import { NOWHERE } from './literal-search.ts'
import type { RecordMatcher } from './record-matcher.ts'
import type { ScanTask, ScanUnit } from './scan-types.ts'
import { isSealed, type UnitBatch } from './unit-batch.ts'
import { firstRecordKey, type SourceDecider } from './source-decider.ts'

export class BatchRows {
  raw: Buffer = Buffer.alloc(0)
  count = 0
  /** All rows have the same key. */
  hasOneSource = false
  /** Labels of all rows as JSON, '' where there are none. */
  labelsJson = ''
  /** No record of this batch has arrived before. */
  baseMs = 0
  readonly offsets: number[] = []
  readonly timestampsMs: number[] = []
  /** Running maximum of the timestamp inside this batch. */
  readonly maximaMs: number[] = []
  readonly isMatch: boolean[] = []
  readonly valueStarts: number[] = []
  readonly valueEnds: number[] = []
  readonly keyStarts: number[] = []
  readonly keyEnds: number[] = []
  readonly marks: RecordMark[] = []
  /** Neighbouring batches mostly have the same. */
  private lastLabels: { readonly header: Buffer; readonly labels: Labels | undefined } | undefined
  private readonly task: ScanTask
  private readonly matcher: RecordMatcher
  private readonly decider: SourceDecider
  private readonly hasContext: boolean

  constructor(task: ScanTask, matcher: RecordMatcher, decider: SourceDecider) {
    this.task = task
    this.matcher = matcher
    this.decider = decider
    this.hasContext = task.want === 'rows' && task.before + task.after > 0
  }

  /** Fills the rows from a batch's decompressed records. Throws CORRUPT_MESSAGE; the rows are not to be used then. */
  collect(raw: Buffer, batch: UnitBatch, unit: ScanUnit): void {
    this.raw = raw
    this.count = 0
    const { matcher, task } = this
    const { baseOffset, baseTimestampMs, lastOffsetDelta } = batch.header
    const sealed = isSealed(batch.header)
    this.hasOneSource = sealed
    this.baseMs = baseTimestampMs
    const labels = sealed ? this.labelsOf(raw) : undefined
    this.labelsJson = labels === undefined ? '' : JSON.stringify(labels)
    if (!this.decider.admitsLabels(labels)) return
    if (sealed && !this.decider.admits(firstRecordKey(raw) ?? Buffer.alloc(0))) return
    matcher.begin(raw)
    const onlyMatchesCount = !task.match.invert && !this.hasContext
    // Rows are merged by the running maximum of all timestamps up to theirs. An agent's records were read at one moment.
    const isOneMoment = sealed && batch.header.maxTimestampMs === baseTimestampMs
    const maySkip = task.want === 'count' || isOneMoment
    const sinceMs = task.sinceMs ?? -Infinity
    const untilMs = task.untilMs ?? Infinity
    const cursor = new RecordCursor(raw)
    let maxMs = isOneMoment ? baseTimestampMs : -Infinity
    for (;;) {
      if (onlyMatchesCount) {
        const nearest = matcher.nextFrom(cursor.end)
        if (nearest === NOWHERE) break
        if (maySkip) cursor.skipTo(nearest)
      }
      if (!cursor.next()) break
      if (cursor.offsetDelta < 0 || cursor.offsetDelta > lastOffsetDelta) {
        throw new AppError('CORRUPT_MESSAGE', `record with offset delta ${cursor.offsetDelta}, the last one is ${lastOffsetDelta}`)
      }
      const timestampMs = baseTimestampMs + cursor.timestampDelta
      if (timestampMs > maxMs) maxMs = timestampMs
      const offset = baseOffset + cursor.offsetDelta
      const arrivalMs = cursor.timestampDelta < 0 ? baseTimestampMs : timestampMs
      if (offset < unit.admitFrom || offset >= unit.admitEnd || arrivalMs < sinceMs || arrivalMs >= untilMs) continue
      if (!sealed && !this.decider.admits(keyOf(cursor))) continue
      const valueStart = cursor.valueStart < 0 ? cursor.end : cursor.valueStart
      const valueEnd = cursor.valueStart < 0 ? cursor.end : cursor.valueEnd
      const isMatch = offset >= unit.matchFrom && matcher.matches(valueStart, valueEnd) !== task.match.invert
      if (isMatch || this.hasContext) this.push(cursor, { offset, timestampMs, maxMs, isMatch, valueStart, valueEnd })
    }
    if (this.hasContext && sealed) this.keepNeighbours()
  }

  /** Batches that came another way than through our ingest may bear anything under that name. */
  private labelsOf(raw: Buffer): Labels | undefined {
    const first = new RecordCursor(raw)
    const header = first.next() ? first.header(LABELS_HEADER_KEY) : undefined
    if (header === undefined) return undefined
    if (this.lastLabels?.header.equals(header) === true) return this.lastLabels.labels
    this.lastLabels = { header: Buffer.from(header), labels: readLabels(header) }
    return this.lastLabels.labels
  }

  private push(cursor: RecordCursor, row: { offset: number; timestampMs: number; maxMs: number; isMatch: boolean; valueStart: number; valueEnd: number }): void {
    const at = this.count
    this.offsets[at] = row.offset
    this.timestampsMs[at] = row.timestampMs
    this.maximaMs[at] = row.maxMs
    this.isMatch[at] = row.isMatch
    this.valueStarts[at] = row.valueStart
    this.valueEnds[at] = row.valueEnd
    this.keyStarts[at] = cursor.keyStart
    this.keyEnds[at] = cursor.keyEnd
    this.marks[at] = cursor.mark()
    this.count = at + 1
  }

  /**
   * Keeps the matches, their neighbours, and the batch's first and last records, which may be neighbours of a match in
   * the batch before or behind. Only for batches of one source: elsewhere every record stays.
   */
  private keepNeighbours(): void {
    const { before, after } = this.task
    const total = this.count
    let kept = 0
    let lastMatch = -Infinity
    let nextMatch = this.isMatch.indexOf(true)
    for (let at = 0; at < total; at += 1) {
      if (nextMatch >= 0 && nextMatch < at) nextMatch = this.isMatch.indexOf(true, at)
      if (this.isMatch[at] === true) lastMatch = at
      const behindNext = nextMatch >= 0 && nextMatch < total && nextMatch - at <= before
      if (behindNext || at - lastMatch <= after || at < after || total - at <= before) {
        this.moveRow(at, kept)
        kept += 1
      }
    }
    this.count = kept
  }

  private moveRow(from: number, to: number): void {
    if (from === to) return
    for (const column of [this.offsets, this.timestampsMs, this.maximaMs, this.valueStarts, this.valueEnds, this.keyStarts, this.keyEnds]) {
      column[to] = column[from] ?? 0
    }
    this.isMatch[to] = this.isMatch[from] ?? false
    this.marks[to] = this.marks[from] ?? 'newline'
  }
}

function readLabels(header: Buffer): Labels | undefined {
  try {
    return decodeLabels(header)
  } catch (error) {
    if (error instanceof AppError && error.code === 'INVALID_RECORD') return undefined
    throw error
  }
}

function keyOf(cursor: RecordCursor): Buffer {
  return cursor.keyStart < 0 ? Buffer.alloc(0) : cursor.raw.subarray(cursor.keyStart, cursor.keyEnd)
}
