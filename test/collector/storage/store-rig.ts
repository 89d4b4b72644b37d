/** A store on a simulated disk, with the few lines that most storage tests need. */
import { openTopicStore, type TopicStore, type TopicStoreOptions } from '../../../collector/storage/topic-store.ts'
import type { TopicConfig } from '../../../collector/storage/topic-log.ts'
import type { AppError } from '../../../shared/errors.ts'
import { readBatchHeader } from '../../../shared/record-batch.ts'
import { toOffset } from '../../../shared/types.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { sealedBatch, type SealedBatch, type SealedBatchOptions } from '../../sealed-batch.ts'
import { simulate, type SimOptions, type Simulation } from '../../sim-system.ts'

export const CONTENT_MAX = 8 * 1024 * 1024
export const DATA = '/data'

export const defaults: TopicConfig = {
  partitions: 1, segmentBytes: 64 * 1024, segmentAgeMs: 3_600_000, retentionBytes: undefined, retentionAgeMs: undefined,
}

export interface Rig {
  readonly sim: Simulation
  readonly zstd: Zstd
  readonly store: TopicStore
  readonly fatal: AppError[]
  /** The next batch of a stream; without `previous` it begins one. */
  readonly batch: (options?: Omit<SealedBatchOptions, 'zstd'>) => SealedBatch
  /** A new life over the same disk: call `sim.fs.crash()` or `kill()` before. */
  readonly reopen: (options?: Partial<TopicStoreOptions>) => Promise<Rig>
}

/** Tests that open many stores pass `zstd`: loading the WASM codec takes longer than all the rest. */
export async function openRig(options: SimOptions & { store?: Partial<TopicStoreOptions>; zstd?: Zstd } = {}): Promise<Rig> {
  const zstd = options.zstd ?? (await loadZstd())
  return openOn(simulate(options), zstd, options.store ?? {})
}

async function openOn(sim: Simulation, zstd: Zstd, overrides: Partial<TopicStoreOptions>): Promise<Rig> {
  const fatal: AppError[] = []
  const store = await openTopicStore(sim.system, {
    dataDir: DATA, zstd, defaults, batchContentBytesMax: CONTENT_MAX, onFatal: (error) => fatal.push(error), ...overrides,
  })
  return {
    sim, zstd, store, fatal,
    batch: (batchOptions = {}) => sealedBatch({ zstd, timestampMs: sim.clock.nowMs(), ...batchOptions }),
    reopen: (next = {}) => openOn(sim, zstd, { ...overrides, ...next }),
  }
}

export interface StoredBatch {
  readonly baseOffset: number
  readonly lastOffset: number
  /** Without the fields that the collector patches. */
  readonly body: Buffer
  readonly batch: Buffer
}

export interface ReadAll {
  readonly batches: readonly StoredBatch[]
  readonly missing: readonly { fromOffset: number; toOffset: number; reason: string }[]
  readonly nextOffset: number
}

/** Everything below the high watermark, read in small steps. */
export async function readAll(store: TopicStore, topic = 'app', partition = 0, bytesMax = 4096): Promise<ReadAll> {
  const batches: StoredBatch[] = []
  const missing: { fromOffset: number; toOffset: number; reason: string }[] = []
  const { highWatermark } = store.watermarks(topic, partition)
  let offset = toOffset(0)
  for (let rounds = 0; offset < highWatermark; rounds += 1) {
    if (rounds > 100_000) throw new Error('reading makes no progress')
    const result = await store.read({ topic, partition, offset, bytesMax })
    missing.push(...result.missing)
    batches.push(...splitBatches(result.batches))
    if (result.nextOffset <= offset) throw new Error(`nextOffset ${result.nextOffset} after ${offset}`)
    offset = result.nextOffset
  }
  return { batches, missing, nextOffset: offset }
}

export function splitBatches(buffer: Buffer): StoredBatch[] {
  const out: StoredBatch[] = []
  for (let at = 0; at < buffer.length; ) {
    const { sizeBytes, baseOffset, lastOffset } = readBatchHeader(buffer, at)
    const batch = Buffer.from(buffer.subarray(at, at + sizeBytes))
    out.push({ baseOffset, lastOffset, body: bodyOf(batch), batch })
    at += sizeBytes
  }
  return out
}

/** What of a batch must come back as it was sent. */
export function bodyOf(batch: Buffer): Buffer {
  return Buffer.concat([batch.subarray(8, 12), batch.subarray(16)])
}

/** Bytes of a line that do not compress at all, made quickly. */
export function noiseBytes(bytes: number, seed: number): Buffer {
  const out = Buffer.alloc(bytes)
  let state = (seed * 2654435761 + 1) >>> 0
  for (let at = 0; at < bytes; at += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    const byte = state >>> 24
    out[at] = byte === 0x0a ? 0x0b : byte
  }
  return out
}

/** A line that does not compress, so that sizes are what they look like. */
export function noise(bytes: number, seed: number): string {
  let state = seed * 2654435761 + 1
  let out = ''
  while (out.length < bytes) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    out += state.toString(36)
  }
  return out.slice(0, bytes)
}
