/**
 * One pass over a sealed segment before it leaves: its SHA-256 and what the store will call it, a check of every batch (CRC, offsets without a hole from
 * the first to the last), and the positions of the streams in it. What fails here is damaged and must not be called an
 * export. Reads in pieces of 1 MiB; holds at most one batch more.
 */
import { createHash } from 'node:crypto'
import { AppError, toAppError } from '../../shared/errors.ts'
import { hasValidCrc, readBatchHeader, readFirstRecord, type BatchHeader } from '../../shared/record-batch.ts'
import { decodeSourceHeader } from '../../shared/source-header.ts'
import type { FileSystem } from '../../shared/system.ts'
import { splitRecordKey, wireLimits } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { SegmentInfo } from '../storage/topic-log.ts'
import { splitBatches } from './batch-stream.ts'
import { peekRange } from './local-file.ts'
import type { ManifestStream } from './manifest.ts'
import type { ContentHasher } from './remote-store.ts'

export interface SegmentScan {
  readonly sha256: string
  readonly batches: number
  readonly records: number
  readonly minTimestampMs: number | null
  readonly maxTimestampMs: number | null
  /** In order of stream id. */
  readonly streams: readonly ManifestStream[]
}

interface StreamFold {
  header: Buffer
  readonly keyPath: string
  records: number
  supersedes: number | null
  readonly firstOffset: number
  lastOffset: number
}

/** CORRUPT_DATA where the segment is not what it says. */
export async function scanSegment(fs: FileSystem, segment: SegmentInfo, tools: { zstd: Zstd; fingerprint: ContentHasher | undefined }): Promise<SegmentScan> {
  const { zstd, fingerprint } = tools
  const hash = createHash('sha256')
  const onPiece = (piece: Uint8Array): void => {
    hash.update(piece)
    fingerprint?.update(piece)
  }
  const streams = new Map<string, StreamFold>()
  let expected: number = segment.baseOffset
  let batches = 0
  let records = 0
  let minTimestampMs: number | null = null
  let maxTimestampMs: number | null = null
  try {
    for await (const batch of batchesOf(fs, segment, onPiece)) {
      const header = readBatchHeader(batch)
      if (header.baseOffset !== expected) throw damaged(`offset ${header.baseOffset} stands where ${expected} should`)
      if (!hasValidCrc(batch)) throw damaged(`CRC-32C of the batch at offset ${header.baseOffset} does not match`)
      foldStream(streams, { batch, header, zstd })
      expected = header.lastOffset + 1
      batches += 1
      records += header.recordCount
      minTimestampMs = Math.min(minTimestampMs ?? header.baseTimestampMs, header.baseTimestampMs)
      maxTimestampMs = Math.max(maxTimestampMs ?? header.maxTimestampMs, header.maxTimestampMs)
    }
  } catch (error) {
    throw toDamage(error, segment)
  }
  if (expected !== segment.nextOffset) throw toDamage(damaged(`ends at offset ${expected}, not ${segment.nextOffset}`), segment)
  return { sha256: hash.digest('hex'), batches, records, minTimestampMs, maxTimestampMs, streams: listStreams(streams) }
}

function damaged(message: string): AppError {
  return new AppError('CORRUPT_DATA', message)
}

/** A disk that can't read is damage too: the same bytes will not come back by asking again. */
function toDamage(error: unknown, segment: SegmentInfo): AppError {
  const { message } = toAppError(error)
  return new AppError('CORRUPT_DATA', `segment ${segment.topic}-${segment.partition} ${segment.baseOffset}–${segment.nextOffset}: ${message}`, {
    cause: error,
    hint: 'the local segment is damaged; it is kept, and the segments behind it go on',
  })
}

function batchesOf(fs: FileSystem, segment: SegmentInfo, onPiece: (piece: Uint8Array) => void): AsyncGenerator<Buffer> {
  const pieces = async function* (): AsyncGenerator<Uint8Array> {
    for await (const piece of peekRange(fs, segment.files.log, { offset: 0, length: segment.sizeBytes })) {
      onPiece(piece)
      yield piece
    }
  }
  return splitBatches(pieces(), { isKept: false })
}

function foldStream(streams: Map<string, StreamFold>, found: { batch: Buffer; header: BatchHeader; zstd: Zstd }): void {
  const { batch, header, zstd } = found
  const { key, sourceHeader: bytes } = readFirstRecord(batch, zstd, wireLimits.batchContentBytesMax)
  if (bytes === undefined) return
  const source = decodeSourceHeader(bytes)
  const id = source.streamId.toString('hex')
  const known = streams.get(id)
  const stream = known ?? {
    header: bytes,
    keyPath: splitRecordKey(key?.toString('utf8') ?? '').path,
    records: 0,
    supersedes: null,
    firstOffset: header.baseOffset,
    lastOffset: 0,
  }
  // A view would keep its whole decompressed block alive.
  stream.header = Buffer.from(bytes)
  stream.records = source.firstOrdinal + header.recordCount
  stream.supersedes = source.supersedes ?? stream.supersedes
  stream.lastOffset = header.lastOffset
  if (known === undefined) streams.set(id, stream)
}

function listStreams(streams: ReadonlyMap<string, StreamFold>): ManifestStream[] {
  return [...streams]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([id, { header, ...rest }]) => ({ id, header: header.toString('base64'), ...rest }))
}
