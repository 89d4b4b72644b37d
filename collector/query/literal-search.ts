/**
 * Finds any of several byte strings in one batch's decompressed records. Where one string is as good as another, since
 * they occur together, the one that is rarest in the first content is searched for. The whole content is searched for the
 * needle's rarest byte, at the speed of memory, and only where a needle stands does anyone look at records. Questions
 * come with rising positions, so that each byte is searched about once per needle.
 *
 * With `ignoreCase` the needles are lower-case ASCII, and the content is searched in an ASCII-lowered copy.
 *
 * One instance serves one content at a time.
 */
import { assert } from '../../shared/errors.ts'

export const NOWHERE = Number.MAX_SAFE_INTEGER
/** Bytes of the first content that are counted: which bytes are rare differs by log, not by batch. */
const SAMPLE_BYTES = 64 * 1024
/**
 * A byte that stands in wrong places nearer to each other than this is not rare here: then the whole needle is searched
 * for, at a third of the speed but without stops.
 */
const MISS_BYTES_MIN = 512
const MISSES_MIN = 32

class Needle {
  readonly bytes: Buffer
  /** Where in it the byte stands that is searched for. */
  private readonly rareAt: number
  private isRare = true

  constructor(bytes: Buffer, counts: Uint32Array) {
    this.bytes = bytes
    let rareAt = 0
    for (let at = 1; at < bytes.length; at += 1) if (countOf(bytes[at], counts) < countOf(bytes[rareAt], counts)) rareAt = at
    this.rareAt = rareAt
  }

  /** A new content may be another kind of text. */
  begin(): void {
    this.isRare = true
  }

  /** The first occurrence at or behind `from`. */
  search(haystack: Buffer, from: number): number {
    const { bytes, rareAt } = this
    const rare = bytes[rareAt] ?? 0
    let at = from + rareAt
    for (let misses = 0; this.isRare; misses += 1) {
      const hit = haystack.indexOf(rare, at)
      const start = hit - rareAt
      if (hit < 0 || start + bytes.length > haystack.length) return NOWHERE
      if (this.standsAt(haystack, start)) return start
      at = hit + 1
      if (misses >= MISSES_MIN && at - from < misses * MISS_BYTES_MIN) this.isRare = false
    }
    const found = haystack.indexOf(bytes, at - rareAt)
    return found < 0 ? NOWHERE : found
  }

  /** Byte by byte: needles are short, and a call out of JavaScript costs more than that. */
  private standsAt(haystack: Buffer, start: number): boolean {
    const { bytes } = this
    for (let at = 0; at < bytes.length; at += 1) if (haystack[start + at] !== bytes[at]) return false
    return true
  }
}

/** The one that occurs least in the sample; of two that are equal the longer one. */
function rarest([first, ...others]: readonly Buffer[], sample: Buffer): Buffer {
  assert(first !== undefined, 'a group has a member')
  let best = { bytes: first, count: occurrences(first, sample) }
  for (const bytes of others) {
    const count = occurrences(bytes, sample)
    if (count < best.count || (count === best.count && bytes.length > best.bytes.length)) best = { bytes, count }
  }
  return best.bytes
}

function occurrences(bytes: Buffer, sample: Buffer): number {
  let count = 0
  for (let at = sample.indexOf(bytes); at >= 0; at = sample.indexOf(bytes, at + 1)) count += 1
  return count
}

function countOf(byte: number | undefined, counts: Uint32Array): number {
  return counts[byte ?? 0] ?? 0
}

export class LiteralSearch {
  private readonly wanted: readonly (readonly Buffer[])[]
  private needles: readonly Needle[] = []
  private readonly ignoreCase: boolean
  /** First occurrence of each needle at or behind the last question's start. */
  private readonly found: number[]
  private haystack: Buffer = Buffer.alloc(0)
  private lowered: Buffer = Buffer.alloc(0)

  /** Of each group one is found in place of all. No group is empty. */
  constructor(wanted: readonly (readonly Buffer[])[], options: { ignoreCase: boolean }) {
    this.wanted = wanted
    this.ignoreCase = options.ignoreCase
    this.found = wanted.map(() => NOWHERE)
  }

  begin(raw: Buffer): void {
    this.haystack = this.ignoreCase ? this.lower(raw) : raw
    if (this.needles.length === 0) this.choose()
    for (const [at, needle] of this.needles.entries()) {
      needle.begin()
      this.found[at] = needle.search(this.haystack, 0)
    }
  }

  /** Where the first occurrence of any needle begins at or behind `start`, which never goes back. */
  nextFrom(start: number): number {
    const { needles, found } = this
    let nearest = NOWHERE
    for (let at = 0; at < needles.length; at += 1) {
      const needle = needles[at]
      let position = found[at] ?? NOWHERE
      if (needle !== undefined && position < start) {
        position = needle.search(this.haystack, start)
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
        position = needle.search(this.haystack, start)
        found[at] = position
      }
      if (position + needle.bytes.length <= end) return position
    }
    return -1
  }

  /** Offers every occurrence in [start, end), overlapping ones too, until `accept` takes one. `start` never goes back. */
  someIn(start: number, end: number, accept: (from: number, to: number) => boolean): boolean {
    const { needles, found } = this
    for (const [at, needle] of needles.entries()) {
      let position = found[at] ?? NOWHERE
      const { length } = needle.bytes
      if (position < start) position = needle.search(this.haystack, start)
      let taken = false
      while (!taken && position + length <= end) {
        taken = accept(position, position + length)
        // Going on from the last occurrence, never from the record's start: the content is passed over once in all.
        if (!taken) position = needle.search(this.haystack, position + 1)
      }
      found[at] = position
      if (taken) return true
    }
    return false
  }

  private choose(): void {
    const counts = new Uint32Array(256)
    const sample = this.haystack.subarray(0, SAMPLE_BYTES)
    for (const byte of sample) counts[byte] = countOf(byte, counts) + 1
    this.needles = this.wanted.map((group) => new Needle(rarest(group, sample), counts))
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
