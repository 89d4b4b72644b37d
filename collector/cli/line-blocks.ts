/**
 * Cuts a streamed body into blocks of whole lines, as they arrive. A block is handed on whole, so that a reader of
 * millions of lines waits once per block and not once per line.
 */
import { AppError } from '../../shared/errors.ts'

const NEWLINE = 0x0a

/** Each block ends with `\n`, but for the last one when the body does not. A line over `lineBytesMax` is REMOTE_ERROR. */
export async function* lineBlocks(body: AsyncIterable<Uint8Array>, lineBytesMax: number): AsyncGenerator<Buffer> {
  let carry: Buffer[] = []
  let carryBytes = 0
  for await (const piece of body) {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
    const cut = bytes.lastIndexOf(NEWLINE) + 1
    if (cut > 0) {
      yield carry.length === 0 ? bytes.subarray(0, cut) : Buffer.concat([...carry, bytes.subarray(0, cut)])
      carry = []
      carryBytes = 0
    }
    if (cut === bytes.length) continue
    carry.push(bytes.subarray(cut))
    carryBytes += bytes.length - cut
    if (carryBytes > lineBytesMax) throw new AppError('REMOTE_ERROR', `a line of the answer is over ${lineBytesMax} bytes`)
  }
  if (carryBytes > 0) yield Buffer.concat(carry, carryBytes)
}
