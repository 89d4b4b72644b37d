/**
 * The few pairs of buffers that turns work in. Each counts in the global budget while it is in use; buffers are made on
 * first need and dropped when the agent is idle, so that a quiet agent is a small one.
 */
import { assert } from '../shared/errors.ts'
import { TAIL_BYTES_MAX } from '../shared/source-header.ts'
import type { Slot } from './batcher.ts'
import type { ByteBudget } from './byte-budget.ts'
import { compileLineRecords, LineRecords } from './line-records.ts'

/**
 * Turns at a time: with a second core one reads and frames while the other compresses on the pool. A third was not
 * faster, only larger; on one core neither was a second (measured).
 */
const SLOTS_MAX = 2

export class Slots {
  /** What one turn may hold: window, records, and the compressor's output. */
  readonly slotBytes: number
  readonly count: number
  private readonly budget: ByteBudget
  private readonly batchBytesMax: number
  private free: Slot[] = []
  /** Files are caught up with, so that framing is worth code and memory of its own. */
  private isBulk = false
  private lineRecords: { readonly module: WebAssembly.Module | undefined } | undefined

  constructor(budget: ByteBudget, options: { batchBytesMax: number; cores: number }) {
    const { batchBytesMax, cores } = options
    this.budget = budget
    this.batchBytesMax = batchBytesMax
    this.slotBytes = TAIL_BYTES_MAX + 3 * batchBytesMax
    // A part of the budget stays for what is sealed and on its way.
    this.count = Math.max(1, Math.min(SLOTS_MAX, cores, Math.floor((0.7 * budget.limitBytes) / this.slotBytes)))
  }

  async take(signal: AbortSignal): Promise<Slot> {
    await this.budget.acquire(this.slotBytes, signal)
    const free = this.free.pop()
    return free === undefined || (this.wantsLines && free.lines === undefined) ? this.make() : free
  }

  /** Not known to be impossible. */
  private get wantsLines(): boolean {
    return this.isBulk && (this.lineRecords === undefined || this.lineRecords.module !== undefined)
  }

  private make(): Slot {
    const windowBytes = TAIL_BYTES_MAX + this.batchBytesMax
    const recordsBytes = this.batchBytesMax
    const lines = this.wantsLines ? this.makeLines({ windowBytes, recordsBytes }) : undefined
    if (lines !== undefined) return { window: lines.window, records: lines.records, lines }
    return { window: Buffer.allocUnsafeSlow(windowBytes), records: Buffer.allocUnsafeSlow(recordsBytes) }
  }

  private makeLines(sizes: { windowBytes: number; recordsBytes: number }): LineRecords | undefined {
    this.lineRecords ??= { module: compileLineRecords() }
    const { module } = this.lineRecords
    if (module === undefined) return undefined
    try {
      return new LineRecords(module, sizes)
    } catch (error) {
      // V8 reserves gigabytes of addresses around such a memory, which a limit on them (ulimit -v) forbids.
      if (!(error instanceof RangeError)) throw error
      this.lineRecords = { module: undefined }
      return undefined
    }
  }

  /** A turn filled a whole batch, and more was there. */
  noteBulk(): void {
    this.isBulk = true
  }

  /** `sealedBytes`: what came out of the turn and stays counted. */
  give(slot: Slot, sealedBytes: number): void {
    this.free.push(slot)
    assert(this.free.length <= this.count, 'slots are given back once')
    this.budget.exchange({ release: this.slotBytes, take: sealedBytes })
  }

  /** Gives memory back while nothing is read. */
  trim(): void {
    this.free = []
    this.isBulk = false
  }
}
