/**
 * Finds any of several byte strings in one batch's decompressed records. The whole content is searched with
 * `Buffer.indexOf` (several GB/s), and only where it hits does anyone look at records. Questions come with rising
 * positions, so that each byte is searched about once per needle.
 *
 * With `ignoreCase` the needles are lower-case ASCII, and the content is searched in an ASCII-lowered copy.
 *
 * One instance serves one content at a time.
 */
export const NOWHERE = Number.MAX_SAFE_INTEGER

export class LiteralSearch {
  private readonly needles: readonly Buffer[]
  private readonly ignoreCase: boolean
  /** First occurrence of each needle at or behind the last question's start. */
  private readonly found: number[]
  private haystack: Buffer = Buffer.alloc(0)
  private lowered: Buffer = Buffer.alloc(0)

  constructor(needles: readonly Buffer[], options: { ignoreCase: boolean }) {
    this.needles = needles
    this.ignoreCase = options.ignoreCase
    this.found = needles.map(() => NOWHERE)
  }

  begin(raw: Buffer): void {
    this.haystack = this.ignoreCase ? this.lower(raw) : raw
    for (const [at, needle] of this.needles.entries()) this.found[at] = this.search(needle, 0)
  }

  /** Where the first occurrence of any needle begins at or behind `start`, which never goes back. */
  nextFrom(start: number): number {
    const { needles, found } = this
    let nearest = NOWHERE
    for (let at = 0; at < needles.length; at += 1) {
      const needle = needles[at]
      let position = found[at] ?? NOWHERE
      if (needle !== undefined && position < start) {
        position = this.search(needle, start)
        found[at] = position
      }
      if (position < nearest) nearest = position
    }
    return nearest
  }

  /** Where an occurrence begins that lies in [start, end) as a whole, or -1. `start` never goes back. */
  findIn(start: number, end: number): number {
    const { needles, found } = this
    for (let at = 0; at < needles.length; at += 1) {
      const needle = needles[at]
      let position = found[at]
      if (needle === undefined || position === undefined) continue
      if (position < start) {
        position = this.search(needle, start)
        found[at] = position
      }
      if (position + needle.length <= end) return position
    }
    return -1
  }

  /** Offers every occurrence in [start, end), overlapping ones too, until `accept` takes one. `start` never goes back. */
  someIn(start: number, end: number, accept: (from: number, to: number) => boolean): boolean {
    const { needles, found } = this
    for (const [at, needle] of needles.entries()) {
      let position = found[at] ?? NOWHERE
      if (position < start) position = this.search(needle, start)
      let taken = false
      while (!taken && position + needle.length <= end) {
        taken = accept(position, position + needle.length)
        // Going on from the last occurrence, never from the record's start: the content is passed over once in all.
        if (!taken) position = this.search(needle, position + 1)
      }
      found[at] = position
      if (taken) return true
    }
    return false
  }

  private search(needle: Buffer, from: number): number {
    const at = this.haystack.indexOf(needle, from)
    return at < 0 ? NOWHERE : at
  }

  private lower(raw: Buffer): Buffer {
    if (this.lowered.length < raw.length) this.lowered = Buffer.allocUnsafe(raw.length)
    const { lowered } = this
    for (let at = 0; at < raw.length; at += 1) {
      const byte = raw[at] ?? 0
      lowered[at] = byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte
    }
    return lowered.subarray(0, raw.length)
  }
}
