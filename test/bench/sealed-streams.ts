/**
 * Sealed batches in memory, made as an agent makes them, with its own batcher: streams whose positions and tail hashes
 * follow each other, in requests of a wanted size. The source text repeats itself; headers, hashes and ids do not.
 */
import { Batcher, afterBatch, type TurnStart } from '../../agent/batcher.ts'
import { BufferPool } from '../../shared/buffer-pool.ts'
import { newIdentity, type StreamIdentity } from '../../agent/stream.ts'
import { hashText, headHash, NO_TAIL_HASH_TEXT, partitionOf } from '../../shared/hashes.ts'
import { TAIL_BYTES_MAX } from '../../shared/source-header.ts'
import { encodeFrame, recordKey, wireLimits } from '../../shared/wire.ts'
import { loadZstd, type Zstd } from '../../shared/zstd.ts'
import { accessLines } from './lines.ts'

const BATCH_BYTES = 1024 * 1024
const TEXT_BYTES = 32 * 1024 * 1024
const AGENT = 'bench-agent'
const HOST = 'bench-host'

export interface SealedRequest {
  readonly body: Buffer
  readonly batches: number
  readonly records: number
  readonly sourceBytes: number
  readonly sealedBytes: number
}

export interface SealedStreamsOptions {
  readonly topic: string
  readonly sealedBytes: number
  readonly streams: number
  readonly partitions: number
  /** A request is closed when another batch would make it larger. */
  readonly requestBytesMax: number
  readonly compressLevel: number
}

/** The requests of each stream, in order. */
export async function sealStreams(options: SealedStreamsOptions): Promise<readonly (readonly SealedRequest[])[]> {
  const zstd = await loadZstd()
  const text = sourceText()
  const share = options.sealedBytes / options.streams
  return Promise.all(Array.from({ length: options.streams }, (_, at) => sealStream(identityOf(at, options), { ...options, sealedBytes: share, zstd, text })))
}

function sourceText(): Buffer {
  const make = accessLines(6)
  const text = Buffer.alloc(TEXT_BYTES)
  let at = 0
  for (let sequence = 0; at + 200 <= TEXT_BYTES; sequence += 1) at += text.write(make(sequence), at, 'latin1')
  return text.subarray(0, at)
}

/** Paths are tried until one falls into the partition that is due: streams spread evenly, as many files would. */
function identityOf(at: number, { topic, partitions }: SealedStreamsOptions): StreamIdentity {
  for (let attempt = 0; attempt < 10_000; attempt += 1) {
    const keyPath = `/var/log/bench-${at}-${attempt}.log`
    if (partitionOf(Buffer.from(recordKey(HOST, keyPath)), partitions) !== at % partitions) continue
    return newIdentity({ agentId: AGENT, topic, inode: BigInt(at + 1), birthtimeNs: 1n, generation: 0, supersedes: undefined, keyPath })
  }
  throw new Error('no path falls into the partition')
}

interface StreamInput extends SealedStreamsOptions {
  readonly zstd: Zstd
  readonly text: Buffer
}

async function sealStream(identity: StreamIdentity, input: StreamInput): Promise<SealedRequest[]> {
  const batcher = new Batcher(input.zstd, {
    agentId: AGENT, host: HOST, batchBytesMax: BATCH_BYTES, sealedBytesMax: wireLimits.batchBytesMax, lineBytesMax: 512 * 1024,
    compressLevel: input.compressLevel, buffers: new BufferPool(0),
  })
  const slot = { window: Buffer.alloc(TAIL_BYTES_MAX + BATCH_BYTES), records: Buffer.alloc(BATCH_BYTES) }
  const requests = new RequestBuilder(input.requestBytesMax)
  let start: TurnStart = {
    identity, path: identity.keyPath, labels: undefined, position: 0, tailHash: NO_TAIL_HASH_TEXT, ordinal: 0, headLength: 0, headHash: hashText(headHash(Buffer.alloc(0))),
  }
  while (requests.sealedBytes < input.sealedBytes) {
    const overlap = Math.min(TAIL_BYTES_MAX, start.position)
    fill(slot.window.subarray(0, overlap + BATCH_BYTES), { text: input.text, position: start.position - overlap })
    const bytes = { slot, overlap, fresh: BATCH_BYTES, isFinal: false, timestampMs: 1_750_000_000_000 + start.ordinal }
    const framed = batcher.frame(start, bytes)
    if (framed === undefined) throw new Error('a window of 1 MiB holds a line')
    for (const sealed of await batcher.seal(start, bytes, framed)) requests.add(sealed)
    start = { ...start, ...afterBatch(start, framed) }
  }
  return requests.finish()
}

/** The endless source: the text over and over. */
function fill(target: Buffer, { text, position }: { text: Buffer; position: number }): void {
  for (let at = 0; at < target.length; ) at += text.copy(target, at, (position + at) % text.length)
}

class RequestBuilder {
  sealedBytes = 0
  private readonly bytesMax: number
  private readonly requests: SealedRequest[] = []
  private frames: Buffer[] = []
  private counts = { batches: 0, records: 0, sourceBytes: 0, sealedBytes: 0 }

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax
  }

  add(sealed: { envelope: Buffer; batch: Buffer; recordCount: number; start: number; end: number }): void {
    if (this.counts.sealedBytes + sealed.batch.length > this.bytesMax && this.counts.batches > 0) this.close()
    this.frames.push(...encodeFrame(sealed))
    this.counts = {
      batches: this.counts.batches + 1,
      records: this.counts.records + sealed.recordCount,
      sourceBytes: this.counts.sourceBytes + sealed.end - sealed.start,
      sealedBytes: this.counts.sealedBytes + sealed.batch.length,
    }
    this.sealedBytes += sealed.batch.length
  }

  finish(): SealedRequest[] {
    if (this.counts.batches > 0) this.close()
    return this.requests
  }

  private close(): void {
    this.requests.push({ body: Buffer.concat(this.frames), ...this.counts })
    this.frames = []
    this.counts = { batches: 0, records: 0, sourceBytes: 0, sealedBytes: 0 }
  }
}
