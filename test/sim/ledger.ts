/**
 * What the log was seen to hold and what the collector was heard to say, held against what the writers wrote. Every
 * batch is judged once, when it is first read from the log below the high watermark:
 *
 * - I1, I2: it starts where its stream stood, and the tail hash at its start is that of the bytes before.
 * - I5: with it the stream is still a prefix of one incarnation of one file, and of no mixture.
 * - what was read once is there again, byte for byte, whatever happened since.
 */
import { crc32c } from '../../shared/crc32c.ts'
import { sha256Prefix, tailHash } from '../../shared/hashes.ts'
import { decodeRecords, readBatchHeader, RecordCursor } from '../../shared/record-batch.ts'
import { decodeSourceHeader, SOURCE_HEADER_KEY, TAIL_BYTES_MAX, type SourceHeader } from '../../shared/source-header.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { Incarnation } from './content.ts'
import type { Trace } from './trace.ts'

export interface LedgerStream {
  readonly id: string
  readonly partition: number
  readonly first: SourceHeader
  records: number
  bytes: Buffer
  /** The incarnations that it is a prefix of. */
  candidates: Incarnation[]
}

export interface SeenBatch {
  readonly baseOffset: number
  readonly lastOffset: number
  /** Of everything but the fields that the collector fills in. */
  readonly bodyCrc: number
  readonly batchCrc: number
  readonly stream: string
  readonly end: number
}

interface SeenPartition {
  readonly batches: Map<number, SeenBatch>
  nextOffset: number
}

/** A position that left the collector, in whatever answer. */
export interface Told {
  readonly position: number
  readonly how: string
}

export interface Ack {
  readonly stream: string
  readonly end: number
  readonly crc: number
}

export interface LedgerSnapshot {
  readonly streams: ReadonlyMap<string, LedgerStream>
  readonly partitions: ReadonlyMap<number, SeenPartition>
  readonly told: ReadonlyMap<string, Told>
  readonly acks: ReadonlyMap<string, Ack>
}

const CONTENT_BYTES_MAX = 16 * 1024 * 1024

export class Ledger {
  readonly streams = new Map<string, LedgerStream>()
  readonly partitions = new Map<number, SeenPartition>()
  readonly told = new Map<string, Told>()
  /** Batches that were acknowledged, by `partition/offset`. */
  readonly acks = new Map<string, Ack>()
  /** By stream, the highest position that was ever told, whatever happened to the log since. */
  readonly heard = new Map<string, number>()
  private readonly zstd: Zstd
  private readonly trace: Trace
  private readonly incarnations: () => Iterable<Incarnation>

  constructor(parts: { zstd: Zstd; trace: Trace; incarnations: () => Iterable<Incarnation> }) {
    this.zstd = parts.zstd
    this.trace = parts.trace
    this.incarnations = parts.incarnations
  }

  partition(number: number): SeenPartition {
    const seen = this.partitions.get(number) ?? { batches: new Map(), nextOffset: 0 }
    this.partitions.set(number, seen)
    return seen
  }

  hear(stream: string, position: number, how: string): void {
    // Position 0 is what is said of a stream that nobody knows.
    if (position === 0) return
    this.heard.set(stream, Math.max(position, this.heard.get(stream) ?? 0))
    const before = this.told.get(stream)
    if (before === undefined || before.position < position) this.told.set(stream, { position, how })
  }

  /** What is known now, for the time when the log is set back to it. */
  snapshot(): LedgerSnapshot {
    return {
      streams: new Map([...this.streams].map(([id, stream]) => [id, { ...stream }])),
      partitions: new Map([...this.partitions].map(([number, { batches, nextOffset }]) => [number, { batches: new Map(batches), nextOffset }])),
      told: new Map(this.told),
      acks: new Map(this.acks),
    }
  }

  /** The log was set back: what was seen and said since holds no more, what was before still does. */
  setBack(to: LedgerSnapshot): void {
    refill(this.streams, to.streams)
    refill(this.partitions, to.partitions)
    refill(this.told, to.told)
    refill(this.acks, to.acks)
  }

  /** Whole batches back to back, as the log gave them. */
  take(partition: number, bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const { sizeBytes } = readBatchHeader(bytes, at)
      this.takeOne(partition, bytes.subarray(at, at + sizeBytes))
      at += sizeBytes
    }
  }

  private takeOne(partition: number, batch: Buffer): void {
    const header = readBatchHeader(batch)
    const seen = this.partition(partition)
    const bodyCrc = bodyCrcOf(batch)
    const known = seen.batches.get(header.baseOffset)
    if (known !== undefined) {
      if (known.bodyCrc !== bodyCrc) this.trace.violation('I4', `offset ${header.baseOffset} of partition ${partition} holds other bytes than when it was first read`)
      return
    }
    if (header.baseOffset < seen.nextOffset) this.trace.violation('I4', `partition ${partition} has a batch at ${header.baseOffset}, below ${seen.nextOffset}, that was not there before`)
    seen.nextOffset = Math.max(seen.nextOffset, header.lastOffset + 1)
    const { source, bytes, records } = this.decode(batch)
    this.trace.note('log', `partition ${partition} offsets ${header.baseOffset}-${header.lastOffset}`)
    const stream = this.judge(partition, source, { bytes, records })
    seen.batches.set(header.baseOffset, { baseOffset: header.baseOffset, lastOffset: header.lastOffset, bodyCrc, batchCrc: header.crc, stream, end: source.end })
  }

  /** What a batch holds: where it is from, and its source bytes. */
  decode(batch: Buffer): { source: SourceHeader; bytes: Buffer; records: number } {
    const raw = decodeRecords(batch, this.zstd, CONTENT_BYTES_MAX)
    const cursor = new RecordCursor(raw)
    const pieces: Uint8Array[] = []
    let source: SourceHeader | undefined
    let records = 0
    while (cursor.next()) {
      const header = cursor.header(SOURCE_HEADER_KEY)
      if (header !== undefined) source = decodeSourceHeader(header)
      pieces.push(raw.subarray(cursor.valueStart, cursor.valueEnd))
      if (cursor.mark() === 'newline') pieces.push(Buffer.from('\n'))
      records += 1
    }
    if (source === undefined) throw new Error('a batch without a source header in the log')
    return { source, bytes: Buffer.concat(pieces), records }
  }

  /** The stream's id. */
  private judge(partition: number, source: SourceHeader, held: { bytes: Buffer; records: number }): string {
    const { trace } = this
    const { bytes } = held
    const id = source.streamId.toString('hex')
    const what = `stream ${id.slice(0, 8)} (${source.path}, generation ${source.generation}) bytes ${source.start}-${source.end}`
    const stream = this.streams.get(id) ?? this.begin(id, partition, source)
    if (stream.partition !== partition) trace.violation('I1', `${what} stands in partition ${partition}, the stream in ${stream.partition}`)
    if (source.start !== stream.bytes.length) trace.violation('I2', `${what} were appended at position ${stream.bytes.length}`)
    if (source.firstOrdinal !== stream.records) trace.violation('I2', `${what}: first record is number ${source.firstOrdinal}, stream has ${stream.records}`)
    if (source.end - source.start !== bytes.length) trace.violation('I1', `${what}: the records give ${bytes.length} bytes`)
    if (!sha256Prefix(bytes).equals(source.sourceHash)) trace.violation('I1', `${what}: source hash differs`)
    if (!tailHash(stream.bytes.subarray(-TAIL_BYTES_MAX)).equals(source.tailHashStart) && source.start > 0) trace.violation('I2', `${what}: tail hash at start differs`)
    const from = stream.bytes.length
    stream.bytes = Buffer.concat([stream.bytes, bytes])
    stream.records += held.records
    const before = stream.candidates
    stream.candidates = before.filter((candidate) => holds(candidate, from, bytes))
    // A copy that was made since, and written to, may carry the stream on.
    if (stream.candidates.length === 0) stream.candidates = [...this.incarnations()].filter((candidate) => holds(candidate, 0, stream.bytes))
    if (stream.candidates.length === 0 && before.length > 0) {
      trace.violation('I5', `${what} are not what follows in ${before.map((each) => each.name).join(', ')}${this.whose(bytes)}`)
    }
    trace.note('log', `${what} records ${held.records} of ${stream.candidates.map((each) => each.name).join(' = ')}`)
    return id
  }

  private whose(bytes: Buffer): string {
    const owners = [...this.incarnations()].filter((each) => each.view().includes(bytes))
    return owners.length === 0 ? ', nor in any other file' : `, but stand in ${owners.map((each) => each.name).join(', ')}`
  }

  private begin(id: string, partition: number, source: SourceHeader): LedgerStream {
    const stream: LedgerStream = { id, partition, first: source, records: 0, bytes: Buffer.alloc(0), candidates: [...this.incarnations()] }
    this.streams.set(id, stream)
    return stream
  }
}

function refill<K, V>(map: Map<K, V>, from: ReadonlyMap<K, V>): void {
  map.clear()
  for (const [key, value] of from) map.set(key, value)
}

function holds(incarnation: Incarnation, from: number, bytes: Buffer): boolean {
  return incarnation.view().subarray(from, from + bytes.length).equals(bytes)
}

/** Base offset, length and leader epoch are left out. */
export function bodyCrcOf(batch: Buffer): number {
  return crc32c(batch.subarray(16))
}
