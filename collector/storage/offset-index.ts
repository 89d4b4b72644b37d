/**
 * The sparse offset index of one segment, in Kafka's format: entries of 8 bytes, `offset of the batch's last record
 * minus the segment's base` i32, `position of that batch's first byte` i32, both rising. It has no checksum in itself
 * because it is always rebuilt from the log when in doubt; the segment's meta file holds a CRC of it.
 *
 * Kept in memory in its disk form: the active segment's grows here, and is written when the segment is sealed.
 */
import { toOffset, type Offset } from '../../shared/types.ts'
import { assert } from '../../shared/errors.ts'

/** Kafka's index.interval.bytes: an entry stands for at least so many bytes of log. */
export const INDEX_INTERVAL_BYTES = 4096
const ENTRY_BYTES = 8
const INITIAL_ENTRIES = 64

export class OffsetIndex {
  readonly baseOffset: Offset
  private buffer: Buffer
  private count: number

  constructor(baseOffset: Offset, bytes?: Buffer) {
    this.baseOffset = baseOffset
    this.buffer = bytes ?? Buffer.alloc(INITIAL_ENTRIES * ENTRY_BYTES)
    this.count = bytes === undefined ? 0 : Math.floor(bytes.length / ENTRY_BYTES)
  }

  get entries(): number {
    return this.count
  }

  append(lastOffset: Offset, position: number): void {
    const relative = lastOffset - this.baseOffset
    assert(relative >= 0 && relative <= 0x7fff_ffff && position <= 0x7fff_ffff, 'an index entry fits 32 bits')
    assert(this.count === 0 || relative > this.relativeAt(this.count - 1), 'index offsets rise')
    const at = this.count * ENTRY_BYTES
    if (at === this.buffer.length) this.buffer = Buffer.concat([this.buffer, Buffer.alloc(Math.max(this.buffer.length, ENTRY_BYTES))])
    this.buffer.writeInt32BE(relative, at)
    this.buffer.writeInt32BE(position, at + 4)
    this.count += 1
  }

  /** Position of a batch that is not behind the one with `offset`; 0 when the index knows none. */
  lookup(offset: Offset): number {
    const relative = offset - this.baseOffset
    let low = 0
    let high = this.count
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.relativeAt(middle) <= relative) low = middle + 1
      else high = middle
    }
    return low === 0 ? 0 : this.buffer.readInt32BE((low - 1) * ENTRY_BYTES + 4)
  }

  at(index: number): { lastOffset: Offset; position: number } {
    return { lastOffset: toOffset(this.baseOffset + this.relativeAt(index)), position: this.buffer.readInt32BE(index * ENTRY_BYTES + 4) }
  }

  toBytes(): Buffer {
    return this.buffer.subarray(0, this.count * ENTRY_BYTES)
  }

  private relativeAt(index: number): number {
    return this.buffer.readInt32BE(index * ENTRY_BYTES)
  }
}
