/**
 * The time index of one segment, in Kafka's format: entries of 12 bytes, `largest timestamp so far` i64, `last offset of
 * the batch that has it, minus the segment's base` i32. Timestamps rise strictly; the last entry of a sealed segment
 * holds the segment's largest timestamp. No record up to an entry's offset has a timestamp above the entry's.
 */
import { assert } from '../../shared/errors.ts'
import { toOffset, type Offset } from '../../shared/types.ts'

const ENTRY_BYTES = 12
const INITIAL_ENTRIES = 64

export interface TimeIndexEntry {
  readonly timestampMs: number
  readonly offset: Offset
}

export class TimeIndex {
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

  /** Does nothing when the timestamp is not above the last one. */
  append(entry: TimeIndexEntry): void {
    if (this.count > 0 && entry.timestampMs <= this.timestampAt(this.count - 1)) return
    const relative = entry.offset - this.baseOffset
    assert(relative >= 0 && relative <= 0x7fff_ffff, 'a time index entry fits 32 bits')
    const at = this.count * ENTRY_BYTES
    if (at === this.buffer.length) this.buffer = Buffer.concat([this.buffer, Buffer.alloc(Math.max(this.buffer.length, ENTRY_BYTES))])
    this.buffer.writeBigInt64BE(BigInt(entry.timestampMs), at)
    this.buffer.writeInt32BE(relative, at + 8)
    this.count += 1
  }

  /** The last entry whose timestamp is below the given one: nothing up to its offset is as late as that. */
  lastBefore(timestampMs: number): TimeIndexEntry | undefined {
    let low = 0
    let high = this.count
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.timestampAt(middle) < timestampMs) low = middle + 1
      else high = middle
    }
    return low === 0 ? undefined : this.at(low - 1)
  }

  at(index: number): TimeIndexEntry {
    return {
      timestampMs: this.timestampAt(index),
      offset: toOffset(this.baseOffset + this.buffer.readInt32BE(index * ENTRY_BYTES + 8)),
    }
  }

  toBytes(): Buffer {
    return this.buffer.subarray(0, this.count * ENTRY_BYTES)
  }

  private timestampAt(index: number): number {
    return Number(this.buffer.readBigInt64BE(index * ENTRY_BYTES))
  }
}
