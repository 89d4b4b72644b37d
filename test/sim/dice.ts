/** Seeded chances. Each concern of a run has its own, so that turning one kind of fault off leaves the others as they were. */
import { crc32c } from '../../shared/crc32c.ts'
import type { Random } from '../../shared/system.ts'
import { seededRandom } from '../sim-fs.ts'

export class Dice {
  private readonly next: () => number

  constructor(seed: number, concern: string) {
    this.next = seededRandom((seed * 0x9e3779b1 + crc32c(Buffer.from(concern))) >>> 0)
    // The first numbers of near seeds are near each other.
    for (let skip = 0; skip < 4; skip += 1) this.next()
  }

  fraction(): number {
    return this.next()
  }

  isHit(chance: number): boolean {
    return this.next() < chance
  }

  /** Uniform, whole, both ends included. */
  between(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1))
  }

  /** Time to the next of events that come at random, on average each `meanMs`. */
  gap(meanMs: number): number {
    return -Math.log(1 - this.next()) * meanMs
  }

  pick<T>(from: readonly T[]): T {
    const picked = from[Math.floor(this.next() * from.length)]
    if (picked === undefined) throw new Error('nothing to pick from')
    return picked
  }

  random(): Random {
    return { next: () => this.next(), bytes: (count) => Buffer.from(Array.from({ length: count }, () => Math.floor(this.next() * 256))) }
  }
}
