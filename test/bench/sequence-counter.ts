/**
 * Counts the sequence numbers that arrive at a sink, whatever they are wrapped in: every line of the benchmark carries
 * `seq=` and ten digits. A number that never came is a line lost, one that came again a line doubled.
 */
const MARK = Buffer.from('seq=')
const DIGITS = 10
const MARK_BYTES = MARK.length + DIGITS
const ZERO = 0x30

export class SequenceCounter {
  distinct = 0
  doubled = 0
  /** Numbers that nobody wrote: the sink or a peer made them up. */
  unknown = 0
  private readonly seen: Uint8Array
  private readonly onFirst: ((sequence: number) => void) | undefined
  private carry: Buffer = Buffer.alloc(0)

  /** `total`: numbers from 0 to total − 1 are written. `onFirst` is told of each number when it comes first. */
  constructor(total: number, onFirst?: (sequence: number) => void) {
    this.seen = new Uint8Array(total)
    this.onFirst = onFirst
  }

  get lost(): number {
    return this.seen.length - this.distinct
  }

  get isComplete(): boolean {
    return this.distinct === this.seen.length
  }

  /** Pieces of one byte stream, in order; a number may stand across two of them. */
  feed(piece: Buffer): void {
    const bytes = this.carry.length === 0 ? piece : Buffer.concat([this.carry, piece])
    let at = bytes.indexOf(MARK)
    while (at >= 0 && at + MARK_BYTES <= bytes.length) {
      const sequence = readDigits(bytes, at + MARK.length)
      if (sequence !== undefined) this.count(sequence)
      at = bytes.indexOf(MARK, at + MARK.length)
    }
    const from = at >= 0 ? at : Math.max(0, bytes.length - MARK.length + 1)
    this.carry = Buffer.from(bytes.subarray(from))
  }

  private count(sequence: number): void {
    const before = this.seen[sequence]
    if (before === undefined) {
      this.unknown += 1
      return
    }
    if (before === 1) {
      this.doubled += 1
      return
    }
    this.seen[sequence] = 1
    this.distinct += 1
    this.onFirst?.(sequence)
  }
}

function readDigits(bytes: Buffer, from: number): number | undefined {
  let value = 0
  for (let at = from; at < from + DIGITS; at += 1) {
    const digit = (bytes[at] ?? 0) - ZERO
    if (digit < 0 || digit > 9) return undefined
    value = value * 10 + digit
  }
  return value
}
