/**
 * Which requests with an Idempotency-Key were stored already. The truth is in the log: each such batch carries its key,
 * so the window survives a restart. It is read back per topic, when the topic's first keyed request after a start comes.
 *
 * The window: one hour, at most the newest 100,000 keys; after a restart, of each partition the newest segments up to
 * 64 MiB, or one whole segment where that is larger. Two requests with one key at the same time are one: the second waits for the first.
 */
import { AppError } from '../../shared/errors.ts'
import { BATCH_HEADER_BYTES, decodeRecords, readBatchHeader } from '../../shared/record-batch.ts'
import { readIdempotencyMark, type IdempotencyMark } from '../../shared/plain-batch.ts'
import type { System } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import { wireLimits } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { TopicLog } from '../storage/topic-log.ts'

export interface StoredLines {
  readonly partition: number
  readonly baseOffset: Offset
  readonly records: number
}

const WINDOW_MS = 3_600_000
const KEYS_MAX = 100_000
const READ_BACK_BYTES_MAX = 64 * 1024 * 1024
const READ_BYTES = 1024 * 1024
/** Keyed batches are without a producer; agents' batches need no look inside. */
const NO_PRODUCER_ID = -1n

interface Known {
  readonly contentHash: Buffer
  readonly seenMs: number
  readonly stored: Promise<StoredLines>
}

export class IdempotencyWindow {
  private readonly system: Pick<System, 'clock' | 'log'>
  private readonly log: TopicLog
  private readonly zstd: Zstd
  /** Oldest first; the key is topic and Idempotency-Key. */
  private readonly known = new Map<string, Known>()
  private readonly readBack = new Map<string, Promise<void>>()

  constructor(options: { system: Pick<System, 'clock' | 'log'>; log: TopicLog; zstd: Zstd }) {
    this.system = options.system
    this.log = options.log
    this.zstd = options.zstd
  }

  /** Runs `store` unless this key was stored before. Throws CONFLICT when it was stored with other lines. */
  async once(topic: string, mark: IdempotencyMark, store: () => Promise<StoredLines>): Promise<{ stored: StoredLines; isRepeat: boolean }> {
    await this.readBackOnce(topic)
    this.expire()
    const id = idOf(topic, mark.key)
    const before = this.known.get(id)
    if (before !== undefined) {
      if (!before.contentHash.equals(mark.contentHash)) {
        throw new AppError('CONFLICT', `Idempotency-Key ${JSON.stringify(mark.key)} was used with other lines`, { hint: 'use a new key for each request' })
      }
      return { stored: await before.stored, isRepeat: true }
    }
    const stored = store()
    this.remember(id, { contentHash: mark.contentHash, seenMs: this.system.clock.monotonicMs(), stored })
    try {
      return { stored: await stored, isRepeat: false }
    } catch (error) {
      this.known.delete(id) // nothing is stored, so a retry must not meet this failure
      throw error
    }
  }

  /** A topic that was deleted begins without keys. */
  forget(topic: string): void {
    this.readBack.delete(topic)
    for (const id of this.known.keys()) if (id.startsWith(`${topic}/`)) this.known.delete(id)
  }

  private remember(id: string, known: Known): void {
    this.known.delete(id)
    this.known.set(id, known)
    this.expire()
  }

  private expire(): void {
    const oldestMs = this.system.clock.monotonicMs() - WINDOW_MS
    for (const [id, { seenMs }] of this.known) {
      if (seenMs > oldestMs && this.known.size <= KEYS_MAX) return
      this.known.delete(id)
    }
  }

  private readBackOnce(topic: string): Promise<void> {
    const running = this.readBack.get(topic) ?? this.readTopic(topic)
    this.readBack.set(topic, running)
    // A failed look back is tried again by the next request instead of being remembered.
    running.catch(() => this.readBack.delete(topic))
    return running
  }

  private async readTopic(topic: string): Promise<void> {
    const description = this.log.topic(topic)
    if (description === undefined) return
    const sinceMs = this.system.clock.nowMs() - WINDOW_MS
    for (const { partition } of description.partitions) await this.readPartition({ topic, partition, sinceMs })
  }

  private async readPartition({ topic, partition, sinceMs }: { topic: string; partition: number; sinceMs: number }): Promise<void> {
    const { highWatermark } = this.log.watermarks(topic, partition)
    let offset = Math.max(await this.log.offsetForTimestamp(topic, partition, sinceMs), this.oldestReadBack(topic, partition))
    while (offset < highWatermark) {
      const { batches, nextOffset } = await this.log.read({ topic, partition, offset: toOffset(offset), bytesMax: READ_BYTES, endOffset: highWatermark })
      if (nextOffset <= offset) return
      this.rememberBatches(topic, partition, batches)
      offset = nextOffset
    }
  }

  /** Base offset of the segment in which the newest 64 MiB begin: a bound on what a first request may cost. */
  private oldestReadBack(topic: string, partition: number): number {
    const segments = this.log.segments(topic, partition)
    let bytes = 0
    let oldest = 0
    for (let at = segments.length - 1; at >= 0; at -= 1) {
      const segment = segments[at]
      if (segment === undefined) break
      oldest = segment.baseOffset
      bytes += segment.sizeBytes
      if (bytes >= READ_BACK_BYTES_MAX) break
    }
    return oldest
  }

  private rememberBatches(topic: string, partition: number, batches: Buffer): void {
    for (let at = 0; at + BATCH_HEADER_BYTES <= batches.length; ) {
      const header = readBatchHeader(batches, at)
      const batch = batches.subarray(at, at + header.sizeBytes)
      at += header.sizeBytes
      if (header.producerId !== NO_PRODUCER_ID) continue
      const mark = readIdempotencyMark(decodeRecords(batch, this.zstd, wireLimits.batchContentBytesMax))
      if (mark === undefined) continue
      const ageMs = Math.max(0, this.system.clock.nowMs() - header.maxTimestampMs)
      const stored = Promise.resolve({ partition, baseOffset: header.baseOffset, records: header.recordCount })
      this.remember(idOf(topic, mark.key), { contentHash: mark.contentHash, seenMs: this.system.clock.monotonicMs() - ageMs, stored })
    }
  }
}

/** A topic name holds no slash. */
function idOf(topic: string, key: string): string {
  return `${topic}/${key}`
}
