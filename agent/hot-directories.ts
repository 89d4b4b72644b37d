/**
 * Directories with so many events that being told costs more than looking: they are not watched for a while, their files
 * are polled at the pace of their batches, and they are watched again once they are quiet. Counts only; the follower acts.
 */

/** Events in one sweep interval that make a directory hot. */
const HOT_EVENTS = 20
/** A hot directory none of whose files grew for this long is watched again. */
export const COOL_AFTER_MS = 2000

export class HotDirectories {
  private counts = new Map<string, number>()
  private readonly hot = new Set<string>()

  get isEmpty(): boolean {
    return this.hot.size === 0
  }

  has(directory: string): boolean {
    return this.hot.has(directory)
  }

  /** True when this event makes the directory hot. */
  count(directory: string): boolean {
    const count = (this.counts.get(directory) ?? 0) + 1
    this.counts.set(directory, count)
    if (count <= HOT_EVENTS || this.hot.has(directory)) return false
    this.hot.add(directory)
    return true
  }

  /** A new interval begins; directories that are quiet cool down. Answers whether any did. */
  tick(isQuiet: (directory: string) => boolean): boolean {
    this.counts = new Map()
    let hasCooled = false
    for (const directory of this.hot) {
      if (!isQuiet(directory)) continue
      this.hot.delete(directory)
      hasCooled = true
    }
    return hasCooled
  }
}
