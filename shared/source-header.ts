/**
 * The `tr` header: where the bytes of a batch came from. It rides on the first record of every sealed batch, so that
 * the collector's table of positions is a fold over the log and can never disagree with it. Static labels of the input
 * stand beside it, in a header of their own (labels.ts).
 *
 * Version 1, big-endian, strings as u16 length + UTF-8. The part up to `path` has a size that is known when a batch is
 * begun; the rest is filled in when it is sealed.
 *
 * | bytes | field |
 * |---|---|
 * | 1 | version = 1 |
 * | 2 | flags: bit 0 `supersedes` is meant; bit 1 the batch ends with an `eof` record; bit 2 the stream begins at its start position, which is not 0 |
 * | 16 | stream id |
 * | 8 | inode |
 * | 8 | birth time in ns, 0 = unknown |
 * | 4 | generation |
 * | 4 | generation that this one supersedes, 0 when bit 0 is clear |
 * | 8 | ordinal of the first record in the stream, counted from 0 |
 * | 8 | start position |
 * | 8 | end position |
 * | 16 | tail hash at start (zeros at position 0) |
 * | 16 | tail hash at end |
 * | 16 | first 16 bytes of SHA-256 over the source bytes [start, end) |
 * | 2 | head length, ≤ 1024 |
 * | 16 | head hash: first 16 bytes of SHA-256 over the first `head length` bytes of the file |
 * | 2+n | agent id |
 * | 2+n | host |
 * | 2+n | path now |
 */
import { ByteReader, ByteWriter } from './bytes.ts'
import { AppError } from './errors.ts'
import { toPosition, type FilePosition } from './types.ts'

export const SOURCE_HEADER_KEY = 'tr'
/** Header key of a record without `\n` behind it because a long line was cut here; the next record goes on. */
export const PART_HEADER_KEY = 'tr.part'
/** Header key of a record without `\n` behind it because its file ended or was quiet here. */
export const EOF_HEADER_KEY = 'tr.eof'
/** Head bytes that take part in a stream's identity. */
export const HEAD_BYTES_MAX = 1024
/** Source bytes before a position that its tail hash covers. */
export const TAIL_BYTES_MAX = 65_536
export const HASH_BYTES = 16
/** Agent ids, hosts and paths longer than this are refused: a key must stay a small part of a record. */
export const NAME_BYTES_MAX = 4096

const VERSION = 1
const FIXED_BYTES = 1 + 2 + 16 + 8 + 8 + 4 + 4 + 8 + 8 + 8 + 16 + 16 + 16 + 2 + 16
const FLAG_SUPERSEDES = 1
const FLAG_ENDS_WITH_EOF = 2
const FLAG_BEGINS_INSIDE = 4

export interface SourceHeader {
  readonly streamId: Buffer
  readonly agentId: string
  readonly host: string
  readonly path: string
  readonly inode: bigint
  readonly birthtimeNs: bigint
  readonly generation: number
  readonly supersedes: number | undefined
  readonly firstOrdinal: number
  readonly start: FilePosition
  readonly end: FilePosition
  readonly tailHashStart: Buffer
  readonly tailHashEnd: Buffer
  readonly sourceHash: Buffer
  readonly headLength: number
  readonly headHash: Buffer
  readonly endsWithEof: boolean
  /** Only in the first batch of a stream whose earlier bytes were left out on purpose (`startAt: end`). */
  readonly beginsInside?: true
}

/** Bytes that `encodeSourceHeader` will take for these names. */
export function sourceHeaderSize(names: Pick<SourceHeader, 'agentId' | 'host' | 'path'>): number {
  return FIXED_BYTES + 6 + Buffer.byteLength(names.agentId) + Buffer.byteLength(names.host) + Buffer.byteLength(names.path)
}

export function encodeSourceHeader(header: SourceHeader): Buffer {
  const flags = (header.supersedes === undefined ? 0 : FLAG_SUPERSEDES) | (header.endsWithEof ? FLAG_ENDS_WITH_EOF : 0) | (header.beginsInside === true ? FLAG_BEGINS_INSIDE : 0)
  return new ByteWriter(sourceHeaderSize(header))
    .u8(VERSION)
    .u16(flags)
    .bytes(header.streamId)
    .u64(header.inode)
    .u64(header.birthtimeNs)
    .u32(header.generation)
    .u32(header.supersedes ?? 0)
    .safe64(header.firstOrdinal)
    .safe64(header.start)
    .safe64(header.end)
    .bytes(header.tailHashStart)
    .bytes(header.tailHashEnd)
    .bytes(header.sourceHash)
    .u16(header.headLength)
    .bytes(header.headHash)
    .string16(header.agentId)
    .string16(header.host)
    .string16(header.path).buffer
}

/** The buffers in the answer are copies: the input may be reused. Throws CORRUPT_MESSAGE or UNSUPPORTED_VERSION. */
export function decodeSourceHeader(bytes: Buffer): SourceHeader {
  const reader = new ByteReader(bytes)
  const version = reader.u8()
  if (version !== VERSION) {
    throw new AppError('UNSUPPORTED_VERSION', `source header version ${version}, this build reads ${VERSION}`, {
      hint: 'update the side that is older',
    })
  }
  const flags = reader.u16()
  const header = {
    streamId: Buffer.from(reader.bytes(HASH_BYTES)),
    inode: reader.u64(),
    birthtimeNs: reader.u64(),
    generation: reader.u32(),
    supersedesValue: reader.u32(),
    firstOrdinal: reader.safe64(),
    start: toPosition(reader.safe64()),
    end: toPosition(reader.safe64()),
    tailHashStart: Buffer.from(reader.bytes(HASH_BYTES)),
    tailHashEnd: Buffer.from(reader.bytes(HASH_BYTES)),
    sourceHash: Buffer.from(reader.bytes(HASH_BYTES)),
    headLength: reader.u16(),
    headHash: Buffer.from(reader.bytes(HASH_BYTES)),
    agentId: reader.string16(),
    host: reader.string16(),
    path: reader.string16(),
  }
  if (reader.remaining !== 0) throw new AppError('CORRUPT_MESSAGE', `${reader.remaining} bytes after the source header`)
  if (header.end < header.start) {
    throw new AppError('CORRUPT_MESSAGE', `source range ends at ${header.end}, before its start ${header.start}`)
  }
  if (header.headLength > HEAD_BYTES_MAX) {
    throw new AppError('CORRUPT_MESSAGE', `head length ${header.headLength} is over ${HEAD_BYTES_MAX}`)
  }
  for (const name of [header.agentId, header.host, header.path]) {
    if (name.length === 0 || name.length > NAME_BYTES_MAX) {
      throw new AppError('CORRUPT_MESSAGE', `agent id, host and path take 1 to ${NAME_BYTES_MAX} characters`)
    }
  }
  const { supersedesValue, ...rest } = header
  return {
    ...rest,
    supersedes: (flags & FLAG_SUPERSEDES) === 0 ? undefined : supersedesValue,
    endsWithEof: (flags & FLAG_ENDS_WITH_EOF) !== 0,
    ...((flags & FLAG_BEGINS_INSIDE) === 0 ? {} : { beginsInside: true as const }),
  }
}
