/**
 * One turn's bytes to sealed batches: frames the lines in a window, hashes what ties them to their source, compresses
 * and seals. A batch whose compressed form is too large for a Kafka cluster (incompressible bytes) is framed again with
 * half the source bytes, until it fits; one record always fits, since `lineBytesMax` is bounded by config.
 *
 * `frame` runs without waiting, so that the caller can move the file's read position in the same breath; `seal` may run
 * on the thread pool. The slot's buffers belong to the call until it has ended.
 */
import type { BufferPool } from '../shared/buffer-pool.ts'
import { assert } from '../shared/errors.ts'
import { hashBytes, hashText, headHash, sha256Prefix, tailHash, type HashText } from '../shared/hashes.ts'
import { producerOf, sealBatch, type RecordsSection } from '../shared/record-batch.ts'
import { RecordsBuilder, type LineAppender } from '../shared/records-builder.ts'
import { encodeSourceHeader, HEAD_BYTES_MAX, sourceHeaderSize, TAIL_BYTES_MAX, type SourceHeader } from '../shared/source-header.ts'
import { toPosition } from '../shared/types.ts'
import { encodeEnvelope, recordKey } from '../shared/wire.ts'
import type { Zstd } from '../shared/zstd.ts'
import { frameLines } from './framing.ts'
import type { SealedBatch, StreamIdentity } from './stream.ts'

/** Memory of one turn: the bytes read and the records built of them. */
export interface Slot {
  readonly window: Buffer
  readonly records: Buffer
  /** Appends lines of that window to those records, where the slot is made for it. */
  readonly lines?: LineAppender
}

export interface BatcherOptions {
  readonly agentId: string
  readonly host: string
  /** Records section of a batch, before compression. */
  readonly batchBytesMax: number
  /** A whole sealed batch. */
  readonly sealedBytesMax: number
  readonly lineBytesMax: number
  readonly compressLevel: number
  readonly buffers: BufferPool
}

/** Where a stream stands before a batch. */
export interface ReadPoint {
  readonly position: number
  readonly tailHash: HashText
  /** Number of the next record in the stream. */
  readonly ordinal: number
  readonly headLength: number
  readonly headHash: HashText
}

export interface TurnStart extends ReadPoint {
  readonly identity: StreamIdentity
  readonly path: string
  /** Encoded. */
  readonly labels: Buffer | undefined
}

export interface TurnBytes {
  readonly slot: Slot
  /** Source bytes before the position that stand in the window: min(64 KiB, position). */
  readonly overlap: number
  /** Source bytes behind the position that stand in the window after them. */
  readonly fresh: number
  /** The file ends here for good, so an unterminated line is a line. */
  readonly isFinal: boolean
  readonly timestampMs: number
}

export interface FramedTurn {
  readonly section: RecordsSection
  readonly source: SourceHeader
  readonly header: Buffer
  readonly tailHashEnd: HashText
  /** The batch was full: more may follow at once. */
  readonly isFull: boolean
}

export class Batcher {
  private readonly zstd: Zstd
  private readonly options: BatcherOptions

  constructor(zstd: Zstd, options: BatcherOptions) {
    this.zstd = zstd
    this.options = options
  }

  /** undefined when there is no whole line yet. */
  frame(start: TurnStart, bytes: TurnBytes, sourceBytesMax: number = Number.MAX_SAFE_INTEGER): FramedTurn | undefined {
    const { agentId, host } = this.options
    const builder = new RecordsBuilder({
      capacity: this.options.batchBytesMax,
      key: Buffer.from(recordKey(host, start.identity.keyPath)),
      sourceHeaderBytes: sourceHeaderSize({ agentId, host, path: start.path }),
      labels: start.labels,
      buffer: bytes.slot.records,
      lines: bytes.slot.lines,
    })
    const framed = frameLines(builder, {
      window: bytes.slot.window,
      from: bytes.overlap,
      to: bytes.overlap + bytes.fresh,
      lineBytesMax: this.options.lineBytesMax,
      sourceBytesMax,
      isFinal: bytes.isFinal,
      timestampMs: bytes.timestampMs,
    })
    if (framed.end === bytes.overlap) return undefined
    const source = this.sourceHeader(start, bytes, framed)
    const header = encodeSourceHeader(source)
    return { section: builder.finish(header), source, header, tailHashEnd: hashText(source.tailHashEnd), isFull: framed.isFull }
  }

  private sourceHeader(start: TurnStart, bytes: TurnBytes, framed: { end: number; endsWithEof: boolean }): SourceHeader {
    const { window } = bytes.slot
    const { identity } = start
    const end = start.position + framed.end - bytes.overlap
    return {
      streamId: hashBytes(identity.idHex),
      agentId: this.options.agentId,
      host: this.options.host,
      path: start.path,
      inode: identity.inode,
      birthtimeNs: identity.birthtimeNs,
      generation: identity.generation,
      supersedes: identity.supersedes,
      firstOrdinal: start.ordinal,
      start: toPosition(start.position),
      end: toPosition(end),
      tailHashStart: hashBytes(start.tailHash),
      tailHashEnd: tailHash(window.subarray(Math.max(0, framed.end - TAIL_BYTES_MAX), framed.end)),
      sourceHash: sha256Prefix(window.subarray(bytes.overlap, framed.end)),
      ...headAt(start, { window, overlap: bytes.overlap, end }),
      endsWithEof: framed.endsWithEof,
      ...(start.ordinal === 0 && start.position > 0 ? { beginsInside: true as const } : {}),
    }
  }

  /** The sealed batches of a framed turn: one, unless it had to be split. */
  async seal(start: TurnStart, bytes: TurnBytes, framed: FramedTurn): Promise<SealedBatch[]> {
    const whole = await this.sealOne(framed, start.identity)
    if (whole.batch.length <= this.options.sealedBytesMax) return [whole]
    return this.sealInParts(start, bytes, framed)
  }

  /** Frames the same bytes again in smaller pieces, each sealed before the records buffer is used for the next. */
  private async sealInParts(start: TurnStart, bytes: TurnBytes, whole: FramedTurn): Promise<SealedBatch[]> {
    const end: number = whole.source.end
    const sealed: SealedBatch[] = []
    let piecesBytesMax = Math.ceil((end - start.position) / 2)
    let at = start
    let window = bytes
    while (at.position < end) {
      const framed = this.frame(at, window, Math.min(piecesBytesMax, end - at.position))
      assert(framed !== undefined, 'bytes that were framed once are framed again')
      const batch = await this.sealOne(framed, start.identity)
      if (batch.batch.length > this.options.sealedBytesMax && framed.section.recordCount > 1) {
        piecesBytesMax = Math.ceil(piecesBytesMax / 2)
        continue
      }
      sealed.push(batch)
      at = { ...at, ...afterBatch(at, framed) }
      window = advanced(window, batch.end - batch.start)
    }
    return sealed
  }

  private async sealOne(framed: FramedTurn, identity: StreamIdentity): Promise<SealedBatch> {
    const { section, source, header } = framed
    const { compressLevel, buffers } = this.options
    const producer = producerOf(source.streamId, source.firstOrdinal)
    const batch = await this.zstd.compress(section.raw, { level: compressLevel, plainBytes: section.plainBytes }, (frame) => sealBatch(section, frame, producer, (bytes) => buffers.take(bytes)))
    return {
      start: source.start,
      end: source.end,
      tailHashEnd: framed.tailHashEnd,
      recordCount: section.recordCount,
      envelope: encodeEnvelope({ topic: identity.topic, sourceHeader: header }),
      batch,
      crc: batch.readUInt32BE(17),
    }
  }
}

/** Where the file stands behind a framed turn. */
export function afterBatch(start: ReadPoint, framed: FramedTurn): ReadPoint {
  const { source, section } = framed
  return {
    position: source.end,
    tailHash: framed.tailHashEnd,
    ordinal: start.ordinal + section.recordCount,
    headLength: source.headLength,
    headHash: source.headLength === start.headLength ? start.headHash : hashText(source.headHash),
  }
}

/** The same window seen from a position that is further on: what was fresh becomes what stands before. */
function advanced(bytes: TurnBytes, by: number): TurnBytes {
  return { ...bytes, overlap: bytes.overlap + by, fresh: bytes.fresh - by }
}

/**
 * The head that takes part in the identity: only bytes that are shipped count, since they never change any more. While
 * it is short of 1 KiB the window still begins at byte 0.
 */
function headAt(
  start: TurnStart,
  at: { window: Buffer; overlap: number; end: number },
): { headLength: number; headHash: Buffer } {
  if (start.headLength >= HEAD_BYTES_MAX) return { headLength: start.headLength, headHash: hashBytes(start.headHash) }
  const headLength = Math.min(HEAD_BYTES_MAX, at.end)
  const fileStart = at.overlap - start.position
  assert(fileStart >= 0, 'a file with a short head is read from its first byte')
  return { headLength, headHash: headHash(at.window.subarray(fileStart, fileStart + headLength)) }
}
