/**
 * The judge: holds what came out (batches of the log, of exported segments) against the ledger, byte for byte. A stream
 * has to be a beginning of one incarnation; what no stream reaches is lost, what two streams hold is doubled, and bytes
 * that are no such beginning, or that come out of order, are counted as reordered.
 */
import { readTag, type Content, type ContentFactory } from './content.ts'
import { keyOf, type Incarnation, type Ledger } from './ledger.ts'
import { decodeRecords, hasValidCrc, peekBatchSize, readBatchHeader, readSourceHeader, RecordCursor } from '../../shared/record-batch.ts'
import { wireLimits } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'

export interface Verdict {
  readonly view: string
  readonly lines: number
  readonly bytes: number
  readonly lost: number
  /** Lost lines that exclusion E1 covers. */
  readonly excused: number
  readonly doubled: number
  readonly reordered: number
  readonly streams: number
  /** One sentence for each thing that is wrong. */
  readonly findings: readonly string[]
  readonly excuses: readonly string[]
}

interface StreamView {
  readonly id: string
  readonly firstOffset: string
  content: Content | undefined
  incarnation: Incarnation | undefined
  position: number
  isBroken: boolean
}

/** Takes the batches of every partition in offset order; `verdict` when all were given. */
export class Judge {
  private readonly view: string
  private readonly ledger: Ledger
  private readonly contents: ContentFactory
  private readonly zstd: Zstd
  private readonly streams = new Map<string, StreamView>()
  private readonly nextOffsets = new Map<string, number>()
  private readonly findings: string[] = []

  constructor(options: { view: string; ledger: Ledger; contents: ContentFactory; zstd: Zstd }) {
    this.view = options.view
    this.ledger = options.ledger
    this.contents = options.contents
    this.zstd = options.zstd
  }

  /** Whole batches one after the other. `place` is topic and partition. */
  take(place: string, bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const size = peekBatchSize(bytes, at) ?? 0
      if (size === 0 || at + size > bytes.length) {
        this.findings.push(`${place}: ${bytes.length - at} bytes at the end are no whole batch`)
        return
      }
      this.takeBatch(place, bytes.subarray(at, at + size))
      at += size
    }
  }

  private takeBatch(place: string, batch: Buffer): void {
    const header = readBatchHeader(batch)
    const expected = this.nextOffsets.get(place)
    if (expected !== undefined && expected !== header.baseOffset) this.findings.push(`${place}: offset ${header.baseOffset} follows ${expected - 1}`)
    this.nextOffsets.set(place, header.baseOffset + header.recordCount)
    if (!hasValidCrc(batch)) this.findings.push(`${place}: wrong CRC at offset ${header.baseOffset}`)
    const source = readSourceHeader(batch, this.zstd, wireLimits.batchContentBytesMax)
    if (source === undefined) {
      this.findings.push(`${place}: the batch at offset ${header.baseOffset} names no source`)
      return
    }
    const id = source.streamId.toString('hex')
    const stream = this.streams.get(id) ?? { id, firstOffset: `${place}@${header.baseOffset}`, content: undefined, incarnation: undefined, position: 0, isBroken: false }
    this.streams.set(id, stream)
    if (source.start !== stream.position) this.breaks(stream, `begins at ${source.start} where ${stream.position} was due`)
    else this.compare(stream, sourceBytes(decodeRecords(batch, this.zstd, wireLimits.batchContentBytesMax)))
    if (!stream.isBroken && source.end !== stream.position) this.breaks(stream, `says that it ends at ${source.end}, its bytes end at ${stream.position}`)
    stream.position = source.end
  }

  private compare(stream: StreamView, bytes: Buffer): void {
    if (stream.isBroken) return
    if (stream.content === undefined) {
      const tag = readTag(bytes)
      stream.incarnation = tag === undefined ? undefined : this.ledger.incarnations.get(keyOf(tag))
      if (tag === undefined || stream.incarnation === undefined) {
        this.breaks(stream, `begins with what nobody wrote at the beginning of a file: ${JSON.stringify(bytes.subarray(0, 60).toString('latin1'))}`)
        return
      }
      stream.content = this.contents.open(tag)
    }
    const wanted = stream.content.take(bytes.length)
    if (!wanted.equals(bytes)) this.breaks(stream, `differs from ${keyOf(stream.incarnation ?? { file: '?', number: 0 })} behind byte ${stream.position + firstDifference(wanted, bytes)}`)
    stream.position += bytes.length
    if (stream.incarnation !== undefined && stream.position > stream.incarnation.bytes) this.breaks(stream, `holds more than the ${stream.incarnation.bytes} bytes that were written`)
  }

  private breaks(stream: StreamView, text: string): void {
    if (!stream.isBroken) this.findings.push(`stream ${stream.id} (${stream.firstOffset}): ${text}`)
    stream.isBroken = true
  }

  verdict(): Verdict {
    const reached = new Map<Incarnation, { most: number; all: number; streams: number }>()
    let reordered = 0
    for (const { incarnation, isBroken, position } of this.streams.values()) {
      if (isBroken) reordered += 1
      if (isBroken || incarnation === undefined) continue
      const so = reached.get(incarnation) ?? { most: 0, all: 0, streams: 0 }
      reached.set(incarnation, { most: Math.max(so.most, position), all: so.all + position, streams: so.streams + 1 })
    }
    const sums = { lines: 0, bytes: 0, lost: 0, excused: 0, doubled: 0 }
    const excuses: string[] = []
    for (const incarnation of this.ledger.incarnations.values()) {
      const { most, all, streams } = reached.get(incarnation) ?? { most: 0, all: 0, streams: 0 }
      const { whole, behind } = this.countLines(incarnation, most)
      sums.lines += whole
      sums.bytes += incarnation.bytes
      if (all > most) {
        const doubled = Math.max(1, this.countLines(incarnation, all - most).whole - this.countLines(incarnation, all - most).behind)
        sums.doubled += doubled
        this.findings.push(`${keyOf(incarnation)}: ${streams} streams hold it, ${all - most} bytes twice`)
      }
      if (most === incarnation.bytes) continue
      const text = `${keyOf(incarnation)}: bytes ${most} to ${incarnation.bytes} are missing (${behind} lines)`
      const excuse = this.ledger.explain(incarnation)
      if (excuse === undefined) {
        sums.lost += behind
        this.findings.push(text)
      } else {
        sums.excused += behind
        excuses.push(`${text}: ${excuse}`)
      }
    }
    return { view: this.view, ...sums, reordered, streams: this.streams.size, findings: this.findings, excuses }
  }

  /** Lines of the incarnation, and those of them that do not end before `position`. */
  private countLines(incarnation: Incarnation, position: number): { whole: number; behind: number } {
    const content = this.contents.open(incarnation)
    let whole = 0
    let behind = 0
    for (let at = 0; at < incarnation.bytes; ) {
      at += content.nextLine().length
      whole += 1
      if (Math.min(at, incarnation.bytes) > position) behind += 1
    }
    return { whole, behind }
  }

  /** Streams that belong to one file, oldest first in its partition, and what `cat --all` has to print for them. */
  streamsOf(file: string): readonly { id: string; position: number; incarnation: Incarnation }[] {
    const found: { id: string; position: number; incarnation: Incarnation }[] = []
    for (const { id, position, incarnation } of this.streams.values()) if (incarnation?.file === file) found.push({ id, position, incarnation })
    return found
  }

  /** Names of all files that some stream holds. */
  get files(): readonly string[] {
    return [...new Set([...this.streams.values()].flatMap(({ incarnation }) => (incarnation === undefined ? [] : [incarnation.file])))]
  }
}

function sourceBytes(raw: Buffer): Buffer {
  const cursor = new RecordCursor(raw)
  const pieces: Buffer[] = []
  while (cursor.next()) {
    pieces.push(raw.subarray(cursor.valueStart, cursor.valueEnd))
    if (cursor.mark() === 'newline') pieces.push(NEWLINE)
  }
  return Buffer.concat(pieces)
}

const NEWLINE = Buffer.from('\n')

function firstDifference(a: Buffer, b: Buffer): number {
  for (let at = 0; at < a.length; at += 1) if (a[at] !== b[at]) return at
  return a.length
}
