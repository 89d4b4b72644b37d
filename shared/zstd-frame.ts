/**
 * The zstd frame format (RFC 8878 §3.1.1) as far as it can be read and made without a codec.
 *
 * Frames from outside are judged by `parseFrame`, which walks the block headers without decompressing: one frame, no
 * trailing byte, sizes under the caps. That closes three doors at once: decompression bombs, windows that cost memory,
 * and bytes after the frame that one decoder ignores and another reads (Node's decoder stops silently behind the first
 * frame).
 *
 * | bytes | field |
 * |---|---|
 * | 4 | magic |
 * | 1 | descriptor: bits 6–7 size of the content size, 5 single segment, 2 checksum, 0–1 size of the dictionary id |
 * | 0 or 1 | window, absent with a single segment |
 * | 1, 2, 4 or 8 | content size |
 * | … | blocks: 3 bytes (bit 0 last, 1–2 type: 0 plain, 1 run, 2 compressed, then the size), then their bytes |
 * | 0 or 4 | checksum |
 */
import { AppError, assert } from './errors.ts'

export const WINDOW_BYTES_MAX = 8 * 1024 * 1024
export const BLOCK_BYTES_MAX = 128 * 1024
const MAGIC = 0xfd2fb528
const BLOCK_LOG_MAX = 17
const BLOCK_HEADER_BYTES = 3
const PLAIN = 0
const CONTENT_SIZE_IN_4_BYTES = 0x80
const SINGLE_SEGMENT = 0x20

export interface ZstdFrame {
  /** Bytes that the frame holds when decompressed, from its header. */
  readonly contentSize: number
  readonly windowSize: number
  /** Where the first block's 3-byte header starts. */
  readonly firstBlockAt: number
  /** Behind the last byte of the first block. */
  readonly firstBlockEnd: number
}

/** Checks a frame by its headers alone. Throws CORRUPT_MESSAGE, UNSUPPORTED_COMPRESSION or MESSAGE_TOO_LARGE. */
export function parseFrame(frame: Uint8Array, contentBytesMax: number): ZstdFrame {
  const header = parseFrameHeader(frame)
  if (header.contentSize > contentBytesMax) {
    throw new AppError('MESSAGE_TOO_LARGE', `zstd frame holds ${header.contentSize} bytes, over ${contentBytesMax}`)
  }
  if (header.windowSize > WINDOW_BYTES_MAX) {
    throw new AppError('UNSUPPORTED_COMPRESSION', `zstd window of ${header.windowSize} bytes is over ${WINDOW_BYTES_MAX}`)
  }
  let at = header.blocksAt
  let firstBlockEnd = 0
  for (let last = false; !last; ) {
    const block = parseBlockHeader(frame, at)
    at += BLOCK_HEADER_BYTES + block.storedBytes
    if (at > frame.length) throw corrupt(`zstd block ends at ${at} of ${frame.length} bytes`)
    if (firstBlockEnd === 0) firstBlockEnd = at
    last = block.last
  }
  if (header.hasChecksum) at += 4
  if (at !== frame.length) throw corrupt(`${frame.length - at} bytes behind the zstd frame`)
  return { contentSize: header.contentSize, windowSize: header.windowSize, firstBlockAt: header.blocksAt, firstBlockEnd }
}

interface FrameHeader {
  readonly contentSize: number
  readonly windowSize: number
  /** The window's byte; undefined with a single segment. */
  readonly window: number | undefined
  readonly blocksAt: number
  readonly hasChecksum: boolean
}

function parseFrameHeader(frame: Uint8Array): FrameHeader {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  if (frame.length < 9 || view.getUint32(0, true) !== MAGIC) throw corrupt('not a zstd frame')
  const descriptor = view.getUint8(4)
  if ((descriptor & 0x08) !== 0) throw corrupt('zstd frame sets a reserved bit')
  if ((descriptor & 0x03) !== 0) throw new AppError('UNSUPPORTED_COMPRESSION', 'zstd frame needs a dictionary')
  const single = (descriptor & 0x20) !== 0
  const sizeFlag = descriptor >> 6
  const sizeBytes = sizeFlag === 0 ? (single ? 1 : 0) : 1 << sizeFlag
  if (sizeBytes === 0) throw new AppError('UNSUPPORTED_COMPRESSION', 'zstd frame does not tell its content size')
  let at = 5
  let windowSize = 0
  let window: number | undefined
  if (!single) {
    window = view.getUint8(at)
    const base = 2 ** (10 + (window >> 3))
    windowSize = base + (base / 8) * (window & 7)
    at += 1
  }
  if (at + sizeBytes > frame.length) throw corrupt('zstd frame header is cut short')
  const contentSize = readContentSize(view, at, sizeBytes)
  return {
    contentSize,
    windowSize: single ? contentSize : windowSize,
    window,
    blocksAt: at + sizeBytes,
    hasChecksum: (descriptor & 0x04) !== 0,
  }
}

function readContentSize(view: DataView, at: number, bytes: number): number {
  if (bytes === 1) return view.getUint8(at)
  if (bytes === 2) return view.getUint16(at, true) + 256
  if (bytes === 4) return view.getUint32(at, true)
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000
}

function parseBlockHeader(frame: Uint8Array, at: number): { type: number; last: boolean; storedBytes: number } {
  const [low, middle, high] = [frame[at], frame[at + 1], frame[at + 2]]
  if (low === undefined || middle === undefined || high === undefined) throw corrupt('zstd block header is cut short')
  const word = low | (middle << 8) | (high << 16)
  const type = (word >> 1) & 3
  const size = word >> 3
  if (type === 3) throw corrupt('zstd block has the reserved type')
  if (size > BLOCK_BYTES_MAX) throw corrupt(`zstd block of ${size} bytes`)
  return { type, last: (word & 1) !== 0, storedBytes: type === 1 ? 1 : size }
}

/** The first block's content as a view, where it stands in the frame as it is. */
export function plainFirstBlock(frame: Uint8Array, parsed: ZstdFrame): Buffer | undefined {
  const { type, last, storedBytes } = parseBlockHeader(frame, parsed.firstBlockAt)
  // An empty one says nothing yet.
  if (type !== PLAIN || (storedBytes === 0 && !last)) return undefined
  return Buffer.from(frame.buffer, frame.byteOffset + parsed.firstBlockAt + BLOCK_HEADER_BYTES, storedBytes)
}

/**
 * A frame that begins with a block of `plain` bytes as they are, and goes on with the blocks of another frame, which is
 * given in pieces. Valid because zstd's blocks look back at nothing that came before their own frame: a plain block
 * changes neither its repeated offsets nor its tables.
 */
export function withPlainStart(plain: Uint8Array, rest: readonly Uint8Array[]): readonly Uint8Array[] {
  const [first] = rest
  assert(first !== undefined && plain.length <= BLOCK_BYTES_MAX, 'there is a frame, and the plain bytes fit a block')
  const { contentSize, blocksAt, window, hasChecksum } = parseFrameHeader(first)
  assert(!hasChecksum, 'a checksum would not cover the plain bytes')
  const head = Buffer.allocUnsafe(9 + (window === undefined ? 0 : 1) + BLOCK_HEADER_BYTES)
  head.writeUInt32LE(MAGIC, 0)
  head.writeUInt8(CONTENT_SIZE_IN_4_BYTES | (window === undefined ? SINGLE_SEGMENT : 0), 4)
  if (window !== undefined) head.writeUInt8(window, 5)
  head.writeUInt32LE(plain.length + contentSize, head.length - BLOCK_HEADER_BYTES - 4)
  head.writeUIntLE(plain.length << 3, head.length - BLOCK_HEADER_BYTES, BLOCK_HEADER_BYTES)
  return [head, plain, first.subarray(blocksAt), ...rest.slice(1)]
}

/** A frame of its own that holds only the first block, without a content size. */
export function firstBlockFrame(frame: Uint8Array, parsed: ZstdFrame): Buffer {
  const block = frame.subarray(parsed.firstBlockAt, parsed.firstBlockEnd)
  const out = Buffer.allocUnsafe(6 + block.length)
  out.writeUInt32LE(MAGIC, 0)
  out.writeUInt8(0, 4) // no content size, no checksum, window descriptor follows
  // No larger than a block may be: a decoder takes a window's memory for each frame.
  out.writeUInt8((BLOCK_LOG_MAX - 10) << 3, 5)
  out.set(block, 6)
  out.writeUInt8(out.readUInt8(6) | 1, 6) // it is the last block now
  return out
}

function corrupt(message: string): AppError {
  return new AppError('CORRUPT_MESSAGE', message)
}
