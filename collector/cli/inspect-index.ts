/**
 * Whether a segment's two indexes agree with its log, as kafka-dump-log judges it. Fed with every batch in order while
 * the log is scanned; holds only the index files.
 */
import type { BatchHeader } from '../../shared/record-batch.ts'
import { toOffset } from '../../shared/types.ts'
import { OffsetIndex } from '../storage/offset-index.ts'
import { TimeIndex } from '../storage/time-index.ts'

const OFFSET_ENTRY_BYTES = 8
const TIME_ENTRY_BYTES = 12

export interface IndexFiles {
  /** undefined when the file is not there: the active segment keeps its indexes in memory. */
  readonly offsets: Buffer | undefined
  readonly times: Buffer | undefined
}

export class IndexAudit {
  readonly problems: string[] = []
  readonly offsetEntries: number
  readonly timeEntries: number
  private readonly offsets: OffsetIndex
  private readonly times: TimeIndex
  private nextOffsetEntry = 0
  private nextTimeEntry = 0
  private largestMs = -Infinity

  constructor(baseOffset: number, files: IndexFiles) {
    this.offsets = new OffsetIndex(toOffset(baseOffset), files.offsets ?? Buffer.alloc(0))
    this.times = new TimeIndex(toOffset(baseOffset), files.times ?? Buffer.alloc(0))
    this.offsetEntries = this.offsets.entries
    this.timeEntries = this.times.entries
    if ((files.offsets?.length ?? 0) % OFFSET_ENTRY_BYTES !== 0) this.problems.push('.index: its size is not whole entries')
    if ((files.times?.length ?? 0) % TIME_ENTRY_BYTES !== 0) this.problems.push('.timeindex: its size is not whole entries')
  }

  add(header: BatchHeader, position: number): void {
    this.largestMs = Math.max(this.largestMs, header.maxTimestampMs)
    this.checkOffsets(header, position)
    this.checkTimes(header)
  }

  finish(): void {
    if (this.nextOffsetEntry < this.offsetEntries) this.complain(`.index: ${this.offsetEntries - this.nextOffsetEntry} entries point behind the last batch`)
    if (this.nextTimeEntry < this.timeEntries) this.complain(`.timeindex: ${this.timeEntries - this.nextTimeEntry} entries are behind the last batch`)
    if (this.timeEntries > 0 && this.times.at(this.timeEntries - 1).timestampMs < this.largestMs) {
      this.complain(`.timeindex: ends before the largest timestamp ${this.largestMs}`)
    }
  }

  private checkOffsets(header: BatchHeader, position: number): void {
    while (this.nextOffsetEntry < this.offsetEntries) {
      const entry = this.offsets.at(this.nextOffsetEntry)
      if (entry.position > position) return
      this.nextOffsetEntry += 1
      if (entry.position < position) this.complain(`.index: entry at position ${entry.position} points into a batch`)
      else if (entry.lastOffset !== header.lastOffset) {
        this.complain(`.index: position ${position} holds last offset ${header.lastOffset}, the entry says ${entry.lastOffset}`)
      }
    }
  }

  private checkTimes(header: BatchHeader): void {
    while (this.nextTimeEntry < this.timeEntries) {
      const entry = this.times.at(this.nextTimeEntry)
      if (entry.offset > header.lastOffset) return
      this.nextTimeEntry += 1
      if (entry.offset !== header.lastOffset) this.complain(`.timeindex: offset ${entry.offset} is not the last one of a batch`)
      else if (entry.timestampMs !== header.maxTimestampMs || entry.timestampMs < this.largestMs) {
        this.complain(`.timeindex: offset ${entry.offset} has largest timestamp ${header.maxTimestampMs}, the entry says ${entry.timestampMs}`)
      }
    }
  }

  private complain(text: string): void {
    if (this.problems.length < 20) this.problems.push(text)
  }
}
