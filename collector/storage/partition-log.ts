/**
 * One partition: its segments, its single writer and its readers. Appends are ordered by the call; a group of them is
 * written by one writev and made durable by one fdatasync, and only then the high watermark moves and the replies go
 * out. While a sync runs the next group gathers.
 *
 * `append` may be called at any time and decides at once. `roll`, `retain` and `checkpoint` wait for their turn behind
 * the group in flight. What a resolved append says survives a power cut.
 *
 * A full disk is cut back to the last good byte, refuses what waits, and goes on by itself once there is space. A failed
 * sync is never tried again: the kernel has marked the pages clean, so a second one would lie. The partition is failed
 * then, and the process has to end and to recover from disk.
 */
import { AppError, assert } from '../../shared/errors.ts'
import { patchBatch, readBatchHeader, type BatchHeader } from '../../shared/record-batch.ts'
import type { SourceHeader } from '../../shared/source-header.ts'
import type { System } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import { ByteBudget, CommitQueue, type PendingBatch } from './commit-queue.ts'
import { diskError, diskFull, isDiskFull, removeIfThere, syncData } from './disk.ts'
import { segmentFiles } from './filenames.ts'
import { Mutex } from './mutex.ts'
import type { OpenSegments } from './open-segments.ts'
import { RELATIVE_OFFSET_LIMIT, SEGMENT_BYTES_LIMIT, shouldRoll } from './policy.ts'
import type { RecoveryPointFile } from './recovery-point.ts'
import { createSegment, noteAppended, writeSegmentFiles, type ActiveSegment, type SealedSegment, type Segment } from './segment.ts'
import type { StorageMetrics } from './storage-metrics.ts'
import type { TopicConfig } from './topic-log.ts'

/** The recovery point is synced at least so often while there is something new. */
const CHECKPOINT_MS = 1000
const CHECKPOINT_BYTES = 64 * 1024 * 1024

/** What is synced and visible from now on. Called synchronously with the move of the high watermark. */
export interface CommittedBatch {
  readonly baseOffset: Offset
  readonly header: BatchHeader
  readonly source: SourceHeader | undefined
  readonly appendMs: number
}

export interface PartitionHooks {
  committed(batches: readonly CommittedBatch[]): void
  /** These were accepted and are not stored; called before anything else can be appended. */
  rolledBack(batches: readonly PendingBatch[]): void
  /** The partition is failed: the process must end. */
  fatal(error: AppError): void
}

export interface PartitionOptions {
  readonly system: Pick<System, 'fs' | 'clock' | 'log'>
  readonly topic: string
  readonly partition: number
  readonly directory: string
  readonly limits: () => TopicConfig
  readonly leaderEpoch: () => number
  readonly budgets: { readonly partitionBytesMax: number; readonly store: ByteBudget }
  readonly openSegments: OpenSegments
  readonly metrics: StorageMetrics
  readonly hooks: PartitionHooks
}

export interface PartitionStart {
  readonly sealed: readonly SealedSegment[]
  readonly active: ActiveSegment
  readonly recoveryPoint: RecoveryPointFile
  readonly logStartOffset: Offset
  /** At least the end of the active segment: offsets that were given once are never given again. */
  readonly nextOffset: Offset
  readonly isDamaged: boolean
}

type PartitionState = { readonly kind: 'ok' } | { readonly kind: 'failed'; readonly error: AppError } | { readonly kind: 'closed' }

interface Waiter {
  readonly offset: Offset
  readonly wake: () => void
}

export class PartitionLog {
  readonly topic: string
  readonly partition: number
  readonly directory: string
  isDamaged: boolean
  private readonly options: PartitionOptions
  private readonly queue: CommitQueue
  private readonly writer = new Mutex()
  private readonly recoveryPoint: RecoveryPointFile
  private readonly waiters = new Set<Waiter>()
  private readonly syncLabels: { topic: string }
  private sealed: SealedSegment[]
  private active: ActiveSegment
  private state: PartitionState = { kind: 'ok' }
  private logStart: Offset
  private watermark: Offset
  /** The offset that the next accepted batch gets; ahead of the high watermark while groups are in flight. */
  private appendEnd: Offset
  private isDraining = false
  private checkpointAt: { monotonicMs: number; bytes: number }

  constructor(options: PartitionOptions, start: PartitionStart) {
    this.options = options
    this.topic = options.topic
    this.partition = options.partition
    this.directory = options.directory
    this.isDamaged = start.isDamaged
    this.queue = new CommitQueue({ partition: new ByteBudget(options.budgets.partitionBytesMax), store: options.budgets.store })
    this.recoveryPoint = start.recoveryPoint
    this.sealed = [...start.sealed]
    this.active = start.active
    this.logStart = start.logStartOffset
    this.watermark = start.nextOffset
    this.appendEnd = start.nextOffset
    this.syncLabels = { topic: options.topic }
    this.checkpointAt = { monotonicMs: options.system.clock.monotonicMs(), bytes: 0 }
  }

  get logStartOffset(): Offset {
    return this.logStart
  }
  get highWatermark(): Offset {
    return this.watermark
  }
  get logEndOffset(): Offset {
    return this.appendEnd
  }
  get queuedBytes(): number {
    return this.queue.bytes
  }
  get isFailed(): boolean {
    return this.state.kind === 'failed'
  }

  /** Oldest first, the active one last. */
  segments(): readonly Segment[] {
    return [...this.sealed, this.active]
  }

  sizeBytes(): number {
    return this.sealed.reduce((sum, segment) => sum + segment.sizeBytes, this.active.sizeBytes)
  }

  /** Throws when the partition takes nothing now, or its queue is full; then nothing was changed. */
  checkRoom(bytes: number): void {
    if (this.state.kind === 'failed') {
      throw new AppError('STORAGE_ERROR', `${this.topic}-${this.partition} failed: ${this.state.error.message}`, { cause: this.state.error })
    }
    if (this.state.kind === 'closed') throw new AppError('UNAVAILABLE', `${this.topic}-${this.partition} is closed`, { retryAfterMs: 1000 })
    this.queue.reserve(bytes)
  }

  /** Gives the batch its offset, at once and for good unless it is rolled back. `checkRoom` must have passed for it. */
  append(batch: Buffer, source: SourceHeader | undefined): PendingBatch {
    patchBatch(batch, { baseOffset: this.appendEnd, leaderEpoch: this.options.leaderEpoch() })
    const header = readBatchHeader(batch)
    assert(header.sizeBytes === batch.length, 'an append is exactly one batch')
    this.appendEnd = toOffset(header.lastOffset + 1)
    const pending = this.queue.push({ batch, header, source })
    if (!this.isDraining) {
      this.isDraining = true
      // Floats on purpose: every outcome reaches the batches' own promises, and drain itself never rejects.
      void this.drain()
    }
    return pending
  }

  waitFor(offset: Offset, signal: AbortSignal): Promise<boolean> {
    if (this.watermark > offset) return Promise.resolve(true)
    if (signal.aborted || this.state.kind !== 'ok') return Promise.resolve(false)
    return new Promise((resolve) => {
      const finish = (): void => {
        this.waiters.delete(waiter)
        signal.removeEventListener('abort', finish)
        resolve(this.watermark > offset)
      }
      const waiter: Waiter = { offset, wake: finish }
      this.waiters.add(waiter)
      signal.addEventListener('abort', finish, { once: true })
    })
  }

  /** Seals the active segment if it holds anything (and, with `onlyIfDue`, only when it is over age). */
  async roll(options: { onlyIfDue: boolean }): Promise<void> {
    await this.exclusive('roll', async () => {
      if (this.active.sizeBytes === 0 || (options.onlyIfDue && !this.isRollDue(undefined))) return
      await this.rollActive()
    })
  }

  /** Drops this many of the oldest sealed segments. The new log start is durable before the first file goes. */
  async dropOldest(count: number): Promise<void> {
    await this.exclusive('retain', async () => {
      const dropped = this.sealed.slice(0, count)
      const last = dropped.at(-1)
      if (last === undefined) return
      this.logStart = (this.sealed[dropped.length] ?? this.active).baseOffset
      this.sealed = this.sealed.slice(dropped.length)
      await this.writeRecoveryPoint()
      for (const segment of dropped) {
        await this.options.openSegments.forget(this.directory, segment)
        const files = segmentFiles(segment.baseOffset)
        for (const name of [files.log, files.index, files.timeIndex, files.meta]) {
          await removeIfThere(this.options.system.fs, `${this.directory}/${name}`)
        }
      }
      await this.options.system.fs.syncDirectory(this.directory)
    })
  }

  /** Whether the active segment is over age. */
  isRollDueByAge(): boolean {
    return this.isRollDue(undefined)
  }

  /** Syncs the recovery point if there is something behind it and it is due, or with `force` at once. */
  async checkpoint(options: { force: boolean }): Promise<void> {
    const isWanted = (): boolean => this.checkpointAt.bytes > 0 && (options.force || this.isCheckpointDue())
    if (!isWanted()) return
    await this.exclusive('checkpoint', async () => {
      if (isWanted()) await this.writeRecoveryPoint()
    })
  }

  /** Resolves when everything that was appended before is settled. */
  async flush(): Promise<void> {
    while (this.queue.length > 0 && this.state.kind === 'ok') await this.writer.run(() => this.commitGroup())
    await this.writer.run(() => Promise.resolve())
  }

  /** Takes no more appends, finishes those that it has, and closes its files. */
  async close(): Promise<void> {
    await this.flush()
    await this.writer.run(async () => {
      if (this.state.kind === 'ok') {
        this.state = { kind: 'closed' }
        if (this.checkpointAt.bytes > 0) await this.writeRecoveryPoint()
      }
      this.refuse(this.queue.takeAll(), new AppError('UNAVAILABLE', 'the collector is shutting down', { retryAfterMs: 1000 }))
      await this.active.handle.retire()
      await this.recoveryPoint.close()
    })
    this.wakeWaiters(true)
  }

  private async drain(): Promise<void> {
    while (this.queue.length > 0 && this.state.kind === 'ok') await this.writer.run(() => this.commitGroup())
    this.isDraining = false
  }

  private async commitGroup(): Promise<void> {
    const first = this.queue.first()
    if (first === undefined || this.state.kind !== 'ok') return
    let group: PendingBatch[] = []
    try {
      if (this.isRollDue(first)) await this.rollActive()
      group = this.queue.takeGroup({
        bytes: Math.min(this.options.limits().segmentBytes, SEGMENT_BYTES_LIMIT) - this.active.sizeBytes,
        lastOffset: this.active.baseOffset + RELATIVE_OFFSET_LIMIT,
      })
      await this.writeGroup(group)
      this.publish(group)
      group = [] // settled: a failure from here on is not theirs
      if (this.isCheckpointDue()) await this.writeRecoveryPoint()
    } catch (error) {
      if (isDiskFull(error)) await this.rollBack(group, diskError(error, `append to ${this.topic}-${this.partition}`))
      else this.fail(group, diskError(error, `append to ${this.topic}-${this.partition}`))
    }
  }

  private async writeGroup(group: readonly PendingBatch[]): Promise<void> {
    const { sizeBytes } = this.active
    const { file } = this.active.handle
    let bytes = 0
    for (const pending of group) bytes += pending.batch.length
    const written = await file.write(group.map((pending) => pending.batch), sizeBytes)
    if (written !== bytes) throw diskFull(`wrote ${written} of ${bytes} bytes`)
    const startMs = this.options.system.clock.monotonicMs()
    await syncData(file, `${this.topic}-${this.partition}`)
    this.options.metrics.syncSeconds.observe((this.options.system.clock.monotonicMs() - startMs) / 1000)
  }

  /** Readers may see a record only once it would survive a crash, so all of this stands behind the sync. */
  private publish(group: readonly PendingBatch[]): void {
    const appendMs = this.options.system.clock.nowMs()
    const committed: CommittedBatch[] = []
    let bytes = 0
    let records = 0
    for (const { header, source } of group) {
      noteAppended(this.active, header, { position: this.active.sizeBytes, nowMs: appendMs })
      committed.push({ baseOffset: header.baseOffset, header, source, appendMs })
      bytes += header.sizeBytes
      records += header.recordCount
    }
    assert(this.active.index.nextOffset <= this.appendEnd, 'the high watermark does not pass the log end')
    this.watermark = this.active.index.nextOffset
    this.checkpointAt.bytes += bytes
    this.options.hooks.committed(committed)
    for (const pending of group) {
      this.queue.release(pending.batch.length)
      pending.settle.resolve(pending.header.baseOffset)
    }
    const { metrics } = this.options
    metrics.appendedBytes.add(bytes, this.syncLabels)
    metrics.appendedBatches.add(group.length, this.syncLabels)
    metrics.appendedRecords.add(records, this.syncLabels)
    this.wakeWaiters(false)
  }

  /** The disk is full: nothing of the group counts, and what gathered behind it has the wrong offsets now. */
  private async rollBack(group: readonly PendingBatch[], error: AppError): Promise<void> {
    const { system } = this.options
    try {
      await this.active.handle.file.truncate(this.active.sizeBytes)
      // Refused batches that a power cut brings back behind a sealed segment would stand where the next one begins.
      await syncData(this.active.handle.file, `${this.topic}-${this.partition}`)
    } catch (truncateError) {
      this.fail(group, diskError(truncateError, `cut ${this.topic}-${this.partition} back to its last good byte`))
      return
    }
    const refused = [...group, ...this.queue.takeAll()]
    this.appendEnd = this.watermark
    this.options.hooks.rolledBack(refused)
    this.refuse(refused, error)
    system.log.error('disk full, append refused', { topic: this.topic, partition: this.partition, batches: refused.length })
  }

  private fail(group: readonly PendingBatch[], error: AppError): void {
    this.state = { kind: 'failed', error }
    const refused = [...group, ...this.queue.takeAll()]
    this.options.hooks.rolledBack(refused)
    this.refuse(refused, new AppError('STORAGE_ERROR', error.message, { cause: error, retryable: true }))
    this.options.system.log.error('partition failed', { topic: this.topic, partition: this.partition, reason: error.message })
    this.wakeWaiters(true)
    this.options.hooks.fatal(error)
  }

  private refuse(batches: readonly PendingBatch[], error: AppError): void {
    for (const pending of batches) {
      this.queue.release(pending.batch.length)
      pending.settle.reject(error)
    }
  }

  private isRollDue(incoming: PendingBatch | undefined): boolean {
    return shouldRoll({
      sizeBytes: this.active.sizeBytes,
      baseOffset: this.active.baseOffset,
      firstAppendMs: this.active.firstAppendMs,
      incoming: incoming === undefined ? undefined : { bytes: incoming.batch.length, lastOffset: incoming.header.lastOffset },
      nowMs: this.options.system.clock.nowMs(),
      limits: this.options.limits(),
    })
  }

  /**
   * Seals the active segment and begins the next one. The recovery point covers all of the old one before the new file
   * exists: whenever a later segment is on disk, everything before it is known to be synced.
   */
  private async rollActive(): Promise<void> {
    const { fs, clock } = this.options.system
    const { active } = this
    const nowMs = clock.nowMs()
    const sealed = await writeSegmentFiles(fs, this.directory, {
      index: active.index, sizeBytes: active.sizeBytes,
      firstAppendMs: active.firstAppendMs ?? nowMs, lastAppendMs: active.lastAppendMs ?? nowMs,
    })
    await this.writeRecoveryPoint()
    const next = await createSegment(fs, this.directory, this.watermark)
    await fs.syncDirectory(this.directory)
    this.sealed = [...this.sealed, sealed]
    this.active = next
    await active.handle.retire()
  }

  private isCheckpointDue(): boolean {
    const { bytes, monotonicMs } = this.checkpointAt
    return bytes >= CHECKPOINT_BYTES || (bytes > 0 && this.options.system.clock.monotonicMs() - monotonicMs >= CHECKPOINT_MS)
  }

  private async writeRecoveryPoint(): Promise<void> {
    await this.recoveryPoint.write({
      segmentBase: this.active.baseOffset,
      position: this.active.sizeBytes,
      nextOffset: this.watermark,
      logStartOffset: this.logStart,
      firstAppendMs: this.active.firstAppendMs,
      lastAppendMs: this.active.lastAppendMs,
    })
    this.checkpointAt = { monotonicMs: this.options.system.clock.monotonicMs(), bytes: 0 }
  }

  /** Work on the files between two groups. Any error but a full disk fails the partition. */
  private async exclusive(doing: string, task: () => Promise<void>): Promise<void> {
    await this.writer.run(async () => {
      if (this.state.kind !== 'ok') return
      try {
        await task()
      } catch (error) {
        const failure = diskError(error, `${doing} ${this.topic}-${this.partition}`)
        if (!isDiskFull(error)) this.fail([], failure)
        throw failure
      }
    })
  }

  private wakeWaiters(all: boolean): void {
    for (const waiter of [...this.waiters]) if (all || this.watermark > waiter.offset) waiter.wake()
  }
}
