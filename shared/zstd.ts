/**
 * zstd behind one seam: node:zlib where Node has it (≥ 22.15), zstd-codec (WASM) below that. Both make frames with the
 * content size in the header, and each reads the other's. What a frame is stands in zstd-frame.ts, which judges every
 * frame before a codec sees it.
 */
import type { Transform } from 'node:stream'
import zlib from 'node:zlib'
import type { WasmCodec } from 'zstd-codec'
import { AppError } from './errors.ts'
import { BLOCK_BYTES_MAX, firstBlockFrame, parseFrame, plainFirstBlock, withPlainStart } from './zstd-frame.ts'
import { makeCodec, type Codec } from './zstd-handle.ts'

/** `WINDOW_BYTES_MAX` of zstd-frame.ts. */
const WINDOW_LOG_MAX = 23
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

export interface Zstd {
  readonly name: 'node:zlib' | 'zstd-codec'
  /**
   * One frame with its content size, in pieces. May run on the thread pool: `raw` must not change before the answer. The
   * pieces are `use`'s only while it runs: their memory is written to again.
   */
  compress<T>(raw: Uint8Array, options: CompressOptions, use: (frame: readonly Uint8Array[]) => T): Promise<T>
  compressSync(raw: Uint8Array, level: number): Buffer
  /**
   * Exactly one whole frame of at most `contentBytesMax`; throws CORRUPT_MESSAGE, MESSAGE_TOO_LARGE or
   * UNSUPPORTED_COMPRESSION. `allocate` offers memory for the content, of exactly the size asked for; a codec with memory of
   * its own does not ask.
   */
  decompressSync(frame: Uint8Array, contentBytesMax: number, allocate?: (bytes: number) => Buffer): Buffer
  /** The first block's content, at most 128 KiB, perhaps as a view: enough to see the first record of a batch. */
  firstBlockSync(frame: Uint8Array, contentBytesMax: number): Buffer
}

export interface CompressOptions {
  readonly level: number
  /**
   * So many bytes of the beginning stand in the frame as they are, in a block of their own, so that whoever wants only
   * those needs no decoder. At most 128 KiB and fewer than there are; 0 = a frame as zstd makes it.
   */
  readonly plainBytes: number
}

/** The best codec that this Node has; `codec: 'zstd-codec'` forces the fallback, which tests use. */
export async function loadZstd(options: { codec?: Zstd['name'] } = {}): Promise<Zstd> {
  if (options.codec !== 'zstd-codec' && nativeFunctions() !== undefined) return nativeZstd()
  return wasmZstd()
}

export function hasNativeZstd(): boolean {
  return nativeFunctions() !== undefined
}

/** `Zstd.compress` by a codec that knows nothing of plain bytes. */
function compressWith(codec: <T>(raw: Uint8Array, level: number, use: (frame: readonly Uint8Array[]) => T) => Promise<T>): Zstd['compress'] {
  return (raw, { level, plainBytes }, use) =>
    plainBytes === 0 ? codec(raw, level, use) : codec(raw.subarray(plainBytes), level, (rest) => use(withPlainStart(raw.subarray(0, plainBytes), rest)))
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
  createZstdDecompress(options: object): Transform
  constants: { ZSTD_c_compressionLevel: number; ZSTD_c_minMatch: number; ZSTD_c_hashLog: number; ZSTD_d_windowLogMax: number; ZSTD_e_end: number }
}

function nativeFunctions(): NativeZstd | undefined {
  return 'zstdCompressSync' in zlib ? (zlib as unknown as NativeZstd) : undefined
}

function nativeZstd(): Zstd {
  const native = nativeFunctions()
  if (native === undefined) throw new AppError('INTERNAL', 'this Node has no zstd in node:zlib')
  const pool = new CompressorPool(native)
  const compressSync = (raw: Uint8Array, level: number): Buffer =>
    native.zstdCompressSync(raw, { params: compressParams(native, level), pledgedSrcSize: raw.length, chunkSize: chunkSizeFor(raw.length) })
  // On first need: an agent decodes nothing, and is to start small.
  let made: { readonly decoder: Codec | undefined } | undefined
  const decoderOf = (): Codec | undefined => (made ??= { decoder: nativeDecoder(native, compressSync) }).decoder
  const encoders = new Map<number, Encoder>()
  const encoderFor = (level: number): Encoder => {
    const encoder = encoders.get(level) ?? new Encoder(native, level)
    encoders.set(level, encoder)
    return encoder
  }
  const decompress = (frame: Uint8Array, size: number): Buffer => {
    try {
      return native.zstdDecompressSync(frame, {
        maxOutputLength: Math.max(size, 1),
        chunkSize: Math.max(size, 64),
        params: decompressParams(native),
      })
    } catch (error) {
      throw corrupt('zstd frame does not decompress', error)
    }
  }
  return {
    name: 'node:zlib',
    compressSync,
    compress: compressWith((raw, level, use) =>
      raw.length < POOL_BYTES_MIN ? Promise.resolve(use([encoderFor(level).encode(raw) ?? compressSync(raw, level)])) : pool.compress(raw, level, use)),
    decompressSync: (frame, contentBytesMax, allocate = (bytes) => Buffer.allocUnsafe(bytes)) => {
      const { contentSize } = parseFrame(frame, contentBytesMax)
      const decoder = decoderOf()
      if (decoder === undefined || contentSize === 0) return checkSize(decompress(frame, contentSize), contentSize)
      const content = allocate(contentSize)
      if (decoder.run(frame, content) !== contentSize) throw corrupt(`zstd frame does not decompress to the ${contentSize} bytes that its header says`)
      return content
    },
    firstBlockSync: (frame, contentBytesMax) => {
      const parsed = parseFrame(frame, contentBytesMax)
      return plainFirstBlock(frame, parsed) ?? decompress(firstBlockFrame(frame, parsed), BLOCK_BYTES_MAX)
    },
  }
}

/** What codecs are proved with. */
const PROOF = Buffer.alloc(1000, 'a first frame ')
/** The streams' own output, which stays unused. */
const CHUNK_BYTES_MIN = 64

function nativeDecoder(native: NativeZstd, compressSync: Zstd['compressSync']): Codec | undefined {
  return makeCodec({
    open: () => native.createZstdDecompress({ params: decompressParams(native), chunkSize: CHUNK_BYTES_MIN }),
    end: native.constants.ZSTD_e_end,
    proof: { input: compressSync(PROOF, 1), outputBytes: PROOF.length, isRight: (output) => PROOF.equals(output) },
  })
}

/** Small frames, made at once in the caller's thread. The answer is good until the next one. */
class Encoder {
  private readonly codec: Codec | undefined
  private readonly output = Buffer.allocUnsafeSlow(chunkSizeFor(POOL_BYTES_MIN))

  constructor(native: NativeZstd, level: number) {
    this.codec = makeCodec({
      open: () => native.createZstdCompress({ params: compressParams(native, level), chunkSize: CHUNK_BYTES_MIN }),
      end: native.constants.ZSTD_e_end,
      proof: { input: PROOF, outputBytes: chunkSizeFor(PROOF.length), isRight: (frame) => parseFrame(frame, PROOF.length).contentSize === PROOF.length && PROOF.equals(native.zstdDecompressSync(frame, {})) },
    })
  }

  /** `raw` below POOL_BYTES_MIN. undefined where this Node's handles are others. */
  encode(raw: Uint8Array): Buffer | undefined {
    const written = this.codec?.run(raw, this.output)
    return written === undefined ? undefined : this.output.subarray(0, written)
  }
}

function decompressParams({ constants }: NativeZstd): Record<number, number> {
  return { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX }
}

/**
 * Level 1 looks for matches of 7 bytes in a table of 2^14 places. What repeats in records is often shorter, and near: with
 * 6 bytes and 2^13 places, which fit a core's first cache, the loghub files come out 5 % smaller and JSON lines 1 %, access
 * lines 1 % larger, for a tenth less CPU (measured in pieces of 1 MiB).
 */
function compressParams({ constants }: NativeZstd, level: number): Record<number, number> {
  const { ZSTD_c_compressionLevel, ZSTD_c_minMatch, ZSTD_c_hashLog } = constants
  return { [ZSTD_c_compressionLevel]: level, ...(level === 1 ? { [ZSTD_c_minMatch]: 6, [ZSTD_c_hashLog]: 13 } : {}) }
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
    this.level = level
    this.stream = native.createZstdCompress({ flush: native.constants.ZSTD_e_end, params: compressParams(native, level), chunkSize: OUTPUT_BYTES })
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
    compress: compressWith((raw, level, use) => Promise.resolve(use([compressSync(raw, level)]))),
    decompressSync: (frame, contentBytesMax) => {
      const { contentSize } = parseFrame(frame, contentBytesMax)
      guard(Math.max(contentSize, frame.length))
      if (contentSize === 0) return Buffer.alloc(0)
      const content = simple.decompress(frame)
      if (content === null) throw corrupt('zstd frame does not decompress')
      return checkSize(asBuffer(content), contentSize)
    },
    firstBlockSync: (frame, contentBytesMax) => {
      const parsed = parseFrame(frame, contentBytesMax)
      const plain = plainFirstBlock(frame, parsed)
      if (plain !== undefined) return plain
      const content = streaming.decompress(firstBlockFrame(frame, parsed), BLOCK_BYTES_MAX)
      if (content === null) throw corrupt('zstd block does not decompress')
      return asBuffer(content)
    },
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
