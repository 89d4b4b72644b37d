/** Cuts the bytes of a segment into its batches. Holds one piece and at most one batch more; checks lengths, not contents. */
import { AppError } from '../../shared/errors.ts'
import { BATCH_HEADER_BYTES, peekBatchSize } from '../../shared/record-batch.ts'

/** Larger than any batch that the collector takes. */
const BATCH_BYTES_MAX = 16 * 1024 * 1024

const NOTHING = Buffer.alloc(0)

/**
 * Views into the pieces, valid as long as those are; only a batch that stands in two pieces is copied. CORRUPT_DATA where
 * a length makes no sense or the last batch is cut.
 */
export async function* splitBatches(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  /** The beginning of a batch that goes on in the next piece, copied: pieces may be written to again. */
  let begun: Buffer = NOTHING
  for await (const piece of pieces) {
    let rest = Buffer.from(piece.buffer, piece.byteOffset, piece.length)
    if (begun.length > 0) {
      const missing = missingBytes(begun, rest)
      begun = Buffer.concat([begun, rest.subarray(0, missing)])
      rest = rest.subarray(missing)
      if (begun.length < (sizeOf(begun) ?? Number.POSITIVE_INFINITY)) continue
      yield begun
      begun = NOTHING
    }
    for (let size = sizeOf(rest); size !== undefined && size <= rest.length; size = sizeOf(rest)) {
      yield rest.subarray(0, size)
      rest = rest.subarray(size)
    }
    if (rest.length > 0) begun = Buffer.from(rest)
  }
  if (begun.length > 0) throw new AppError('CORRUPT_DATA', `${begun.length} bytes behind the last batch`)
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
