/**
 * The rows of an answer in order, as pieces of NDJSON: merged, cut at the limit, with context where it is asked for.
 * Small pieces are gathered, but never held back while the next page is awaited: a rare match is seen at once.
 */
import { partitionKey } from './cursor.ts'
import { ContextLines } from './context-lines.ts'
import { mergePages, type Run } from './merge.ts'
import { pageSources, type QueryRun } from './query-run.ts'
import type { Direction } from './scan-types.ts'
import type { ScanRange } from './unit-reader.ts'

const PIECE_BYTES = 64 * 1024

export interface AnswerRequest {
  readonly ranges: readonly ScanRange[]
  readonly direction: Direction
  readonly limit: number | undefined
}

export class AnswerRows {
  matched = 0
  /** The limit ended the answer before the data did, as far as anyone has looked. */
  isTruncated = false
  /** Per range: behind the last row that was taken into account. */
  readonly nextOffsets: number[]
  private readonly run: QueryRun
  private readonly request: AnswerRequest
  private readonly context: ContextLines | undefined
  private pending: Uint8Array[] = []
  private pendingBytes = 0

  constructor(run: QueryRun, request: AnswerRequest) {
    const { before, after } = run.filters
    this.run = run
    this.request = request
    this.nextOffsets = request.ranges.map(({ startOffset }) => startOffset)
    this.context = before + after > 0 ? new ContextLines(run.filters, request.direction) : undefined
  }

  async *pieces(): AsyncGenerator<Uint8Array, void, void> {
    const { ranges, direction, limit } = this.request
    for await (const run of mergePages(pageSources(this.run, ranges, { want: 'rows', direction, limit }), direction)) {
      if (this.context === undefined) this.addMatches(run)
      else this.addWithContext(run, this.context)
      const isPageDone = run.to === run.page.rowCount
      if (this.pendingBytes >= PIECE_BYTES || isPageDone || this.isTruncated) yield* this.flush()
      if (this.isTruncated) return
    }
    yield* this.flush()
  }

  private addMatches(run: Run): void {
    const { page, from } = run
    const to = Math.min(run.to, from + this.room())
    if (to > from) this.add(page.text.subarray(from === 0 ? 0 : page.ends[from - 1], page.ends[to - 1]))
    this.matched += to - from
    this.advance(run, to)
    this.isTruncated = this.room() === 0
  }

  private addWithContext(run: Run, context: ContextLines): void {
    const range = this.request.ranges[run.source]
    const partition = range === undefined ? '' : partitionKey(range.topic, range.partition)
    for (let at = run.from; at < run.to; at += 1) {
      if (this.room() === 0 && !context.isDue) break
      const takesMatches = this.room() > 0
      context.push(run.page, at, { partition, takesMatches }, (row, isContext) => {
        this.add(row)
        if (!isContext) this.matched += 1
      })
      if (takesMatches) this.advance(run, at + 1)
    }
    this.isTruncated = this.room() === 0 && !context.isDue
  }

  private room(): number {
    return (this.request.limit ?? Infinity) - this.matched
  }

  private advance(run: Run, to: number): void {
    const last = run.page.offsets[to - 1]
    if (to > run.from && last !== undefined) this.nextOffsets[run.source] = last + 1
  }

  private add(bytes: Uint8Array): void {
    this.pending.push(bytes)
    this.pendingBytes += bytes.length
  }

  private *flush(): Generator<Uint8Array, void, void> {
    if (this.pendingBytes === 0) return
    const [only] = this.pending
    const piece = this.pending.length === 1 && only !== undefined ? only : Buffer.concat(this.pending)
    this.pending = []
    this.pendingBytes = 0
    yield piece
  }
}
