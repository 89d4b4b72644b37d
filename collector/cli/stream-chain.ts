/**
 * The chain of one stream's batches: each begins where the one before ended, with the same tail hash, the next ordinal
 * and bytes that hash to what the header says. Pure; one chain per stream, fed in log order.
 */
import { tailHash } from '../../shared/hashes.ts'
import { TAIL_BYTES_MAX, type SourceHeader } from '../../shared/source-header.ts'

export type ChainProblem =
  /** Bytes of the source that no batch holds. */
  | { readonly kind: 'hole'; readonly from: number; readonly to: number }
  /** Bytes that an earlier batch holds already. */
  | { readonly kind: 'twice'; readonly from: number; readonly to: number }
  | { readonly kind: 'tail'; readonly from: number; readonly to: number; readonly text: string }

export interface ChainStep {
  readonly problems: readonly ChainProblem[]
  /** How many of the batch's first bytes were there before: 0, but for `twice`. */
  readonly skipBytes: number
}

export class StreamChain {
  /** First byte that the log still holds; undefined before the first batch. */
  start: number | undefined
  /** Behind the last byte seen. */
  position = 0
  records = 0
  /** What the last batch says of the bytes before `position`. */
  tailHashEnd: Buffer | undefined
  private nextOrdinal: number | undefined
  /** The last source bytes before `position`, as far as seen; the tail hash needs 64 KiB of them. */
  private tail: Buffer = Buffer.alloc(0)
  /** Whether `tail` holds all bytes that a tail hash at `position` covers. */
  private isTailWhole = true

  /** The tail may be given up to save memory; hashes are checked again once 64 KiB were seen behind it. */
  forgetTail(): void {
    this.tail = Buffer.alloc(0)
    this.isTailWhole = false
  }

  add(source: SourceHeader, content: Buffer, recordCount: number): ChainStep {
    const problems: ChainProblem[] = []
    if (this.start === undefined) this.begin(source)
    if (source.end <= this.position && source.start < this.position) {
      return { problems: [{ kind: 'twice', from: source.start, to: source.end }], skipBytes: content.length }
    }
    if (source.start < this.position) problems.push({ kind: 'twice', from: source.start, to: this.position })
    if (source.start > this.position) {
      problems.push({ kind: 'hole', from: this.position, to: source.start })
      this.forgetTail()
    } else if (source.start === this.position) problems.push(...this.checkJoint(source))
    const skipBytes = Math.max(0, this.position - source.start)
    this.extendTail(content.subarray(skipBytes), source.end)
    if (this.isTailWhole && !tailHash(this.tail).equals(source.tailHashEnd)) {
      problems.push({ kind: 'tail', from: source.start, to: source.end, text: 'tail hash at the end is not that of the bytes' })
    }
    this.position = source.end
    this.records += recordCount
    this.tailHashEnd = source.tailHashEnd
    this.nextOrdinal = source.firstOrdinal + recordCount
    return { problems, skipBytes }
  }

  private begin(source: SourceHeader): void {
    this.start = source.start
    this.position = source.start
    this.isTailWhole = source.start === 0
    this.tailHashEnd = source.tailHashStart
  }

  private checkJoint(source: SourceHeader): ChainProblem[] {
    const at = { from: source.start, to: source.end }
    if (this.tailHashEnd !== undefined && !this.tailHashEnd.equals(source.tailHashStart)) {
      return [{ kind: 'tail', ...at, text: 'tail hash at the start is not that of the batch before' }]
    }
    if (this.nextOrdinal !== undefined && this.nextOrdinal !== source.firstOrdinal) {
      return [{ kind: 'tail', ...at, text: `first ordinal is ${source.firstOrdinal}, ${this.nextOrdinal} was expected` }]
    }
    return []
  }

  private extendTail(content: Buffer, end: number): void {
    const needed = Math.min(TAIL_BYTES_MAX, end)
    if (content.length >= needed) {
      this.tail = Buffer.from(content.subarray(content.length - needed))
      this.isTailWhole = true
      return
    }
    const kept = this.tail.subarray(Math.max(0, this.tail.length - (needed - content.length)))
    this.tail = Buffer.concat([kept, content])
    this.isTailWhole = this.tail.length === needed
  }
}

export function problemText(problem: ChainProblem): string {
  switch (problem.kind) {
    case 'hole':
      return `bytes ${problem.from} to ${problem.to} are missing`
    case 'twice':
      return `bytes ${problem.from} to ${problem.to} are stored twice`
    case 'tail':
      return `bytes ${problem.from} to ${problem.to}: ${problem.text}`
  }
}
