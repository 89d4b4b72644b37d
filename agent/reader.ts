/**
 * The reading loop: takes files that are due, gives each one bounded turn, seals what it framed and offers it to the
 * shipper. Several turns run at once, never two of one file while it is read; a file that has more goes to the end of
 * the queue, so that a huge one does not starve the others. Reading stops when the budget is used up, when the collector
 * is away, and for a stream that already has a lot on its way.
 */
import type { BufferPool } from '../shared/buffer-pool.ts'
import { AppError, toAppError } from '../shared/errors.ts'
import { backoffMs } from '../shared/retry.ts'
import type { Counter, Gauge, System } from '../shared/system.ts'
import type { Batcher, Slot } from './batcher.ts'
import type { ByteBudget } from './byte-budget.ts'
import type { Handles } from './handles.ts'
import { afterRead, dueMs, type PaceLimits } from './pace.ts'
import { describeReadError } from './read-error.ts'
import { heldBytes, type Stream } from './stream.ts'
import type { Slots } from './slots.ts'
import { READING, type ReadCursor, type SourceFile } from './source-file.ts'
import { readTurn, type TurnOutcome } from './tailer.ts'
import { Waker } from './waker.ts'

/** Turns of one stream that may be on their way: enough to fill a request while another is under way. */
const PLACES_MAX = 24
const IDLE_WAIT_MS = 10_000

export interface ReaderEvents {
  /** The file shrank or was rewritten: its stream ends where it was read to. */
  changed(file: SourceFile, how: 'shrunk' | 'rewritten'): void
  /** Its path leads to another file or nowhere. */
  missing(file: SourceFile): void
  sealed(stream: Stream): void
  /** A turn found how far its lines go, perhaps further than before. */
  advanced(file: SourceFile): void
}

export interface ReaderDeps {
  readonly system: System
  readonly batcher: Batcher
  readonly budget: ByteBudget
  readonly slots: Slots
  readonly buffers: BufferPool
  readonly handles: Handles
  readonly pace: PaceLimits
  readonly rateLimitBytes: number | undefined
  /** Whether a file's end ends the work (`--once`). */
  readonly isOnce: boolean
  readonly isConnected: () => boolean
  readonly events: ReaderEvents
}

export class Reader {
  private readonly deps: ReaderDeps
  private readonly wakers: readonly Waker[]
  /** Files that want a turn, in order of asking. */
  private readonly queue = new Set<SourceFile>()
  private rateDebtUntilMs = 0
  private activeTurns = 0
  private readonly linesRead: Counter
  private readonly bytesRead: Counter
  private readonly batches: Counter
  private readonly bufferBytes: Gauge

  constructor(deps: ReaderDeps) {
    this.deps = deps
    const { metrics, clock } = deps.system
    this.wakers = Array.from({ length: deps.slots.count }, () => new Waker(clock))
    this.linesRead = metrics.counter('tailrace_agent_lines_read_total', 'Records framed')
    this.bytesRead = metrics.counter('tailrace_agent_bytes_read_total', 'Source bytes framed')
    this.batches = metrics.counter('tailrace_agent_batches_sealed_total', 'Batches sealed')
    this.bufferBytes = metrics.gauge('tailrace_agent_buffer_bytes', 'Bytes of all buffers together, out of memory')
  }

  get isIdle(): boolean {
    return this.queue.size === 0 && this.activeTurns === 0
  }

  /** The file may have grown; `isUrgent` skips the linger. */
  poke(file: SourceFile, options: { isUrgent?: boolean } = {}): void {
    if (file.cursor === undefined || file.state.kind === 'parked') return
    const nowMs = this.deps.system.clock.monotonicMs()
    file.isDirty = true
    if (!this.queue.has(file)) file.dueAtMs = dueMs(file.pace, nowMs, this.deps.pace)
    if (options.isUrgent === true) file.dueAtMs = nowMs
    this.queue.add(file)
    this.wake()
  }

  forget(file: SourceFile): void {
    this.queue.delete(file)
  }

  /** Streams were settled or the collector is back: what was held may go on. */
  wake(): void {
    for (const waker of this.wakers) waker.wake()
  }

  /** Ends when the signal fires and running turns are sealed. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(this.wakers.map((waker) => this.lane(waker, signal)))
  }

  private async lane(waker: Waker, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const next = this.next()
      if (typeof next === 'number') {
        if (this.isIdle) {
          this.deps.slots.trim()
          this.deps.buffers.trim()
        }
        await waker.wait(next, signal)
        continue
      }
      this.activeTurns += 1
      try {
        await this.turn(next, signal)
      } finally {
        this.activeTurns -= 1
      }
    }
  }

  /** The next file that is due, or how long to wait. */
  private next(): SourceFile | number {
    const nowMs = this.deps.system.clock.monotonicMs()
    if (this.rateDebtUntilMs > nowMs) return this.rateDebtUntilMs - nowMs
    let waitMs = IDLE_WAIT_MS
    for (const file of this.queue) {
      if (file.isBusy || this.isHeld(file, nowMs)) continue
      const dueAtMs = file.state.kind === 'failing' ? Math.max(file.dueAtMs, file.state.retryAtMs) : file.dueAtMs
      if (dueAtMs <= nowMs) {
        this.queue.delete(file)
        return file
      }
      waitMs = Math.min(waitMs, dueAtMs - nowMs)
    }
    return waitMs
  }

  /** While the collector is away only descriptors are held: what a stream has on its way is enough. */
  private isHeld(file: SourceFile, nowMs: number): boolean {
    const stream = file.cursor?.stream
    if (stream === undefined || stream.state.kind !== 'shipping') return true
    if (stream.isIdle) return false
    if (!this.deps.isConnected() || stream.retryAtMs > nowMs) return true
    return stream.placeCount >= PLACES_MAX || stream.pendingBytes > this.deps.budget.limitBytes / 2
  }

  private async turn(file: SourceFile, signal: AbortSignal): Promise<void> {
    const { cursor } = file
    if (cursor === undefined) return
    file.isBusy = true
    const slot = await this.takeSlot(signal)
    if (slot === undefined) {
      file.isBusy = false
      this.queue.add(file)
      return
    }
    let sealedBytes = 0
    try {
      sealedBytes = await this.turnInSlot(file, cursor, slot)
    } finally {
      this.deps.slots.give(slot, sealedBytes)
      this.bufferBytes.set(this.deps.budget.usedBytes)
    }
  }

  /** undefined when the signal fired first. */
  private async takeSlot(signal: AbortSignal): Promise<Slot | undefined> {
    try {
      return await this.deps.slots.take(signal)
    } catch (thrown) {
      const error = toAppError(thrown)
      if (error.code !== 'ABORTED') throw error
      return undefined
    }
  }

  /** Bytes that stay in memory for the shipper. */
  private async turnInSlot(file: SourceFile, cursor: ReadCursor, slot: Slot): Promise<number> {
    file.isDirty = false
    const sizeBefore = file.size
    const outcome = await this.read(file, cursor, slot)
    // Another turn may take the file from here on, while this one compresses: what was framed is ours alone.
    file.isBusy = false
    if (this.queue.has(file)) this.wake()
    if (outcome === undefined || file.cursor !== cursor) return 0
    if (outcome.kind === 'changed') {
      this.deps.events.changed(file, outcome.how)
      return 0
    }
    this.noteProgress(file, outcome, { hasGrown: file.size > sizeBefore })
    if (outcome.kind === 'nothing') return 0
    const place = cursor.stream.reserve()
    const sealed = await this.deps.batcher.seal(outcome.start, outcome.bytes, outcome.framed)
    this.batches.add(sealed.length)
    if (!cursor.stream.fill(place, sealed)) return 0
    this.deps.events.sealed(cursor.stream)
    return sealed.reduce((sum, batch) => sum + heldBytes(batch), 0)
  }

  private async read(file: SourceFile, cursor: ReadCursor, slot: Slot): Promise<TurnOutcome | undefined> {
    const { clock } = this.deps.system
    try {
      const handle = await this.deps.handles.of(file)
      const outcome = await readTurn(file, cursor, { handle, slot, batcher: this.deps.batcher, nowMs: () => clock.nowMs(), provesEnd: this.deps.isOnce })
      if (file.state.kind === 'failing') file.state = READING
      return outcome
    } catch (error) {
      // A file that was let go meanwhile has no descriptor any more, and nobody waits for its bytes.
      if (file.cursor === cursor) await this.readFailed(file, error)
      return undefined
    }
  }

  private noteProgress(file: SourceFile, outcome: Extract<TurnOutcome, { kind: 'nothing' | 'framed' }>, { hasGrown }: { hasGrown: boolean }): void {
    const nowMs = this.deps.system.clock.monotonicMs()
    if (outcome.partialBytes > file.partialBytes || outcome.kind === 'framed') file.lastGrowthMs = nowMs
    if (hasGrown) file.grew(nowMs)
    file.partialBytes = outcome.partialBytes
    this.deps.events.advanced(file)
    if (outcome.kind === 'nothing') {
      // A read that came back short, and nobody may ever write to the file again.
      if (file.isPolled || outcome.hasMore) this.pollLater(file, nowMs)
      return
    }
    file.pace = afterRead(file.pace, nowMs, this.deps.pace)
    const { section, source } = outcome.framed
    this.linesRead.add(section.recordCount)
    this.bytesRead.add(source.end - source.start)
    this.payRate(source.end - source.start, nowMs)
    if (outcome.framed.isFull) this.deps.slots.noteBulk()
    if (outcome.hasMore) this.poke(file, { isUrgent: true })
    else if (file.isDirty || file.isPolled) this.poke(file)
  }

  private pollLater(file: SourceFile, nowMs: number): void {
    if (!this.queue.has(file)) file.dueAtMs = nowMs + this.deps.pace.lingerMsMax
    this.queue.add(file)
  }

  private payRate(bytes: number, nowMs: number): void {
    const { rateLimitBytes } = this.deps
    if (rateLimitBytes === undefined) return
    this.rateDebtUntilMs = Math.max(nowMs, this.rateDebtUntilMs) + (bytes / rateLimitBytes) * 1000
  }

  /** The position is kept: an error is never taken for a truncation. */
  private async readFailed(file: SourceFile, thrown: unknown): Promise<void> {
    const { clock, random, log } = this.deps.system
    const reason = describeReadError(thrown)
    if (thrown instanceof AppError && thrown.code !== 'NOT_FOUND' && thrown.code !== 'UNAVAILABLE') throw thrown
    if (reason.isGone) {
      this.deps.events.missing(file)
      return
    }
    if (reason.needsReopen && !file.isDetached) await this.deps.handles.renew(file)
    const attempts = file.state.kind === 'failing' ? file.state.attempts + 1 : 0
    if (attempts === 0) log.warn('a file can not be read', { path: file.path, reason: reason.text })
    const delayMs = 250 + backoffMs(attempts, { baseMs: 1000, maxMs: 60_000 }, random.next())
    file.state = { kind: 'failing', reason: reason.text, retryAtMs: clock.monotonicMs() + delayMs, attempts }
    this.queue.add(file)
    this.wake()
  }
}
