/**
 * The few pairs of buffers that turns work in. Each counts in the global budget while it is in use; buffers are made on
 * first need and dropped when the agent is idle, so that a quiet agent is a small one.
 */
import { assert } from '../shared/errors.ts'
import { TAIL_BYTES_MAX } from '../shared/source-header.ts'
import type { Slot } from './batcher.ts'
import type { ByteBudget } from './byte-budget.ts'

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
    return this.free.pop() ?? { window: Buffer.allocUnsafeSlow(TAIL_BYTES_MAX + this.batchBytesMax), records: Buffer.allocUnsafeSlow(this.batchBytesMax) }
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
  }
}
