/** Cuts the bytes of a segment into its batches. Holds one piece and at most one batch more; checks lengths, not contents. */
import { AppError } from '../../shared/errors.ts'
import { BATCH_HEADER_BYTES, peekBatchSize } from '../../shared/record-batch.ts'

/** Larger than any batch that the collector takes. */
const BATCH_BYTES_MAX = 16 * 1024 * 1024

/** Views into the pieces, valid as long as those are. CORRUPT_DATA where a length makes no sense or the last batch is cut. */
export async function* splitBatches(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0)
  for await (const piece of pieces) {
    rest = rest.length === 0 ? Buffer.from(piece.buffer, piece.byteOffset, piece.length) : Buffer.concat([rest, piece])
    let at = 0
    for (let size = peekBatchSize(rest); size !== undefined; size = peekBatchSize(rest, at)) {
      if (size < BATCH_HEADER_BYTES || size > BATCH_BYTES_MAX) throw new AppError('CORRUPT_DATA', `a batch that says ${size} bytes`)
      if (rest.length - at < size) break
      yield rest.subarray(at, at + size)
      at += size
    }
    rest = rest.subarray(at)
  }
  if (rest.length > 0) throw new AppError('CORRUPT_DATA', `${rest.length} bytes behind the last batch`)
}
