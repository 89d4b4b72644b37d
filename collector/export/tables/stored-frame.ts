/**
 * A zstd frame that holds its bytes uncompressed (RFC 8878 §3.1.1): for the rare Parquet page of one huge line, which
 * zstd-codec can't take.
 *
 * | bytes | field |
 * |---|---|
 * | 4 | magic 0xFD2FB528, little-endian |
 * | 1 | descriptor 0xA0: single segment, content size of 4 bytes |
 * | 4 | content size, little-endian |
 * | n | blocks: 3 bytes little-endian (last, type 0 = raw, size × 8), then up to 128 KiB as they are |
 */
import { assert } from '../../../shared/errors.ts'

const BLOCK_BYTES_MAX = 128 * 1024

/** `raw` has at least one byte. */
export function storedFrame(raw: Uint8Array): Uint8Array {
  assert(raw.length > 0 && raw.length <= 0xffff_ffff, 'a stored frame has 1 byte to 4 GiB')
  const blocks = Math.ceil(raw.length / BLOCK_BYTES_MAX)
  const frame = Buffer.alloc(9 + blocks * 3 + raw.length)
  frame.writeUInt32LE(0xfd2f_b528, 0)
  frame.writeUInt8(0xa0, 4)
  frame.writeUInt32LE(raw.length, 5)
  let at = 9
  for (let from = 0; from < raw.length; from += BLOCK_BYTES_MAX) {
    const size = Math.min(BLOCK_BYTES_MAX, raw.length - from)
    const isLast = from + size === raw.length
    frame.writeUIntLE((size << 3) | (isLast ? 1 : 0), at, 3)
    frame.set(raw.subarray(from, from + size), at + 3)
    at += 3 + size
  }
  return frame
}
