/**
 * Bounds-checked reading and writing of binary formats. All integers are big-endian, varints are zigzag base-128 as in
 * Kafka's records. bigint stays in this file and in the few fields that really need 64 bits.
 */
import { AppError } from './errors.ts'

/** Reads forward through a buffer; running over its end is CORRUPT_MESSAGE, never an out-of-range exception. */
export class ByteReader {
  readonly buffer: Buffer
  at: number
  readonly end: number

  constructor(buffer: Buffer, start = 0, end: number = buffer.length) {
    this.buffer = buffer
    this.at = start
    this.end = end
  }

  get remaining(): number {
    return this.end - this.at
  }

  private take(count: number): number {
    if (count < 0 || count > this.end - this.at) {
      throw new AppError('CORRUPT_MESSAGE', `needs ${count} bytes at ${this.at}, has ${this.end - this.at}`)
    }
    const at = this.at
    this.at += count
    return at
  }

  /** A varint of one byte, the most common one, undecoded; -1 where it is longer or nothing is left. */
  private oneByte(): number {
    if (this.at >= this.end) return -1
    const byte = this.buffer[this.at] ?? 0x80
    if (byte >= 0x80) return -1
    this.at += 1
    return byte
  }

  u8(): number {
    return this.buffer.readUInt8(this.take(1))
  }

  u16(): number {
    return this.buffer.readUInt16BE(this.take(2))
  }

  i16(): number {
    return this.buffer.readInt16BE(this.take(2))
  }

  u32(): number {
    return this.buffer.readUInt32BE(this.take(4))
  }

  i32(): number {
    return this.buffer.readInt32BE(this.take(4))
  }

  u64(): bigint {
    return this.buffer.readBigUInt64BE(this.take(8))
  }

  /** A 64-bit count that must be a safe integer. */
  safe64(): number {
    const at = this.take(8)
    const high = this.buffer.readUInt32BE(at)
    const low = this.buffer.readUInt32BE(at + 4)
    const value = high * 0x1_0000_0000 + low
    if (!Number.isSafeInteger(value)) throw new AppError('CORRUPT_MESSAGE', `64-bit value at ${at} is over 2^53`)
    return value
  }

  /** A view, not a copy. */
  bytes(count: number): Buffer {
    const at = this.take(count)
    return this.buffer.subarray(at, at + count)
  }

  /** u16 length, then UTF-8. */
  string16(): string {
    return this.bytes(this.u16()).toString('utf8')
  }

  /** Zigzag varint of at most 32 bits. */
  varint(): number {
    const first = this.oneByte()
    if (first >= 0) return (first >>> 1) ^ -(first & 1)
    let result = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.u8()
      result |= (byte & 0x7f) << shift
      if ((byte & 0x80) === 0) return (result >>> 1) ^ -(result & 1)
    }
    throw new AppError('CORRUPT_MESSAGE', `varint longer than 5 bytes before ${this.at}`)
  }

  /** Zigzag varint of at most 64 bits whose value must be a safe integer. */
  varlong(): number {
    const first = this.oneByte()
    if (first >= 0) return (first >>> 1) ^ -(first & 1)
    let low = 0
    let scale = 1
    for (let count = 0; count < 10; count += 1) {
      const byte = this.u8()
      low += (byte & 0x7f) * scale
      scale *= 128
      if ((byte & 0x80) === 0) {
        if (low > Number.MAX_SAFE_INTEGER) break
        return low % 2 === 0 ? low / 2 : -(low + 1) / 2
      }
    }
    throw new AppError('CORRUPT_MESSAGE', `varlong before ${this.at} is over 2^53`)
  }
}

/** Writes forward into a buffer of known size; used where the size is computed beforehand. */
export class ByteWriter {
  readonly buffer: Buffer
  at = 0

  constructor(size: number) {
    this.buffer = Buffer.allocUnsafe(size)
  }

  u8(value: number): this {
    this.at = this.buffer.writeUInt8(value, this.at)
    return this
  }

  u16(value: number): this {
    this.at = this.buffer.writeUInt16BE(value, this.at)
    return this
  }

  u32(value: number): this {
    this.at = this.buffer.writeUInt32BE(value, this.at)
    return this
  }

  i32(value: number): this {
    this.at = this.buffer.writeInt32BE(value, this.at)
    return this
  }

  u64(value: bigint): this {
    this.at = this.buffer.writeBigUInt64BE(value, this.at)
    return this
  }

  safe64(value: number): this {
    this.at = this.buffer.writeUInt32BE(Math.floor(value / 0x1_0000_0000), this.at)
    this.at = this.buffer.writeUInt32BE(value % 0x1_0000_0000, this.at)
    return this
  }

  bytes(value: Uint8Array): this {
    this.buffer.set(value, this.at)
    this.at += value.length
    return this
  }

  string16(value: string): this {
    const length = Buffer.byteLength(value)
    this.u16(length)
    this.at += this.buffer.write(value, this.at, 'utf8')
    return this
  }
}

/** Bytes a zigzag varint takes, for |value| < 2^53. */
export function varintSize(value: number): number {
  if (value >= 0 && value < 0x2000) return value < 0x40 ? 1 : 2
  return longVarintSize(value)
}

function longVarintSize(value: number): number {
  let rest = value >= 0 ? value * 2 : -value * 2 - 1
  let size = 1
  while (rest >= 128) {
    rest = Math.floor(rest / 128)
    size += 1
  }
  return size
}

/** Writes a zigzag varint, for |value| < 2^53, and answers the position behind it. Short, so that callers take it in. */
export function writeVarint(target: Uint8Array, at: number, value: number): number {
  if (value < 0 || value >= 0x2000) return writeLongVarint(target, at, value)
  if (value < 0x40) {
    target[at] = value << 1
    return at + 1
  }
  target[at] = (value << 1) | 0x80
  target[at + 1] = value >> 6
  return at + 2
}

function writeLongVarint(target: Uint8Array, at: number, value: number): number {
  let rest = value >= 0 ? value * 2 : -value * 2 - 1
  let next = at
  while (rest >= 128) {
    target[next] = rest % 128 | 0x80
    rest = Math.floor(rest / 128)
    next += 1
  }
  target[next] = rest
  return next + 1
}
