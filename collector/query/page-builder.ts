/**
 * Collects the rows of a scan into one page: merge keys, offsets, and the rows' JSON text. Cuts the page when it is full
 * and says where to go on, so that a query holds a bounded number of bytes per partition whatever the lines are.
 */
import { splitRecordKey, type QueryRecord } from '../../shared/wire.ts'
import type { BatchRows } from './batch-rows.ts'
import { JsonText } from '../../shared/json-text.ts'
import type { DamagedRange, Direction, ScanPage, ScanTask, ScanUnit } from './scan-types.ts'
import { TimeCounts } from './time-counts.ts'

const FIRST_TEXT_BYTES = 16 * 1024

type Mark = QueryRecord['mark']

export class PageBuilder {
  private readonly unit: ScanUnit
  private readonly want: ScanTask['want']
  private readonly times: TimeCounts | undefined
  private readonly hasContext: boolean
  private readonly rowHead: string
  private readonly text: JsonText
  private readonly keys: number[] = []
  private readonly offsets: number[] = []
  private readonly ends: number[] = []
  private readonly isMatch: number[] = []
  private readonly sourceOf: number[] = []
  private readonly sources = new Map<string, number>()
  private sourceText = ''
  private sourceKey: string | undefined
  private sourceLabels = ''
  private sourceAt = 0
  /** For this batch. */
  private isSourceSet = false
  private matched = 0
  private resumeAt: number | undefined
  private resumeMaxMs = 0

  constructor(task: ScanTask, unit: ScanUnit) {
    this.unit = unit
    this.want = task.want
    // One unit holds fewer records than would be too many stretches.
    this.times = task.countByMs === undefined ? undefined : new TimeCounts(task.countByMs, Infinity)
    this.hasContext = task.want === 'rows' && task.before + task.after > 0
    this.rowHead = `{"topic":${JSON.stringify(unit.topic)},"partition":${unit.partition},"offset":`
    this.text = new JsonText(task.want === 'rows' ? FIRST_TEXT_BYTES : 0)
  }

  /** False when the page was cut and nothing more belongs into it. */
  addBatch(rows: BatchRows, priorMaxMs: number, direction: Direction): boolean {
    const step = direction === 'forward' ? 1 : -1
    this.isSourceSet = false
    for (let at = step > 0 ? 0 : rows.count - 1; at >= 0 && at < rows.count; at += step) {
      const offset = rows.offsets[at] ?? 0
      if (offset < this.unit.emitFrom || offset >= this.unit.emitEnd) continue
      if (this.want === 'count') {
        this.matched += 1
        // Arrival time, as query-spec.ts defines it.
        this.times?.add(Math.max(rows.timestampsMs[at] ?? 0, rows.baseMs), 1)
        continue
      }
      if (this.isFull()) {
        this.cutAt(step > 0 ? offset : offset + 1, priorMaxMs)
        return false
      }
      this.addRow(rows, at, Math.max(priorMaxMs, rows.maximaMs[at] ?? 0))
    }
    return true
  }

  cutAt(offset: number, priorMaxMs: number): void {
    this.resumeAt = offset
    this.resumeMaxMs = priorMaxMs
  }

  finish(facts: { batchesRead: number; contentBytes: number; damaged: readonly DamagedRange[] }): ScanPage {
    return {
      rowCount: this.keys.length,
      keys: Float64Array.from(this.keys),
      offsets: Float64Array.from(this.offsets),
      ends: Uint32Array.from(this.ends),
      text: this.text.take(),
      isMatch: Uint8Array.from(this.isMatch),
      sourceOf: Uint32Array.from(this.sourceOf),
      sources: [...this.sources.keys()],
      matched: this.matched,
      timeCounts: this.times?.pairs() ?? [],
      resumeAt: this.resumeAt,
      resumeMaxMs: this.resumeMaxMs,
      ...facts,
    }
  }

  private isFull(): boolean {
    return this.keys.length >= this.unit.rowsMax || (this.keys.length > 0 && this.text.length >= this.unit.textBytesMax)
  }

  private addRow(rows: BatchRows, at: number, key: number): void {
    const isMatch = rows.isMatch[at] === true
    this.keys.push(key)
    this.offsets.push(rows.offsets[at] ?? 0)
    this.isMatch.push(isMatch ? 1 : 0)
    if (isMatch) this.matched += 1
    if (this.want !== 'rows') return
    if (!rows.hasOneSource || !this.isSourceSet) this.setSource(rows, at)
    if (this.hasContext) this.sourceOf.push(this.sourceAt)
    this.writeRow(rows, at)
    this.ends.push(this.text.length)
  }

  /** Neighbours mostly share their key: its JSON is made once for a run of rows. */
  private setSource(rows: BatchRows, at: number): void {
    this.isSourceSet = true
    const start = rows.keyStarts[at] ?? -1
    const key = start < 0 ? '' : rows.raw.toString('utf8', start, rows.keyEnds[at])
    if (key === this.sourceKey && rows.labelsJson === this.sourceLabels) return
    this.sourceLabels = rows.labelsJson
    const { host, path } = splitRecordKey(key)
    this.sourceKey = key
    this.sourceText = `,"host":${JSON.stringify(host)},"path":${JSON.stringify(path)}${rows.labelsJson === '' ? '' : `,"labels":${rows.labelsJson}`},"line":`
    if (!this.hasContext) return
    const known = this.sources.get(key)
    this.sourceAt = known ?? this.sources.size
    if (known === undefined) this.sources.set(key, this.sourceAt)
  }

  private writeRow(rows: BatchRows, at: number): void {
    const { text } = this
    const start = rows.valueStarts[at] ?? 0
    const end = rows.valueEnds[at] ?? 0
    text.write(`${this.rowHead}${rows.offsets[at]},"ts":${rows.timestampsMs[at]}${this.sourceText}`)
    if (!text.writeString(rows.raw, start, end)) {
      const line = JSON.stringify(rows.raw.toString('utf8', start, end))
      text.write(`${line},"b64":"${rows.raw.toString('base64', start, end)}"`)
    }
    const mark = shownMark(rows, at)
    text.write(mark === undefined ? '}\n' : `,"mark":"${mark}"}\n`)
  }
}

function shownMark(rows: BatchRows, at: number): Mark {
  const mark = rows.marks[at]
  return mark === 'newline' ? undefined : mark
}
