/** Cuts the bytes of a segment into its batches. Holds one piece and at most one batch more; checks lengths, not contents. */
import { AppError } from '../../shared/errors.ts'
import { BATCH_HEADER_BYTES, peekBatchSize } from '../../shared/record-batch.ts'

/** Larger than any batch that the collector takes. */
const BATCH_BYTES_MAX = 16 * 1024 * 1024

export interface SplitOptions {
  /** Whether a batch is kept when the next one is asked for. Else those that are joined share memory. */
  readonly isKept: boolean
}

/**
 * Views into the pieces, valid as long as those are; only a batch that stands in two pieces is copied. CORRUPT_DATA where
 * a length makes no sense or the last batch is cut.
 */
export async function* splitBatches(pieces: AsyncIterable<Uint8Array>, options: SplitOptions): AsyncGenerator<Buffer> {
  /** A batch that goes on in the next piece: pieces may be written to again. */
  const begun = new Joint(options)
  for await (const piece of pieces) {
    let rest = Buffer.from(piece.buffer, piece.byteOffset, piece.length)
    if (begun.bytes.length > 0) {
      const missing = missingBytes(begun.bytes, rest)
      begun.add(rest.subarray(0, missing))
      rest = rest.subarray(missing)
      if (begun.bytes.length < (sizeOf(begun.bytes) ?? Number.POSITIVE_INFINITY)) continue
      yield begun.bytes
      begun.clear()
    }
    for (let size = sizeOf(rest); size !== undefined && size <= rest.length; size = sizeOf(rest)) {
      yield rest.subarray(0, size)
      rest = rest.subarray(size)
    }
    if (rest.length > 0) begun.add(rest)
  }
  if (begun.bytes.length > 0) throw new AppError('CORRUPT_DATA', `${begun.bytes.length} bytes behind the last batch`)
}

/** Puts together what stands in several pieces. */
class Joint {
  private readonly isKept: boolean
  private memory = Buffer.alloc(0)
  private length = 0

  constructor({ isKept }: SplitOptions) {
    this.isKept = isKept
  }

  get bytes(): Buffer {
    return this.memory.subarray(0, this.length)
  }

  add(more: Buffer): void {
    const length = this.length + more.length
    if (length > this.memory.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(length, sizeOf(this.length === 0 ? more : this.bytes) ?? 0))
      this.memory.copy(larger, 0, 0, this.length)
      this.memory = larger
    }
    more.copy(this.memory, this.length)
    this.length = length
  }

  clear(): void {
    this.length = 0
    if (this.isKept) this.memory = Buffer.alloc(0)
  }
}

/** How much of what follows belongs to the batch that has begun. */
function missingBytes(begun: Buffer, following: Buffer): number {
  const size = sizeOf(begun) ?? sizeOf(Buffer.concat([begun, following.subarray(0, BATCH_HEADER_BYTES)]))
  return size === undefined ? following.length : Math.min(following.length, size - begun.length)
}

/** undefined while not even the size is there. */
function sizeOf(bytes: Buffer): number | undefined {
  const size = peekBatchSize(bytes)
  if (size !== undefined && (size < BATCH_HEADER_BYTES || size > BATCH_BYTES_MAX)) throw new AppError('CORRUPT_DATA', `a batch that says ${size} bytes`)
  return size
}
