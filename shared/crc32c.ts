/**
 * CRC-32C (Castagnoli), the checksum of Kafka's record batches and of every file format of ours. `zlib.crc32` is
 * another polynomial and would never match.
 */
import native from '@node-rs/crc32'

/** Continues from `previous`, so that a checksum can run over several buffers without joining them. */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  return native.crc32c(bytes, previous)
}
