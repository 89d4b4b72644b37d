/**
 * zstd behind one seam: node:zlib where Node has it (≥ 22.15), zstd-codec (WASM) below that. Both make frames with the
 * content size in the header, and each reads the other's. Frames from outside are judged by `parseFrame` first, which
 * walks the block headers without decompressing: one frame, no trailing byte, sizes under the caps. That closes three
 * doors at once: decompression bombs, windows that cost memory, and bytes after the frame that one decoder ignores and
 * another reads (Node's decoder stops silently behind the first frame).
 *
 * Frame format: RFC 8878 §3.1.1.
 */
import type { Transform } from 'node:stream'
import zlib from 'node:zlib'
import type { WasmCodec } from 'zstd-codec'
import { AppError } from './errors.ts'

export const WINDOW_BYTES_MAX = 8 * 1024 * 1024
const WINDOW_LOG_MAX = 23
const MAGIC = 0xfd2fb528
const BLOCK_LOG_MAX = 17
const BLOCK_BYTES_MAX = 128 * 1024
/** Below this the thread pool costs more than it saves (measured: 64 KiB is break-even). */
const POOL_BYTES_MIN = 64 * 1024
/** As many as run at a time on the pool's four threads. */
const IDLE_COMPRESSORS_MAX = 4
/**
 * Output of a compressor. Where zstd is sure that a frame fits (`ZSTD_compressBound`, here of a default batch) it
 * compresses in one pass from `raw` to the output; else it copies both through windows of its own, for a quarter more
 * CPU (measured). Pages that are never written to take no memory.
 */
const OUTPUT_BYTES = chunkSizeFor(2 * 1024 * 1024)
/** zstd-codec has a fixed heap of 16 MiB and aborts for good when it runs out: nothing larger is handed to it. */
const WASM_BYTES_MAX = 3 * 1024 * 1024

export interface ZstdFrame {
  /** Bytes that the frame holds when decompressed, from its header. */
  readonly contentSize: number
  readonly windowSize: number
  /** Where the first block's 3-byte header starts. */
  readonly firstBlockAt: number
  /** Behind the last byte of the first block. */
  readonly firstBlockEnd: number
}

export interface Zstd {
  readonly name: 'node:zlib' | 'zstd-codec'
  /**
   * One frame with its content size, in pieces. May run on the thread pool: `raw` must not change before the answer. The
   * pieces are `use`'s only while it runs: their memory is written to again.
   */
  compress<T>(raw: Uint8Array, level: number, use: (frame: readonly Buffer[]) => T): Promise<T>
  compressSync(raw: Uint8Array, level: number): Buffer
  /** Exactly one whole frame of at most `contentBytesMax`; throws CORRUPT_MESSAGE, MESSAGE_TOO_LARGE or UNSUPPORTED_COMPRESSION. */
  decompressSync(frame: Uint8Array, contentBytesMax: number): Buffer
  /** The first block decompressed, at most 128 KiB: enough to see the first records of a batch. */
  firstBlockSync(frame: Uint8Array, contentBytesMax: number): Buffer
}

/** The best codec that this Node has; `codec: 'zstd-codec'` forces the fallback, which tests use. */
export async function loadZstd(options: { codec?: Zstd['name'] } = {}): Promise<Zstd> {
  if (options.codec !== 'zstd-codec' && nativeFunctions() !== undefined) return nativeZstd()
  return wasmZstd()
}

export function hasNativeZstd(): boolean {
  return nativeFunctions() !== undefined
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
    at += 3 + block.storedBytes
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
  if (!single) {
    const window = view.getUint8(at)
    const base = 2 ** (10 + (window >> 3))
    windowSize = base + (base / 8) * (window & 7)
    at += 1
  }
  if (at + sizeBytes > frame.length) throw corrupt('zstd frame header is cut short')
  const contentSize = readContentSize(view, at, sizeBytes)
  return {
    contentSize,
    windowSize: single ? contentSize : windowSize,
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

function parseBlockHeader(frame: Uint8Array, at: number): { last: boolean; storedBytes: number } {
  const [low, middle, high] = [frame[at], frame[at + 1], frame[at + 2]]
  if (low === undefined || middle === undefined || high === undefined) throw corrupt('zstd block header is cut short')
  const word = low | (middle << 8) | (high << 16)
  const type = (word >> 1) & 3
  const size = word >> 3
  if (type === 3) throw corrupt('zstd block has the reserved type')
  if (size > BLOCK_BYTES_MAX) throw corrupt(`zstd block of ${size} bytes`)
  return { last: (word & 1) !== 0, storedBytes: type === 1 ? 1 : size }
}

/** A frame of its own that holds only the first block, without a content size. */
function firstBlockFrame(frame: Uint8Array, parsed: ZstdFrame): Buffer {
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

function corrupt(message: string, cause?: unknown): AppError {
  return new AppError('CORRUPT_MESSAGE', message, { cause })
}

// node:zlib, by feature detection: @types/node of the oldest Node that we support does not know these yet.

interface NativeZstd {
  zstdCompress(raw: Uint8Array, options: object, done: (error: Error | null, result: Buffer) => void): void
  zstdCompressSync(raw: Uint8Array, options: object): Buffer
  zstdDecompressSync(frame: Uint8Array, options: object): Buffer
  createZstdCompress(options: object): Transform
  constants: { ZSTD_c_compressionLevel: number; ZSTD_d_windowLogMax: number; ZSTD_e_end: number }
}

function nativeFunctions(): NativeZstd | undefined {
  return 'zstdCompressSync' in zlib ? (zlib as unknown as NativeZstd) : undefined
}

function nativeZstd(): Zstd {
  const native = nativeFunctions()
  if (native === undefined) throw new AppError('INTERNAL', 'this Node has no zstd in node:zlib')
  const { ZSTD_c_compressionLevel, ZSTD_d_windowLogMax } = native.constants
  const pool = new CompressorPool(native)
  const compressOptions = (raw: Uint8Array, level: number): object => ({
    params: { [ZSTD_c_compressionLevel]: level },
    pledgedSrcSize: raw.length,
    chunkSize: chunkSizeFor(raw.length),
  })
  const compressSync = (raw: Uint8Array, level: number): Buffer => native.zstdCompressSync(raw, compressOptions(raw, level))
  const decompress = (frame: Uint8Array, size: number): Buffer => {
    try {
      return native.zstdDecompressSync(frame, {
        maxOutputLength: Math.max(size, 1),
        chunkSize: Math.max(size, 64),
        params: { [ZSTD_d_windowLogMax]: WINDOW_LOG_MAX },
      })
    } catch (error) {
      throw corrupt('zstd frame does not decompress', error)
    }
  }
  return {
    name: 'node:zlib',
    compressSync,
    compress: (raw, level, use) => (raw.length < POOL_BYTES_MIN ? Promise.resolve(use([compressSync(raw, level)])) : pool.compress(raw, level, use)),
    decompressSync: (frame, contentBytesMax) => {
      const { contentSize } = parseFrame(frame, contentBytesMax)
      return checkSize(decompress(frame, contentSize), contentSize)
    },
    firstBlockSync: (frame, contentBytesMax) =>
      decompress(firstBlockFrame(frame, parseFrame(frame, contentBytesMax)), BLOCK_BYTES_MAX),
  }
}

/**
 * Compressors that are used again and again, one frame per write: each `zstdCompress` call would make a context of
 * megabytes anew, in whichever thread it lands, and that memory comes back late. A write that ends its frame at once
 * tells zstd the content size, so it stands in the header as with `pledgedSrcSize`.
 */
class CompressorPool {
  private readonly native: NativeZstd
  private idle: Compressor[] = []

  constructor(native: NativeZstd) {
    this.native = native
  }

  async compress<T>(raw: Uint8Array, level: number, use: (frame: readonly Buffer[]) => T): Promise<T> {
    const found = this.idle.findIndex((compressor) => compressor.level === level)
    const compressor = (found < 0 ? undefined : this.idle.splice(found, 1)[0]) ?? new Compressor(this.native, level)
    const result = await compressor.compress(raw, use)
    // One that has failed is not used again.
    if (this.idle.length < IDLE_COMPRESSORS_MAX) this.idle.push(compressor)
    return result
  }
}

/** zlib's streams of all Nodes keep here how much of the output is taken; there is no public way to begin again. */
interface OutputStream extends Transform {
  _outOffset?: number
}

class Compressor {
  readonly level: number
  private readonly stream: OutputStream
  private pieces: Buffer[] = []

  constructor(native: NativeZstd, level: number) {
    const { ZSTD_c_compressionLevel, ZSTD_e_end } = native.constants
    this.level = level
    this.stream = native.createZstdCompress({ flush: ZSTD_e_end, params: { [ZSTD_c_compressionLevel]: level }, chunkSize: OUTPUT_BYTES })
    this.stream.on('data', (piece: Buffer) => this.pieces.push(piece))
  }

  compress<T>(raw: Uint8Array, use: (frame: readonly Buffer[]) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.stream.once('error', reject)
      this.stream.write(raw, () => {
        this.stream.removeListener('error', reject)
        const { pieces } = this
        this.pieces = []
        try {
          resolve(use(pieces))
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)))
        }
        // The next frame goes where this one stood. A Node without this field is slower, and nothing else.
        this.stream._outOffset = 0
      })
    })
  }
}

/** One output chunk that surely holds the result, so that zlib does not grow it piece by piece. */
function chunkSizeFor(rawBytes: number): number {
  return Math.max(1024, rawBytes + (rawBytes >> 8) + 64)
}

function checkSize(content: Buffer, contentSize: number): Buffer {
  if (content.length !== contentSize) {
    throw corrupt(`zstd frame holds ${content.length} bytes, its header says ${contentSize}`)
  }
  return content
}

// zstd-codec: answers null instead of throwing, and knows no caps of its own, so every result is checked.

async function wasmZstd(): Promise<Zstd> {
  const { default: module } = await import('zstd-codec')
  const codec = await new Promise<WasmCodec>((resolve) => {
    module.ZstdCodec.run(resolve)
  })
  const simple = new codec.Simple()
  const streaming = new codec.Streaming()
  const guard = (bytes: number): void => {
    if (bytes <= WASM_BYTES_MAX) return
    throw new AppError('MESSAGE_TOO_LARGE', `${bytes} bytes are over what zstd-codec can hold (${WASM_BYTES_MAX})`, {
      hint: 'run on Node 22.15 or later, which has zstd built in',
    })
  }
  const compressSync = (raw: Uint8Array, level: number): Buffer => {
    guard(raw.length)
    const frame = simple.compress(raw, level === 0 ? 3 : level)
    if (frame === null) throw new AppError('INTERNAL', `zstd-codec could not compress ${raw.length} bytes`)
    return asBuffer(frame)
  }
  return {
    name: 'zstd-codec',
    compressSync,
    compress: (raw, level, use) => Promise.resolve(use([compressSync(raw, level)])),
    decompressSync: (frame, contentBytesMax) => {
      const { contentSize } = parseFrame(frame, contentBytesMax)
      guard(Math.max(contentSize, frame.length))
      if (contentSize === 0) return Buffer.alloc(0)
      const content = simple.decompress(frame)
      if (content === null) throw corrupt('zstd frame does not decompress')
      return checkSize(asBuffer(content), contentSize)
    },
    firstBlockSync: (frame, contentBytesMax) => {
      const content = streaming.decompress(firstBlockFrame(frame, parseFrame(frame, contentBytesMax)), BLOCK_BYTES_MAX)
      if (content === null) throw corrupt('zstd block does not decompress')
      return asBuffer(content)
    },
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
