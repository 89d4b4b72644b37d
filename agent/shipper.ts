/**
 * The sending loop: takes sealed batches from the heads of all streams, sends them in shared requests, and lets answers
 * move the streams. Two requests may be under way, but never two that carry the same stream: its batches arrive in file
 * order, whatever the network does. Batches are resent as they are until an answer settles them.
 *
 * An answer counts only if it echoes stream, start, end and CRC of what was sent.
 */
import type { BufferPool } from '../shared/buffer-pool.ts'
import { toAppError, type AppError } from '../shared/errors.ts'
import { retryDelayMs } from '../shared/retry.ts'
import type { Counter, Histogram, System } from '../shared/system.ts'
import { wireLimits, type BatchesResponse, type FrameResult } from '../shared/wire.ts'
import type { ByteBudget } from './byte-budget.ts'
import type { CollectorClient } from './collector-client.ts'
import { explainError, isConnectionLoss, REFUSED_ATTEMPT, retryLimits, type Session } from './session.ts'
import { heldBytes, type SealedBatch, type Stream } from './stream.ts'
import { Waker } from './waker.ts'

const LANES = 2
/** Bytes of one stream in one request: several streams get their share, and a request stays short on a slow line. */
const STREAM_BYTES_MAX = 4 * 1024 * 1024
const IDLE_WAIT_MS = 60_000

export interface ShipperEvents {
  /** Batches were stored and synced. */
  settled(stream: Stream): void
  /** The stream's state became `parked` or `moved`. */
  stopped(stream: Stream): void
}

interface Shipment {
  readonly stream: Stream
  readonly batches: readonly SealedBatch[]
}

export class Shipper {
  private readonly system: System
  private readonly session: Session
  private readonly budget: ByteBudget
  private readonly buffers: BufferPool
  private readonly events: ShipperEvents
  private readonly waiting = new Set<Stream>()
  private readonly wakers: readonly Waker[]
  private readonly ackedBatches: Counter
  private readonly ackedBytes: Counter
  private readonly sentBytes: Counter
  private readonly refused: Counter
  private readonly requestSeconds: Histogram

  constructor(deps: { system: System; session: Session; budget: ByteBudget; buffers: BufferPool; events: ShipperEvents }) {
    const { metrics, clock } = deps.system
    this.system = deps.system
    this.session = deps.session
    this.budget = deps.budget
    this.buffers = deps.buffers
    this.events = deps.events
    this.wakers = Array.from({ length: LANES }, () => new Waker(clock))
    this.ackedBatches = metrics.counter('tailrace_agent_batches_acked_total', 'Batches that the collector has stored and synced')
    this.ackedBytes = metrics.counter('tailrace_agent_bytes_acked_total', 'Source bytes that the collector has stored and synced')
    this.sentBytes = metrics.counter('tailrace_agent_bytes_sent_total', 'Bytes of frames sent, resends included')
    this.refused = metrics.counter('tailrace_agent_frames_refused_total', 'Frames answered with an error', ['code'])
    this.requestSeconds = metrics.histogram(
      'tailrace_agent_request_seconds',
      'From sending batches to their answer',
      [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    )
  }

  /** The head of the stream's queue may be ready to send. */
  offer(stream: Stream): void {
    this.waiting.add(stream)
    for (const waker of this.wakers) waker.wake()
  }

  /** Ends when the signal fires; a request that is under way is ended by it too. */
  async run(client: CollectorClient, signal: AbortSignal): Promise<void> {
    await Promise.all(this.wakers.map((waker) => this.lane({ client, waker, signal })))
  }

  private async lane({ client, waker, signal }: { client: CollectorClient; waker: Waker; signal: AbortSignal }): Promise<void> {
    for (let attempt = 0; !signal.aborted; ) {
      const shipments = this.load()
      if (shipments.length === 0) {
        await waker.wait(this.waitMs(), signal)
        continue
      }
      try {
        await this.session.ready(signal)
        await this.send(client, shipments, signal)
        attempt = 0
      } catch (thrown) {
        const error = toAppError(thrown)
        if (error.code === 'ABORTED') return
        this.failed(error, shipments)
        await this.pause(error.retryable ? attempt : REFUSED_ATTEMPT, error, signal)
        attempt += 1
      } finally {
        for (const { stream } of shipments) this.unload(stream)
      }
    }
  }

  /** Everything that may go now, oldest offer first. Marks its streams as in flight. */
  private load(): Shipment[] {
    const nowMs = this.system.clock.monotonicMs()
    const shipments: Shipment[] = []
    let bytesLeft = this.requestBytesMax()
    let framesLeft: number = wireLimits.framesPerRequest
    for (const stream of this.waiting) {
      if (stream.isInFlight || stream.retryAtMs > nowMs) continue
      if (stream.state.kind !== 'shipping' || !stream.hasSealed()) {
        this.waiting.delete(stream)
        continue
      }
      const batches = stream.take(Math.min(bytesLeft, STREAM_BYTES_MAX)).slice(0, framesLeft)
      const bytes = batches.reduce((sum, batch) => sum + heldBytes(batch) + FRAME_PREFIX_BYTES, 0)
      if (shipments.length > 0 && bytes > bytesLeft) break
      stream.isInFlight = true
      shipments.push({ stream, batches })
      bytesLeft -= bytes
      framesLeft -= batches.length
      if (bytesLeft <= 0 || framesLeft <= 0) break
    }
    return shipments
  }

  private requestBytesMax(): number {
    const { state } = this.session
    const server = state.kind === 'connected' ? state.greeting.limits.requestBytesMax : wireLimits.batchesRequestBytesMax
    return Math.min(server, wireLimits.batchesRequestBytesMax) / 2
  }

  private waitMs(): number {
    const nowMs = this.system.clock.monotonicMs()
    let wait = IDLE_WAIT_MS
    for (const stream of this.waiting) if (stream.retryAtMs > nowMs) wait = Math.min(wait, stream.retryAtMs - nowMs)
    return wait
  }

  private unload(stream: Stream): void {
    stream.isInFlight = false
    if (stream.state.kind === 'shipping' && stream.hasSealed()) this.offer(stream)
    else this.waiting.delete(stream)
  }

  private async send(client: CollectorClient, shipments: readonly Shipment[], signal: AbortSignal): Promise<void> {
    const startMs = this.system.clock.monotonicMs()
    const frames = shipments.flatMap(({ batches }) => batches)
    for (const frame of frames) this.sentBytes.add(heldBytes(frame) + FRAME_PREFIX_BYTES)
    const answer = await client.sendBatches(frames, signal)
    this.requestSeconds.observe((this.system.clock.monotonicMs() - startMs) / 1000)
    this.session.accepted('batches')
    this.session.seesEpoch(answer)
    this.judge(shipments, answer)
  }

  private judge(shipments: readonly Shipment[], answer: BatchesResponse): void {
    let at = 0
    for (const { stream, batches } of shipments) {
      const results = answer.frames.slice(at, at + batches.length)
      at += batches.length
      this.judgeStream(stream, batches, results)
    }
  }

  /** In file order; the first answer that is not a plain step forward settles what happens to the rest. */
  private judgeStream(stream: Stream, batches: readonly SealedBatch[], results: readonly FrameResult[]): void {
    // Given up while the request was under way: whoever did that has dropped its batches too.
    if (stream.state.kind !== 'shipping') return
    let hasSettled = false
    for (const [index, batch] of batches.entries()) {
      const result = results[index]
      if (result === undefined || stream.state.kind !== 'shipping' || !this.applyResult(stream, batch, result)) break
      hasSettled = true
    }
    if (hasSettled) {
      stream.attempts = 0
      this.events.settled(stream)
    }
    if (stream.state.kind !== 'shipping') this.events.stopped(stream)
  }

  /** Whether the batch is settled, so that the next result can be looked at. */
  private applyResult(stream: Stream, batch: SealedBatch, result: FrameResult): boolean {
    if (result.status === 'error') {
      this.refused.add(1, { code: result.code })
      this.frameError(stream, batch, result)
      return false
    }
    if (!doesEcho(stream, batch, result)) {
      this.system.log.error('an answer does not belong to its frame', { stream: stream.identity.idHex, start: batch.start })
      this.postpone(stream, undefined)
      return false
    }
    if (result.status === 'ok' || (result.status === 'have' && isBeyond(stream, batch, result))) {
      this.ackedBatches.add(1)
      this.ackedBytes.add(batch.end - batch.start)
      this.budget.release(stream.settleHead(batch))
      this.buffers.give(batch.batch)
      return true
    }
    if (result.status === 'expected' && isStanding(stream, result)) {
      // Behind a postponed batch this is only early; for the batch that is due it is nonsense, and nonsense waits.
      if (batch.start === result.position) this.postpone(stream, undefined)
      return false
    }
    stream.state = { kind: 'moved', reason: result.status }
    return false
  }

  private frameError(stream: Stream, batch: SealedBatch, error: Extract<FrameResult, { status: 'error' }>): void {
    if (error.retryable) {
      this.system.log.warn('a batch is to be sent again', { stream: stream.identity.idHex, code: error.code, message: error.message })
      this.postpone(stream, undefined)
      return
    }
    const reason = `the collector refused bytes ${batch.start}-${batch.end}: ${explainError(error)}`
    this.system.log.error('a file is parked', { path: stream.identity.keyPath, topic: stream.identity.topic, reason })
    stream.state = { kind: 'parked', reason }
  }

  private postpone(stream: Stream, retryAfterMs: number | undefined): void {
    const { clock, random } = this.system
    const delayMs = retryDelayMs({ attempt: stream.attempts, retryAfterMs, random: random.next() }, retryLimits)
    stream.retryAtMs = clock.monotonicMs() + delayMs
    stream.attempts += 1
  }

  /** The whole request failed: its outcome is unknown or it was not taken. */
  private failed(error: AppError, shipments: readonly Shipment[]): void {
    this.system.log.warn('batches are to be sent again', { code: error.code, message: error.message, streams: shipments.length })
    if (!error.retryable) this.session.refused('batches', error)
    // After a refusal of the whole request, too: the next hello tells what is wrong between us.
    if (isConnectionLoss(error) || !error.retryable) this.session.lost(error)
  }

  private async pause(attempt: number, error: AppError, signal: AbortSignal): Promise<void> {
    const { clock, random } = this.system
    const retry = { attempt, retryAfterMs: error.retryAfterMs, random: random.next() }
    try {
      await clock.sleep(retryDelayMs(retry, retryLimits), signal)
    } catch (thrown) {
      const ended = toAppError(thrown)
      if (ended.code !== 'ABORTED') throw ended
    }
  }
}

const FRAME_PREFIX_BYTES = 6

type Positioned = Exclude<FrameResult, { status: 'error' }>

function doesEcho(stream: Stream, batch: SealedBatch, result: Positioned): boolean {
  return result.stream === stream.identity.idHex && result.start === batch.start && result.end === batch.end && result.crc === batch.crc
}

/**
 * An earlier request stored this batch and its answer was lost. True only if the collector's position is the end of this
 * batch, hash and all, or of a later one that we sent in order behind it: then the bytes between are ours.
 */
function isBeyond(stream: Stream, batch: SealedBatch, result: { position: number; tailHash: string }): boolean {
  for (const later of stream.take(Number.MAX_SAFE_INTEGER)) {
    if (later.end === result.position) return later.end >= batch.end && later.tailHashEnd === result.tailHash
  }
  return false
}

/** The collector stands where we believe it does. */
function isStanding(stream: Stream, result: { position: number; tailHash: string }): boolean {
  return result.position === stream.settled.position && stream.settled.tailHash === result.tailHash
}
