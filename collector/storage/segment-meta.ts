/**
 * `<base20>.meta`: what a sealed segment's other files do not say, above all when its bytes arrived. Retention by age
 * goes by these times, never by a timestamp from outside. 84 bytes, big-endian:
 *
 * | bytes | field |
 * |---|---|
 * | 4 | `TRMT` |
 * | 4 | version = 1 |
 * | 8 | next offset: one behind the last record |
 * | 8 | size of the log in bytes |
 * | 8 | wall clock at the first append, ms |
 * | 8 | wall clock at the last append, ms |
 * | 8 | largest record timestamp, i64 |
 * | 8, 4 | size of the offset index, its CRC-32C |
 * | 8, 4 | size of the time index, its CRC-32C |
 * | 8 | 0 |
 * | 4 | CRC-32C of all before |
 *
 * A file that is missing, torn or of another size than the log is rebuilt from the log: never trusted over it.
 */
import { ByteReader, ByteWriter } from '../../shared/bytes.ts'
import { crc32c } from '../../shared/crc32c.ts'
import { toOffset, type Offset } from '../../shared/types.ts'

export const META_BYTES = 84
const MAGIC = Buffer.from('TRMT', 'latin1')
const VERSION = 1

export interface IndexFacts {
  readonly sizeBytes: number
  readonly crc: number
}

export interface SegmentMeta {
  readonly nextOffset: Offset
  readonly sizeBytes: number
  readonly firstAppendMs: number
  readonly lastAppendMs: number
  readonly maxTimestampMs: number
  readonly offsetIndex: IndexFacts
  readonly timeIndex: IndexFacts
}

export function encodeSegmentMeta(meta: SegmentMeta): Buffer {
  const writer = new ByteWriter(META_BYTES)
  writer.bytes(MAGIC).u32(VERSION)
  writer.safe64(meta.nextOffset).safe64(meta.sizeBytes)
  writer.safe64(clampTime(meta.firstAppendMs)).safe64(clampTime(meta.lastAppendMs))
  writer.u64(BigInt.asUintN(64, BigInt(meta.maxTimestampMs)))
  writer.safe64(meta.offsetIndex.sizeBytes).u32(meta.offsetIndex.crc)
  writer.safe64(meta.timeIndex.sizeBytes).u32(meta.timeIndex.crc)
  writer.safe64(0)
  return writer.u32(crc32c(writer.buffer.subarray(0, writer.at))).buffer
}

/** Undefined when the bytes are not a whole meta file of a version that we know. */
export function decodeSegmentMeta(bytes: Buffer): SegmentMeta | undefined {
  if (bytes.length !== META_BYTES || !bytes.subarray(0, 4).equals(MAGIC)) return undefined
  if (crc32c(bytes.subarray(0, META_BYTES - 4)) !== bytes.readUInt32BE(META_BYTES - 4)) return undefined
  const reader = new ByteReader(bytes, 4)
  if (reader.u32() !== VERSION) return undefined
  return {
    nextOffset: toOffset(reader.safe64()),
    sizeBytes: reader.safe64(),
    firstAppendMs: reader.safe64(),
    lastAppendMs: reader.safe64(),
    maxTimestampMs: Number(BigInt.asIntN(64, reader.u64())),
    offsetIndex: { sizeBytes: reader.safe64(), crc: reader.u32() },
    timeIndex: { sizeBytes: reader.safe64(), crc: reader.u32() },
  }
}

/** A clock before 1970 must not make a segment unwritable. */
function clampTime(ms: number): number {
  return Math.max(0, Math.floor(ms))
}
