/**
 * Virtual time: what is due next fires next, and everything that this wakes runs before the next thing fires. Equal
 * times fire in the order of asking, so a run depends on nothing but its seed.
 */
interface Due {
  readonly atMs: number
  readonly order: number
  fire: (() => void) | undefined
}

export class Scheduler {
  /** Not 0: code that takes 0 for "never" is caught. */
  private now = 1_000
  private asked = 0
  private readonly heap: Due[] = []
  fired = 0

  get nowMs(): number {
    return this.now
  }

  /** Answers a function that calls it off. */
  in(ms: number, fire: () => void): () => void {
    const due: Due = { atMs: this.now + Math.max(0, ms), order: this.asked, fire }
    this.asked += 1
    this.push(due)
    return () => {
      due.fire = undefined
    }
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.in(ms, resolve)
    })
  }

  /** Until that time, or until `isDone` says so after a step. */
  async runUntil(endMs: number, isDone: () => boolean = () => false): Promise<void> {
    await settle()
    for (let next = this.heap[0]; next !== undefined && next.atMs <= endMs; next = this.heap[0]) {
      this.pop()
      if (next.fire === undefined) continue
      this.now = Math.max(this.now, next.atMs)
      this.fired += 1
      next.fire()
      await settle()
      if (isDone()) return
    }
    this.now = Math.max(this.now, endMs)
  }

  private push(due: Due): void {
    const { heap } = this
    let at = heap.length
    heap.push(due)
    while (at > 0) {
      const parent = (at - 1) >> 1
      const above = heap[parent]
      if (above === undefined || !isBefore(due, above)) break
      heap[at] = above
      at = parent
    }
    heap[at] = due
  }

  private pop(): void {
    const { heap } = this
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      let below = heap[child]
      const right = heap[child + 1]
      if (below === undefined) break
      if (right !== undefined && isBefore(right, below)) {
        child += 1
        below = right
      }
      if (!isBefore(below, last)) break
      heap[at] = below
      at = child
    }
    heap[at] = last
  }
}

function isBefore(a: Due, b: Due): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

/** Nothing in a simulation waits for the real world, so one turn of the event loop runs all that can run. */
function settle(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}
