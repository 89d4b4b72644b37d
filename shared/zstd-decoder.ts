/**
 * One native zstd decoder that is used again and again, from memory to memory. Node's own `zstdDecompressSync` makes a
 * decoder and its output anew for each frame and leaves both to the garbage collector: more than a third of the CPU of a
 * query that reads everything (measured).
 *
 * It drives the handle below Node's zlib streams, which is no public API. So its shape is looked at and a frame is decoded
 * as a proof first; where that fails `make` answers undefined, and the public function does the work. One caller at a time.
 */
import type { Transform } from 'node:stream'

interface DecoderStream extends Transform {
  _handle?: { writeSync?(flush: number, input: Uint8Array, inputAt: number, inputBytes: number, output: Uint8Array, outputAt: number, outputBytes: number): void }
  /** Output bytes that were left free, input bytes that were left over. */
  _writeState?: Uint32Array
}

export interface Decoder {
  /** Whether `frame` held exactly as many bytes as `target` has, and nothing stands behind it. */
  decode(frame: Uint8Array, target: Uint8Array): boolean
}

export interface DecoderParts {
  readonly open: () => Transform
  /** `ZSTD_e_end`. */
  readonly end: number
  readonly proof: { readonly frame: Uint8Array; readonly content: Uint8Array }
}

export function makeDecoder(parts: DecoderParts): Decoder | undefined {
  const decoder = new HandleDecoder(parts)
  const { frame, content } = parts.proof
  const target = new Uint8Array(content.length)
  // Twice: the second frame meets what the first one left.
  for (let turn = 0; turn < 2; turn += 1) {
    target.fill(0)
    if (!decoder.decode(frame, target) || Buffer.compare(target, content) !== 0) return undefined
  }
  return decoder
}

class HandleDecoder implements Decoder {
  private readonly parts: DecoderParts
  private stream: DecoderStream | undefined

  constructor(parts: DecoderParts) {
    this.parts = parts
  }

  decode(frame: Uint8Array, target: Uint8Array): boolean {
    const stream = this.stream ?? this.open()
    const { _handle: handle, _writeState: state } = stream
    if (typeof handle?.writeSync !== 'function' || !(state instanceof Uint32Array)) return false
    handle.writeSync(this.parts.end, frame, 0, frame.length, target, 0, target.length)
    const isWhole = !stream.destroyed && state[0] === 0 && state[1] === 0
    // Whatever went wrong, the next frame finds a decoder that knows nothing of it.
    if (!isWhole) this.drop(stream)
    return isWhole
  }

  private open(): DecoderStream {
    const stream: DecoderStream = this.parts.open()
    // A broken frame destroys the stream and is told as an event too, later; `decode` has told it by then.
    stream.on('error', () => undefined)
    this.stream = stream
    return stream
  }

  private drop(stream: DecoderStream): void {
    this.stream = undefined
    stream.destroy()
  }
}
