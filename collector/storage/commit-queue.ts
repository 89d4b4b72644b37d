/**
 * What waits for a partition's writer: batches in order, with the promise of each. Bounded in bytes, per partition and
 * for the whole store: what does not fit is refused before anything is changed.
 */
import { AppError } from '../../shared/errors.ts'
import type { BatchHeader } from '../../shared/record-batch.ts'
import type { SourceHeader } from '../../shared/source-header.ts'
import type { Offset } from '../../shared/types.ts'

/** One group is one writev and one sync. */
export const GROUP_BYTES_MAX = 16 * 1024 * 1024
const GROUP_BATCHES_MAX = 512
const RETRY_AFTER_MS = 500

export interface PendingBatch {
  readonly batch: Buffer
  readonly header: BatchHeader
  /** Undefined for a plain batch. */
  readonly source: SourceHeader | undefined
  /** Resolves once the batch is synced and visible to readers; rejects when it was not stored, or is unknown to be. */
  readonly done: Promise<Offset>
  readonly settle: { resolve(baseOffset: Offset): void; reject(error: AppError): void }
}

/** Bytes that all partitions' queues hold together. */
export class ByteBudget {
  readonly limit: number
  private used = 0

  constructor(limit: number) {
    this.limit = limit
  }

  get usedBytes(): number {
    return this.used
  }

  /** A single batch always fits an empty budget. */
  take(bytes: number): boolean {
    if (this.used > 0 && this.used + bytes > this.limit) return false
    this.used += bytes
    return true
  }

  give(bytes: number): void {
    this.used -= bytes
  }
}

export class CommitQueue {
  private readonly partitionBudget: ByteBudget
  private readonly storeBudget: ByteBudget
  private waiting: PendingBatch[] = []

  constructor(budgets: { partition: ByteBudget; store: ByteBudget }) {
    this.partitionBudget = budgets.partition
    this.storeBudget = budgets.store
  }

  get length(): number {
    return this.waiting.length
  }

  get bytes(): number {
    return this.partitionBudget.usedBytes
  }

  /** Throws UNAVAILABLE when a budget is used up; then nothing was taken. Pair with `push` or `release`. */
  reserve(bytes: number): void {
    if (this.partitionBudget.take(bytes)) {
      if (this.storeBudget.take(bytes)) return
      this.partitionBudget.give(bytes)
    }
    throw new AppError('UNAVAILABLE', 'more bytes wait for the disk than memory is set aside for', {
      retryAfterMs: RETRY_AFTER_MS, hint: 'the disk is slower than what arrives; agents wait and try again',
    })
  }

  /** The batch's bytes must have been reserved. */
  push(input: Pick<PendingBatch, 'batch' | 'header' | 'source'>): PendingBatch {
    let settle: PendingBatch['settle'] | undefined
    const done = new Promise<Offset>((resolve, reject) => {
      settle = { resolve, reject }
    })
    if (settle === undefined) throw new Error('BUG: a promise runs its executor at once')
    const pending: PendingBatch = { ...input, done, settle }
    this.waiting.push(pending)
    return pending
  }

  first(): PendingBatch | undefined {
    return this.waiting[0]
  }

  /** The next group: as many as fit one write and the room that the segment has left, at least one. */
  takeGroup(room: { bytes: number; lastOffset: number }): PendingBatch[] {
    const bytesMax = Math.min(GROUP_BYTES_MAX, room.bytes)
    let bytes = 0
    let count = 0
    for (const { batch, header } of this.waiting) {
      if (count > 0 && (bytes + batch.length > bytesMax || header.lastOffset > room.lastOffset || count === GROUP_BATCHES_MAX)) break
      bytes += batch.length
      count += 1
    }
    const group = this.waiting.slice(0, count)
    this.waiting = this.waiting.slice(count)
    return group
  }

  takeAll(): PendingBatch[] {
    const all = this.waiting
    this.waiting = []
    return all
  }

  /** The batch is settled one way or the other: its bytes count no longer. */
  release(bytes: number): void {
    this.partitionBudget.give(bytes)
    this.storeBudget.give(bytes)
  }
}
