/**
 * The pages of one partition, oldest first. Reads ahead: while pages are consumed, a few units are already being scanned.
 * Units begin small, so that a query for a few lines answers at once, and grow; they shrink when pages are cut, because
 * what lies behind a cut has to be read again.
 */
import { readBatchHeader } from '../../shared/record-batch.ts'
import { NO_MAX, runningMaxBefore } from './running-max.ts'
import type { ScanPage } from './scan-types.ts'
import { grownUnit, shrunkUnit } from './scan-sizes.ts'
import type { Piece, StartedScan, UnitReader } from './unit-reader.ts'

interface Slot extends StartedScan {
  readonly piece: Piece
  readonly bytes: number
}

/** Pages without rows are left out unless they count something. */
export async function* forwardPages(reader: UnitReader): AsyncGenerator<ScanPage, void, void> {
  const scan = new ForwardScan(reader)
  try {
    yield* scan.pages()
  } catch (error) {
    reader.noteUnreadable(error, scan.position, reader.range.endOffset)
  }
}

class ForwardScan {
  private readonly reader: UnitReader
  private readonly slots: Slot[] = []
  private frontier: number
  private frontierMaxMs: number | undefined
  private bytes: number

  constructor(reader: UnitReader) {
    this.reader = reader
    this.frontier = reader.range.startOffset
    this.bytes = reader.context.sizes.unitBytesFirst
  }

  /** Everything before it was given. */
  get position(): number {
    return this.slots[0]?.piece.fromOffset ?? this.frontier
  }

  async *pages(): AsyncGenerator<ScanPage, void, void> {
    for (;;) {
      await this.readAhead()
      const slot = this.slots.shift()
      if (slot === undefined) return
      const page = await this.reader.settle(slot.outcome, slot.piece)
      if (page === undefined) continue
      this.bytes = (page.resumeAt === undefined ? grownUnit : shrunkUnit)(this.bytes, this.reader.context.sizes)
      if (page.resumeAt !== undefined) await this.resume(slot, { offset: page.resumeAt, maxMs: page.resumeMaxMs })
      if (page.rowCount > 0 || page.matched > 0) yield page
    }
  }

  private async readAhead(): Promise<void> {
    const { endOffset } = this.reader.range
    while (this.slots.length < this.reader.context.depth && this.frontier < endOffset) {
      const slot = await this.open({ offset: this.frontier, end: endOffset, bytesMax: this.bytes, isRepeat: false })
      if (slot === undefined) {
        this.frontier = endOffset
        return
      }
      this.slots.push(slot)
      this.frontier = slot.piece.toOffset
      if (slot.piece.batches.length > 0) this.frontierMaxMs = slot.endMaxMs
    }
  }

  /** Puts what a cut page left of its slot before all others. */
  private async resume(slot: Slot, at: { offset: number; maxMs: number }): Promise<void> {
    const rest = await this.open({ offset: at.offset, end: slot.piece.toOffset, bytesMax: slot.bytes, isRepeat: true, maxMs: at.maxMs })
    if (rest !== undefined) this.slots.unshift(rest)
  }

  private async open(at: { offset: number; end: number; bytesMax: number; isRepeat: boolean; maxMs?: number }): Promise<Slot | undefined> {
    const { reader } = this
    const read = await reader.read({ offset: at.offset, endOffset: at.end, bytesMax: at.bytesMax })
    if (read === undefined) return undefined
    const priorMaxMs = at.maxMs ?? this.frontierMaxMs ?? (await this.startMax(read.batches))
    const end = Math.min(read.nextOffset, at.end)
    const piece = {
      batches: read.batches, priorMaxMs, fromOffset: at.offset, toOffset: end, emitFrom: at.offset, emitEnd: end, isRepeat: at.isRepeat,
    }
    return { ...reader.start(piece), piece, bytes: Math.max(read.batches.length, 1) }
  }

  private async startMax(batches: Buffer): Promise<number> {
    if (batches.length === 0) return NO_MAX
    const { context, range } = this.reader
    const { baseOffset, baseTimestampMs } = readBatchHeader(batches)
    return runningMaxBefore(context.log, { topic: range.topic, partition: range.partition, offset: baseOffset, timestampMs: baseTimestampMs })
  }
}
