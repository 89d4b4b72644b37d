/**
 * Sealed batches for tests, as an agent makes them. A stream's batches follow each other by `previous`: position, tail
 * and ordinal go on from there.
 */
import { headHash, sha256Prefix, streamId, tailHash } from '../shared/hashes.ts'
import { producerOf, sealBatch, NO_PRODUCER, type RecordMark } from '../shared/record-batch.ts'
import { RecordsBuilder } from '../shared/records-builder.ts'
import { encodeSourceHeader, HEAD_BYTES_MAX, sourceHeaderSize, type SourceHeader } from '../shared/source-header.ts'
import { toPosition } from '../shared/types.ts'
import { recordKey } from '../shared/wire.ts'
import type { Zstd } from '../shared/zstd.ts'

export interface SealedBatchOptions {
  readonly zstd: Zstd
  /** Lines without their newline. Give this or `source`. */
  readonly lines?: readonly (string | Buffer)[]
  /** Raw bytes of the file; what stands behind the last newline becomes an `eof` record. */
  readonly source?: Buffer
  /** The batch before this one in the same stream. */
  readonly previous?: SealedBatch
  readonly agentId?: string
  readonly host?: string
  readonly path?: string
  /** Path in the record key; default: of the previous batch, or `path`. */
  readonly keyPath?: string
  readonly topic?: string
  readonly inode?: bigint
  readonly birthtimeNs?: bigint
  readonly generation?: number
  readonly supersedes?: number
  readonly timestampMs?: number
  readonly level?: number
  /** Bytes of the file before this, its first batch: left out on purpose. */
  readonly skipped?: Buffer
  /** Header `tr.labels` of the first record, as it is. */
  readonly labels?: Buffer
}

export interface SealedBatch {
  readonly topic: string
  readonly source: SourceHeader
  readonly batch: Buffer
  readonly recordCount: number
  readonly keyPath: string
  /** All bytes of the stream so far that tail and head hashes may need. */
  readonly sourceSoFar: Buffer
}

export function sealedBatch(options: SealedBatchOptions): SealedBatch {
  const { previous } = options
  const before = previous?.sourceSoFar ?? options.skipped ?? Buffer.alloc(0)
  const bytes = options.source ?? Buffer.concat((options.lines ?? ['a line']).flatMap((line) => [Buffer.from(line), Buffer.from('\n')]))
  const topic = options.topic ?? previous?.topic ?? 'app'
  const identity = {
    agentId: options.agentId ?? previous?.source.agentId ?? 'agent-1',
    host: options.host ?? previous?.source.host ?? 'web-1',
    path: options.path ?? previous?.source.path ?? '/var/log/app.log',
    inode: options.inode ?? previous?.source.inode ?? 42n,
    birthtimeNs: options.birthtimeNs ?? previous?.source.birthtimeNs ?? 7n,
    generation: options.generation ?? previous?.source.generation ?? 0,
  }
  const sourceSoFar = Buffer.concat([before, bytes])
  const head = sourceSoFar.subarray(0, HEAD_BYTES_MAX)
  const start = previous?.source.end ?? toPosition(before.length)
  const source: SourceHeader = {
    ...identity,
    streamId: streamId({ ...identity, topic }),
    // As agents do: only the first batch of a generation says so.
    supersedes: options.supersedes,
    firstOrdinal: previous === undefined ? 0 : previous.source.firstOrdinal + previous.recordCount,
    start,
    end: toPosition(start + bytes.length),
    tailHashStart: tailHash(before),
    tailHashEnd: tailHash(sourceSoFar),
    sourceHash: sha256Prefix(bytes),
    headLength: head.length,
    headHash: headHash(head),
    endsWithEof: bytes.length > 0 && bytes[bytes.length - 1] !== 0x0a,
    ...(options.skipped === undefined ? {} : { beginsInside: true as const }),
  }
  const keyPath = options.keyPath ?? previous?.keyPath ?? identity.path
  const { batch, recordCount } = seal({ bytes, source, key: recordKey(identity.host, keyPath), options })
  return { topic, source, batch, recordCount, keyPath, sourceSoFar }
}

/** A batch without a source header, as `POST /lines` makes it. */
export function plainBatch(options: { zstd: Zstd; lines: readonly string[]; timestampMs?: number; level?: number }): Buffer {
  const bytes = Buffer.from(options.lines.map((line) => `${line}\n`).join(''))
  return seal({ bytes, source: undefined, key: '', options }).batch
}

interface SealInput {
  readonly bytes: Buffer
  readonly source: SourceHeader | undefined
  readonly key: string
  readonly options: { readonly zstd: Zstd; readonly timestampMs?: number; readonly level?: number; readonly labels?: Buffer }
}

function seal({ bytes, source, key, options }: SealInput): { batch: Buffer; recordCount: number } {
  let lineCount = 1
  for (const byte of bytes) if (byte === 0x0a) lineCount += 1
  const sourceHeaderBytes = source === undefined ? 0 : sourceHeaderSize(source)
  const capacity = bytes.length + lineCount * (Buffer.byteLength(key) + 64) + sourceHeaderBytes + (options.labels?.length ?? 0)
  const builder = new RecordsBuilder({ capacity, key: Buffer.from(key), sourceHeaderBytes, labels: options.labels })
  const timestampMs = options.timestampMs ?? Date.UTC(2026, 0, 1)
  for (let at = 0; at < bytes.length; ) {
    const newline = bytes.indexOf(0x0a, at)
    const end = newline < 0 ? bytes.length : newline
    const mark: RecordMark = newline < 0 ? 'eof' : 'newline'
    if (!builder.append(bytes, { start: at, end, mark, timestampMs })) throw new Error('test batch is too large for its builder')
    at = end + 1
  }
  const section = builder.finish(source === undefined ? undefined : encodeSourceHeader(source))
  const frame = options.zstd.compressSync(section.raw, options.level ?? 1)
  const producer = source === undefined ? NO_PRODUCER : producerOf(source.streamId, source.firstOrdinal)
  return { batch: sealBatch(section, [frame], producer), recordCount: builder.count }
}
