/**
 * Writes JSON strings from raw bytes straight into a growing buffer: no JavaScript string is made for a line that is
 * valid UTF-8. JSON asks for escapes of the quote, the backslash and bytes below 0x20 only.
 */
import { isUtf8 } from 'node:buffer'

const SHORT_ESCAPES: Readonly<Record<number, number>> = { 0x08: 0x62, 0x09: 0x74, 0x0a: 0x6e, 0x0c: 0x66, 0x0d: 0x72, 0x22: 0x22, 0x5c: 0x5c }
const HEX = '0123456789abcdef'
/** A byte becomes six at most: \u00XX. */
const ESCAPED_BYTES_MAX = 6

export class JsonText {
  private buffer: Buffer
  length = 0

  constructor(capacity: number) {
    this.buffer = Buffer.allocUnsafe(capacity)
  }

  /** The bytes written so far, as a copy with a memory of its own, which can be handed to another thread. */
  take(): Uint8Array {
    const bytes = new Uint8Array(this.length)
    bytes.set(this.buffer.subarray(0, this.length))
    return bytes
  }

  get capacity(): number {
    return this.buffer.length
  }

  /** The bytes written so far; valid until the next write. */
  view(): Uint8Array {
    return this.buffer.subarray(0, this.length)
  }

  clear(): void {
    this.length = 0
  }

  /** Text that is JSON already. */
  write(text: string): void {
    this.reserve(text.length * 3)
    this.length += this.buffer.write(text, this.length, 'utf8')
  }

  /** raw[start, end) between quotes. False, and nothing written, when it is not UTF-8. */
  writeString(raw: Buffer, start: number, end: number): boolean {
    this.reserve((end - start) * ESCAPED_BYTES_MAX + 2)
    const { buffer } = this
    let isKnownUtf8 = false
    let at = this.length
    buffer[at] = 0x22
    at += 1
    for (let from = start; from < end; from += 1) {
      const byte = raw[from] ?? 0
      if (byte >= 0x80 && !isKnownUtf8) {
        if (!isUtf8(raw.subarray(start, end))) return false
        isKnownUtf8 = true
      }
      if (byte >= 0x20 && byte !== 0x22 && byte !== 0x5c) {
        buffer[at] = byte
        at += 1
      } else at = writeEscape(buffer, at, byte)
    }
    buffer[at] = 0x22
    this.length = at + 1
    return true
  }

  private reserve(bytes: number): void {
    const needed = this.length + bytes
    if (needed <= this.buffer.length) return
    const grown = Buffer.allocUnsafe(Math.max(needed, this.buffer.length * 2))
    this.buffer.copy(grown, 0, 0, this.length)
    this.buffer = grown
  }
}

function writeEscape(buffer: Buffer, at: number, byte: number): number {
  buffer[at] = 0x5c
  const short = SHORT_ESCAPES[byte]
  if (short !== undefined) {
    buffer[at + 1] = short
    return at + 2
  }
  return at + 1 + buffer.write(`u00${HEX.charAt(byte >> 4)}${HEX.charAt(byte & 15)}`, at + 1, 'latin1')
}
