/**
 * Decides which of the merged rows are shown when context is asked for. Sees every row that may be a neighbour of a match
 * (batch-rows.ts) in the order of the answer, and keeps the last few of each source.
 *
 * The neighbours before a match are given directly before it, those behind it when their turn in the order comes: with
 * one source that is what grep prints; with several, lines of others may stand between. In the reverse order before and
 * behind change places. Memory is bounded: when too much is kept, the source that was quiet longest loses its lines.
 */
import type { Direction, ScanPage, ScanTask } from './scan-types.ts'

const KEPT_BYTES_MAX = 16 * 1024 * 1024

/** One row's JSON with its newline. */
export type Emit = (row: Uint8Array, isContext: boolean) => void

interface Source {
  /** Copies: a page must not stay in memory for one kept row. */
  kept: Uint8Array[]
  /** Neighbours of the last match that are still to come. */
  due: number
}

export class ContextLines {
  private readonly leading: number
  private readonly trailing: number
  /** Quietest first. Keys are topic, partition and record key. */
  private readonly sources = new Map<string, Source>()
  private keptBytes = 0
  private dueSources = 0

  constructor(task: Pick<ScanTask, 'before' | 'after'>, direction: Direction) {
    this.leading = direction === 'forward' ? task.before : task.after
    this.trailing = direction === 'forward' ? task.after : task.before
  }

  /** Whether any match still waits for neighbours. */
  get isDue(): boolean {
    return this.dueSources > 0
  }

  /** `takesMatches: false` once the limit is reached: then a match is a neighbour like any other. */
  push(page: ScanPage, at: number, place: { partition: string; takesMatches: boolean }, emit: Emit): void {
    const row = rowText(page, at)
    const source = this.touch(`${place.partition} ${page.sources[page.sourceOf[at] ?? 0] ?? ''}`)
    if (page.isMatch[at] === 1 && place.takesMatches) {
      for (const kept of source.kept) emit(asContext(kept), true)
      this.drop(source)
      emit(row, false)
      if (source.due === 0 && this.trailing > 0) this.dueSources += 1
      source.due = this.trailing
    } else if (source.due > 0) {
      source.due -= 1
      if (source.due === 0) this.dueSources -= 1
      emit(asContext(row), true)
    } else if (this.leading > 0) this.keep(source, row)
  }

  private touch(key: string): Source {
    const source = this.sources.get(key) ?? { kept: [], due: 0 }
    this.sources.delete(key)
    this.sources.set(key, source)
    return source
  }

  private keep(source: Source, row: Uint8Array): void {
    source.kept.push(Uint8Array.from(row))
    this.keptBytes += row.length
    const oldest = source.kept.length > this.leading ? source.kept.shift() : undefined
    this.keptBytes -= oldest?.length ?? 0
    for (const other of this.sources.values()) {
      if (this.keptBytes <= KEPT_BYTES_MAX) return
      this.drop(other)
    }
  }

  private drop(source: Source): void {
    for (const row of source.kept) this.keptBytes -= row.length
    source.kept = []
  }
}

export function rowText(page: ScanPage, at: number): Uint8Array {
  return page.text.subarray(at === 0 ? 0 : page.ends[at - 1], page.ends[at])
}

const CONTEXT_END = Buffer.from(',"context":true}\n')

/** The same row, marked as a neighbour: its last two bytes are the brace and the newline. */
function asContext(row: Uint8Array): Uint8Array {
  return Buffer.concat([row.subarray(0, row.length - 2), CONTEXT_END])
}
