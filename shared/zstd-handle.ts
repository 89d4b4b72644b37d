/**
 * A native zstd encoder or decoder that is used again and again, from memory to memory, in the caller's thread. Node's own
 * one-shot functions make a context and their output anew for each frame and leave both to the garbage collector: more
 * than a third of the CPU of a query that reads everything (measured).
 *
 * It drives the handle below Node's zlib streams, which is no public API. So its shape is looked at and a first frame is
 * made as a proof; where that fails `makeCodec` answers undefined, and the public functions do the work. One call at a time.
 */
import type { Transform } from 'node:stream'

interface HandleStream extends Transform {
  _handle?: { writeSync?(flush: number, input: Uint8Array, inputAt: number, inputBytes: number, output: Uint8Array, outputAt: number, outputBytes: number): void }
  /** Output bytes that were left free, input bytes that were left over. */
  _writeState?: Uint32Array
}

export interface Codec {
  /** Bytes that were written to `output`; undefined when the input is broken or was not taken whole. */
  run(input: Uint8Array, output: Uint8Array): number | undefined
}

export interface CodecParts {
  readonly open: () => Transform
  /** `ZSTD_e_end`. */
  readonly end: number
  readonly proof: { readonly input: Uint8Array; readonly outputBytes: number; readonly isRight: (output: Uint8Array) => boolean }
}

export function makeCodec(parts: CodecParts): Codec | undefined {
  const codec = new HandleCodec(parts)
  const { input, outputBytes, isRight } = parts.proof
  // Twice: the second frame meets what the first one left.
  for (let turn = 0; turn < 2; turn += 1) {
    const output = new Uint8Array(outputBytes)
    const written = codec.run(input, output)
    if (written === undefined || !isRight(output.subarray(0, written))) return undefined
  }
  return codec
}

class HandleCodec implements Codec {
  private readonly parts: CodecParts
  private stream: HandleStream | undefined

  constructor(parts: CodecParts) {
    this.parts = parts
  }

  run(input: Uint8Array, output: Uint8Array): number | undefined {
    const stream = this.stream ?? this.open()
    const { _handle: handle, _writeState: state } = stream
    if (typeof handle?.writeSync !== 'function' || !(state instanceof Uint32Array)) return undefined
    handle.writeSync(this.parts.end, input, 0, input.length, output, 0, output.length)
    const [free, left] = state
    if (!stream.destroyed && left === 0 && free !== undefined && free <= output.length) return output.length - free
    // Whatever went wrong, the next frame finds a context that knows nothing of it.
    this.stream = undefined
    stream.destroy()
    return undefined
  }

  private open(): HandleStream {
    const stream: HandleStream = this.parts.open()
    // A broken frame destroys the stream and is told as an event too, later; `run` has told it by then.
    stream.on('error', () => undefined)
    this.stream = stream
    return stream
  }
}
