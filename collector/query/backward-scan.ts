/**
 * The pages of one partition, newest first. The log reads forward only, so a window is taken whose start is guessed from
 * the segment's bytes per record, its units are found by their headers, and they are scanned from the last to the first.
 * The window grows as long as more is wanted: the last hundred lines cost one small read.
 */
import { readBatchHeader, type BatchHeader } from '../../shared/record-batch.ts'
import { NO_MAX, runningMaxBefore } from './running-max.ts'
import type { ScanPage } from './scan-types.ts'
import { grownUnit } from './scan-sizes.ts'
import type { Piece, StartedScan, UnitReader } from './unit-reader.ts'
import { windowStart } from './window-start.ts'

/** A bad guess may meet far more bytes than meant; older units than these are found again by the next window. */
const UNITS_MAX = 64

interface Unit {
  readonly start: number
  readonly end: number
  readonly priorMaxMs: number
  /** The bytes themselves, kept for the newest unit only. */
  readonly batches: Buffer | undefined
  readonly bytes: number
}

interface Slot extends StartedScan {
  readonly unit: Unit
  readonly piece: Piece
}

/** Pages without rows are left out unless they count something. */
export async function* backwardPages(reader: UnitReader): AsyncGenerator<ScanPage, void, void> {
  const scan = new BackwardScan(reader)
  try {
    yield* scan.pages()
  } catch (error) {
    reader.noteUnreadable(error, reader.range.startOffset, scan.position)
  }
}

class BackwardScan {
  private readonly reader: UnitReader
  private readonly slots: Slot[] = []
  /** Newest last. */
  private units: readonly Unit[] = []
  /** Everything from here on is in units, slots or done. */
  private high: number
  private windowBytes: number

  constructor(reader: UnitReader) {
    this.reader = reader
    this.high = reader.range.endOffset
    this.windowBytes = reader.context.sizes.unitBytesFirst
  }

  /** Everything from here on was given. */
  get position(): number {
    return this.slots[0]?.piece.toOffset ?? this.units.at(-1)?.end ?? this.high
  }

  async *pages(): AsyncGenerator<ScanPage, void, void> {
    for (;;) {
      await this.readAhead()
      const slot = this.slots.shift()
      if (slot === undefined) return
      const page = await this.reader.settle(slot.outcome, slot.piece)
      if (page === undefined) continue
      if (page.resumeAt !== undefined) {
        const rest = await this.open(slot.unit, { emitEnd: page.resumeAt, isRepeat: true })
        if (rest !== undefined) this.slots.unshift(rest)
      }
      if (page.rowCount > 0 || page.matched > 0) yield page
    }
  }

  private async readAhead(): Promise<void> {
    while (this.slots.length < this.reader.context.depth) {
      if (this.units.length === 0) {
        if (this.high <= this.reader.range.startOffset) return
        await this.findUnits()
        continue
      }
      const unit = this.units.at(-1)
      if (unit === undefined) return
      this.units = this.units.slice(0, -1)
      const slot = await this.open(unit, { emitEnd: unit.end, isRepeat: false })
      if (slot !== undefined) this.slots.push(slot)
    }
  }

  private async open(unit: Unit, options: { emitEnd: number; isRepeat: boolean }): Promise<Slot | undefined> {
    const { reader } = this
    const batches = unit.batches ?? (await reader.read({ offset: unit.start, endOffset: unit.end, bytesMax: unit.bytes }))?.batches
    if (batches === undefined) return undefined
    const piece = {
      batches, priorMaxMs: unit.priorMaxMs, fromOffset: unit.start, toOffset: unit.end, emitFrom: 0, emitEnd: options.emitEnd, isRepeat: options.isRepeat,
    }
    return { ...reader.start(piece), unit: { ...unit, batches: undefined }, piece }
  }

  /** Fills `units` from a window below `high`, and lowers `high` to its start. */
  private async findUnits(): Promise<void> {
    const { topic, partition, startOffset } = this.reader.range
    const from = windowStart(this.reader.context.log, { topic, partition, high: this.high, low: startOffset, bytes: this.windowBytes })
    const units: Unit[] = []
    let maxMs: number | undefined
    for (let offset: number = from; offset < this.high; ) {
      const read = await this.reader.read({ offset, endOffset: this.high, bytesMax: this.reader.context.sizes.unitBytesMax })
      if (read === undefined) break
      const next = Math.min(read.nextOffset, this.high)
      if (read.batches.length > 0) {
        const first = readBatchHeader(read.batches)
        maxMs ??= await this.maxBefore(first)
        const batches = next >= this.high ? read.batches : undefined
        units.push({ start: Math.min(first.baseOffset, offset), end: next, priorMaxMs: maxMs, batches, bytes: read.batches.length })
        maxMs = Math.max(maxMs, maxOf(read.batches))
        if (units.length > UNITS_MAX) units.shift()
      }
      offset = next
    }
    this.units = units
    this.high = units[0]?.start ?? from
    this.windowBytes = grownUnit(this.windowBytes, this.reader.context.sizes)
  }

  private maxBefore(first: BatchHeader): Promise<number> {
    const { context, range } = this.reader
    return runningMaxBefore(context.log, {
      topic: range.topic, partition: range.partition, offset: first.baseOffset, timestampMs: first.baseTimestampMs,
    })
  }
}

function maxOf(batches: Buffer): number {
  let maxMs = NO_MAX
  for (let at = 0; at < batches.length; ) {
    const header = readBatchHeader(batches, at)
    maxMs = Math.max(maxMs, header.maxTimestampMs)
    at += header.sizeBytes
  }
  return maxMs
}
