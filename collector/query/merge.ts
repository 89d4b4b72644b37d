/**
 * Merges the partitions' rows into the one order of all queries: (running maximum of the timestamp in the partition,
 * topic and partition, offset), or exactly the reverse. The partitions are in that order already, so the merge holds one
 * page of each and sorts nothing.
 */
import type { Direction, ScanPage } from './scan-types.ts'

/** Rows [from, to) of a page, next in order. The page stays as it is until the next run is asked for. */
export interface Run {
  /** Index of the source that the page came from. */
  readonly source: number
  readonly page: ScanPage
  readonly from: number
  readonly to: number
}

interface Head {
  readonly source: number
  readonly page: ScanPage
  at: number
}

const FIRST_READS_MAX = 16

/** `sources` stand in the order of topic and partition. */
export async function* mergePages(sources: readonly AsyncGenerator<ScanPage, void, void>[], direction: Direction): AsyncGenerator<Run, void, void> {
  try {
    const heads = await firstHeads(sources)
    heads.sort((a, b) => compareHeads(a, b, direction))
    for (;;) {
      const head = heads.shift()
      if (head === undefined) return
      const from = head.at
      head.at = endOfRun(head, heads[0], direction)
      yield { source: head.source, page: head.page, from, to: head.at }
      const next = head.at < head.page.rowCount ? head : await nextHead(sources[head.source], head.source)
      if (next !== undefined) insert(heads, next, direction)
    }
  } finally {
    await Promise.all(sources.map((source) => source.return()))
  }
}

/** A few at a time: a thousand partitions must not all be read at once. */
async function firstHeads(sources: readonly AsyncGenerator<ScanPage, void, void>[]): Promise<Head[]> {
  const heads: Head[] = []
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < sources.length) {
      const at = next
      next += 1
      const head = await nextHead(sources[at], at)
      if (head !== undefined) heads.push(head)
    }
  }
  await Promise.all(Array.from({ length: FIRST_READS_MAX }, lane))
  return heads
}

/** Negative when a's next row comes first. Two heads never have the same source. */
function compareHeads(a: Head, b: Head, direction: Direction): number {
  const order = (a.page.keys[a.at] ?? 0) - (b.page.keys[b.at] ?? 0) || a.source - b.source
  return direction === 'forward' ? order : -order
}

/** How far this head's rows go before the runner-up's next one. */
function endOfRun(head: Head, runnerUp: Head | undefined, direction: Direction): number {
  const { keys, rowCount } = head.page
  if (runnerUp === undefined) return rowCount
  const limit = runnerUp.page.keys[runnerUp.at] ?? 0
  const winsTie = direction === 'forward' ? head.source < runnerUp.source : head.source > runnerUp.source
  let at = head.at + 1
  for (; at < rowCount; at += 1) {
    const key = keys[at] ?? 0
    if (key === limit ? !winsTie : direction === 'forward' ? key > limit : key < limit) break
  }
  return at
}

/** By bisection: the list of heads is as long as there are partitions. */
function insert(heads: Head[], head: Head, direction: Direction): void {
  let low = 0
  let high = heads.length
  while (low < high) {
    const middle = (low + high) >> 1
    const other = heads[middle]
    if (other !== undefined && compareHeads(other, head, direction) < 0) low = middle + 1
    else high = middle
  }
  heads.splice(low, 0, head)
}

/** The source's next page that holds rows. */
async function nextHead(source: AsyncGenerator<ScanPage, void, void> | undefined, at: number): Promise<Head | undefined> {
  for (;;) {
    const next = await source?.next()
    if (next === undefined || next.done === true) return undefined
    if (next.value.rowCount > 0) return { source: at, page: next.value, at: 0 }
  }
}
