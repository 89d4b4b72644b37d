/**
 * `recovery-point`: up to where a partition is known to be synced, and where its log starts. Two slots of 76 bytes at
 * 0 and 4096, written in turn, so that a torn write leaves the other one; the slot with the higher sequence counts.
 *
 * | bytes | field |
 * |---|---|
 * | 4 | `TRRP` |
 * | 4 | version = 1 |
 * | 8 | sequence, rising |
 * | 8 | base offset of the segment that was active |
 * | 8 | synced bytes of that segment |
 * | 8 | next offset at that point |
 * | 8 | log start offset: segments wholly below it are being removed |
 * | 8 | wall clock at the first append to that segment + 1, 0 = none |
 * | 8 | wall clock at the last append to that segment + 1, 0 = none |
 * | 8 | 0 |
 * | 4 | CRC-32C of all before |
 *
 * Correctness does not depend on its being fresh: an older one means a longer scan, and a wider stretch in which
 * damage can't be told from a torn tail.
 */
import { ByteReader, ByteWriter } from '../../shared/bytes.ts'
import { crc32c } from '../../shared/crc32c.ts'
import { readFully } from '../../shared/files.ts'
import type { FileHandle, FileSystem } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import { syncData, writeFully } from './disk.ts'
import { RECOVERY_POINT_NAME } from './filenames.ts'

const MAGIC = Buffer.from('TRRP', 'latin1')
const VERSION = 1
const SLOT_BYTES = 76
/** The second slot stands in another sector, whatever the disk's sector size. */
const SECOND_SLOT_AT = 4096

export interface RecoveryPoint {
  readonly segmentBase: Offset
  readonly position: number
  readonly nextOffset: Offset
  readonly logStartOffset: Offset
  readonly firstAppendMs: number | undefined
  readonly lastAppendMs: number | undefined
}

export class RecoveryPointFile {
  private readonly handle: FileHandle
  private sequence: number
  private last: RecoveryPoint | undefined

  private constructor(handle: FileHandle, sequence: number, last: RecoveryPoint | undefined) {
    this.handle = handle
    this.sequence = sequence
    this.last = last
  }

  /** The name is durable once the caller has synced the directory. */
  static async open(fs: FileSystem, directory: string): Promise<RecoveryPointFile> {
    const handle = await fs.open(`${directory}/${RECOVERY_POINT_NAME}`, 'readWriteCreate')
    const bytes = Buffer.alloc(SECOND_SLOT_AT + SLOT_BYTES)
    await readFully(handle, bytes, 0)
    const slots = [decodeSlot(bytes.subarray(0, SLOT_BYTES)), decodeSlot(bytes.subarray(SECOND_SLOT_AT))]
    const newest = slots.reduce((best, slot) => ((slot?.sequence ?? -1) > (best?.sequence ?? -1) ? slot : best), undefined)
    return new RecoveryPointFile(handle, newest?.sequence ?? 0, newest?.point)
  }

  /** Undefined in a new file, and when both slots are bad. */
  get current(): RecoveryPoint | undefined {
    return this.last
  }

  /** Durable on return. */
  async write(point: RecoveryPoint): Promise<void> {
    const sequence = this.sequence + 1
    const at = sequence % 2 === 0 ? 0 : SECOND_SLOT_AT
    // The first write takes the whole file's room, so that a later one can't fail on a full disk.
    const slot = encodeSlot(sequence, point)
    await (this.sequence === 0 ? writeFully(this.handle, [Buffer.alloc(SECOND_SLOT_AT), slot], 0) : writeFully(this.handle, [slot], at))
    await syncData(this.handle, RECOVERY_POINT_NAME)
    this.sequence = sequence
    this.last = point
  }

  async close(): Promise<void> {
    await this.handle.close()
  }
}

function encodeSlot(sequence: number, point: RecoveryPoint): Buffer {
  const writer = new ByteWriter(SLOT_BYTES).bytes(MAGIC).u32(VERSION).safe64(sequence)
  writer.safe64(point.segmentBase).safe64(point.position).safe64(point.nextOffset).safe64(point.logStartOffset)
  writer.safe64(encodeTime(point.firstAppendMs)).safe64(encodeTime(point.lastAppendMs)).safe64(0)
  return writer.u32(crc32c(writer.buffer.subarray(0, writer.at))).buffer
}

function decodeSlot(slot: Buffer): { sequence: number; point: RecoveryPoint } | undefined {
  if (slot.length !== SLOT_BYTES || !slot.subarray(0, 4).equals(MAGIC)) return undefined
  if (crc32c(slot.subarray(0, SLOT_BYTES - 4)) !== slot.readUInt32BE(SLOT_BYTES - 4)) return undefined
  const reader = new ByteReader(slot, 4)
  if (reader.u32() !== VERSION) return undefined
  return {
    sequence: reader.safe64(),
    point: {
      segmentBase: toOffset(reader.safe64()),
      position: reader.safe64(),
      nextOffset: toOffset(reader.safe64()),
      logStartOffset: toOffset(reader.safe64()),
      firstAppendMs: decodeTime(reader.safe64()),
      lastAppendMs: decodeTime(reader.safe64()),
    },
  }
}

function encodeTime(ms: number | undefined): number {
  return ms === undefined ? 0 : Math.max(0, Math.floor(ms)) + 1
}

function decodeTime(value: number): number | undefined {
  return value === 0 ? undefined : value - 1
}
