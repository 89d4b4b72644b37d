/**
 * A collector for the agent's tests: the conversation over a map of streams in memory, as an HttpClient, with faults to
 * order. It checks what the real one checks, and keeps the source bytes that the records rebuild.
 */
import { AppError } from '../../shared/errors.ts'
import { headHash, sha256Prefix, streamId, tailHash } from '../../shared/hashes.ts'
import { LABELS_HEADER_KEY } from '../../shared/labels.ts'
import { checkBatch, decodeRecords, readSourceHeaderBytes, RecordCursor } from '../../shared/record-batch.ts'
import { decodeSourceHeader, type SourceHeader } from '../../shared/source-header.ts'
import type { HttpClient, HttpRequest, HttpResponse } from '../../shared/system.ts'
import { decodeEnvelope, decodeFrames, paths, wireLimits, type FrameResult, type StreamInfo } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'

export interface StoredRecord {
  readonly value: Buffer
  readonly mark: 'newline' | 'part' | 'eof'
  readonly key: string
  /** Of its header, as JSON. */
  readonly labels: string | undefined
}

export interface StoredStream {
  readonly id: string
  readonly topic: string
  source: SourceHeader
  bytes: Buffer
  readonly records: StoredRecord[]
  readonly keyPath: string
  /** Of its batches, in order. */
  readonly ranges: { start: number; end: number; sourceHash: string }[]
  isOpen: boolean
  isSuperseded: boolean
  batches: number
  appendMs: number
}

export type Fault =
  /** Nothing was processed. */
  | 'refuse connection'
  /** Processed, and the answer is lost. */
  | 'lose answer'
  /** Processed twice, as a proxy that repeats does. */
  | 'process twice'
  | 503
  | 429

export interface Refusal {
  readonly status: number
  readonly code: string
  readonly message: string
  readonly hint?: string
}

const contentBytesMax = wireLimits.batchContentBytesMax

export class FakeCollector implements HttpClient {
  readonly streams = new Map<string, StoredStream>()
  readonly requests: string[] = []
  clusterId = 'cluster-a'
  logEpoch = 1
  /** Changes when its process does. */
  instance = '0000000000000001'
  /** Taken one per request for batches, from the front. */
  readonly faults: Fault[] = []
  isDown = false
  /** What it says to requests of these paths instead of an answer, for good. */
  readonly refusals = new Map<string, Refusal>()
  /** Answers a frame instead of the ladder, when it gives something. */
  judgeFrame: ((source: SourceHeader, topic: string) => FrameResult | undefined) | undefined
  pageSize = 1000
  /** Its wall clock, for append times. */
  nowMs: () => number = () => 0
  /** A build that does not know streams which begin inside a file. */
  isOld = false
  /** A build that tells no hashes of streams. */
  isWithoutHashes = false
  /** Answers to questions for hashes that are given before the right ones. */
  readonly crossedHashes: object[] = []
  /** Ranges before this position were dropped by retention. */
  hashesFrom = 0
  private readonly zstd: Zstd

  constructor(zstd: Zstd) {
    this.zstd = zstd
  }

  async request(request: HttpRequest): Promise<HttpResponse> {
    await Promise.resolve()
    const path = new URL(request.url).pathname
    this.requests.push(path)
    if (this.isDown) throw new AppError('CANNOT_CONNECT', 'connection refused')
    if (path.endsWith('/hashes')) return this.hashes(new URL(request.url))
    const refusal = this.refusals.get(path)
    if (refusal !== undefined) return answer(refusal.status, { error: { ...refusal, retryable: false } })
    const body = Buffer.concat(request.body === undefined || 'stream' in request.body ? [] : [...request.body])
    if (path !== paths.batches) return answer(200, this.json(path, JSON.parse(body.toString()) as JsonBody))
    const fault = this.faults.shift()
    if (fault === 'refuse connection') throw new AppError('CANNOT_CONNECT', 'connection refused')
    if (fault === 503 || fault === 429) {
      const code = fault === 503 ? 'UNAVAILABLE' : 'THROTTLED'
      return answer(fault, { error: { code, message: 'later', retryable: true } }, { 'retry-after': '2' })
    }
    let results = this.batches(body)
    if (fault === 'process twice') results = this.batches(body)
    if (fault === 'lose answer') throw new AppError('UNKNOWN_OUTCOME', 'connection reset')
    return answer(200, { logEpoch: this.logEpoch, instance: this.instance, frames: results })
  }

  async close(): Promise<void> {
    await Promise.resolve()
  }

  /** Source bytes of the newest open or closed stream of a path, by the path of its newest batch. */
  bytesOf(path: string): Buffer {
    return this.streamAt(path).bytes
  }

  streamAt(path: string): StoredStream {
    const at = [...this.streams.values()].filter((stream) => stream.source.path === path)
    const newest = at.sort((a, b) => b.source.generation - a.source.generation)[0]
    if (newest === undefined) throw new Error(`nothing was stored of ${path}`)
    return newest
  }

  /** Two ranges a page; the number of a range stands for its offset. */
  private hashes(url: URL): HttpResponse {
    const stream = this.streams.get(url.pathname.split('/')[3] ?? '')
    if (this.isWithoutHashes) return answer(404, { error: { code: 'NOT_FOUND', message: 'there is nothing here', retryable: false } })
    if (stream === undefined) return answer(404, { error: { code: 'UNKNOWN_STREAM', message: 'no such stream', retryable: false } })
    const offset = Number(url.searchParams.get('offset') ?? 0)
    const page = stream.ranges.slice(offset, offset + 2).filter(({ start }) => start >= this.hashesFrom)
    // An answer to another question first, as a proxy that answers twice makes it.
    const crossed = this.crossedHashes.shift()
    if (crossed !== undefined) return answer(200, crossed)
    return answer(200, { stream: url.pathname.split('/')[3], from: Number(url.searchParams.get('from') ?? 0), ranges: page, next: offset + 2 < stream.ranges.length ? offset + 2 : null, reachesBackTo: null })
  }

  private json(path: string, body: JsonBody): unknown {
    if (path === paths.hello) return this.hello(body.after ?? '')
    if (path === paths.lookup) return this.lookup(body)
    const closed: string[] = []
    for (const { id, position } of body.streams) {
      const stream = this.streams.get(id)
      if (stream?.bytes.length !== position) continue
      stream.isOpen = false
      closed.push(id)
    }
    return { closed }
  }

  private hello(after: string): unknown {
    const all = [...this.streams.values()].filter((stream) => (!stream.isSuperseded || stream.isOpen) && stream.id > after).sort((a, b) => (a.id < b.id ? -1 : 1))
    const page = all.slice(0, this.pageSize)
    return {
      protocol: 1,
      clusterId: this.clusterId,
      logEpoch: this.logEpoch,
      instance: this.instance,
      limits: { batchBytesMax: wireLimits.batchBytesMax, batchContentBytesMax: contentBytesMax, requestBytesMax: wireLimits.batchesRequestBytesMax },
      streams: page.map(describe),
      next: all.length > page.length ? page[page.length - 1]?.id : null,
    }
  }

  private lookup(body: JsonBody): unknown {
    const files = body.files.map((file) => {
      const head = Buffer.from(file.head, 'base64')
      const meant = [...this.streams.values()].filter(({ source, topic }) => {
        if (topic !== file.topic) return false
        if (source.inode.toString() === file.inode && source.birthtimeNs.toString() === file.birthtimeNs) return true
        return head.length >= source.headLength && headHash(head.subarray(0, source.headLength)).equals(source.headHash)
      })
      return { streams: meant.map(describe) }
    })
    return { files }
  }

  private batches(body: Buffer): FrameResult[] {
    return decodeFrames(body).map((frame) => {
      const { topic, sourceHeader } = decodeEnvelope(frame.envelope)
      const source = decodeSourceHeader(sourceHeader)
      return this.judgeFrame?.(source, topic) ?? this.append(topic, source, Buffer.from(frame.batch))
    })
  }

  private append(topic: string, source: SourceHeader, batch: Buffer): FrameResult {
    const header = checkBatch(batch, { contentBytesMax })
    const inside = readSourceHeaderBytes(batch, this.zstd, contentBytesMax)
    if (inside === undefined || !decodeSourceHeader(inside).sourceHash.equals(source.sourceHash)) throw new Error('envelope and tr differ')
    if (!streamId({ ...source, topic }).equals(source.streamId)) throw new Error('the stream id does not follow from its fields')
    const id = source.streamId.toString('hex')
    const echo = { stream: id, start: source.start, end: source.end, crc: header.crc }
    const stream = this.streams.get(id)
    const bytes = stream?.bytes ?? Buffer.alloc(0)
    if (stream === undefined && source.beginsInside === true && !this.isOld) return this.beginInside(topic, source, batch)
    const standing = { position: bytes.length, tailHash: tailHash(bytes).toString('hex') }
    if (source.start < bytes.length) return { status: 'have', ...echo, ...standing }
    if (source.start > bytes.length) return { status: 'expected', ...echo, ...standing }
    if (!source.tailHashStart.equals(tailHash(bytes))) return { status: 'diverged', ...echo, ...standing }
    this.store({ topic, id, source, batch, bytes })
    return { status: 'ok', ...echo, partition: 0, offset: 0 }
  }

  private beginInside(topic: string, source: SourceHeader, batch: Buffer): FrameResult {
    const id = source.streamId.toString('hex')
    // The bytes before are not ours: zeros stand for them, so that positions stay positions in the file.
    const records = decodeStored(batch, this.zstd)
    const fresh = Buffer.concat(records.flatMap(({ value, mark }) => (mark === 'newline' ? [value, Buffer.from('\n')] : [value])))
    const bytes = Buffer.concat([Buffer.alloc(source.start), fresh])
    this.streams.set(id, { id, topic, source, bytes, records, ranges: [rangeOf(source)], keyPath: source.path, isOpen: true, isSuperseded: false, batches: 1, appendMs: this.nowMs() })
    return { status: 'ok', stream: id, start: source.start, end: source.end, crc: batch.readUInt32BE(17), partition: 0, offset: 0 }
  }

  private store({ topic, id, source, batch, bytes }: { topic: string; id: string; source: SourceHeader; batch: Buffer; bytes: Buffer }): void {
    const records = decodeStored(batch, this.zstd)
    const fresh = Buffer.concat(records.flatMap(({ value, mark }) => (mark === 'newline' ? [value, Buffer.from('\n')] : [value])))
    const all = Buffer.concat([bytes, fresh])
    const before = this.streams.get(id)
    if (!sha256Prefix(fresh).equals(source.sourceHash)) throw new Error('source hash differs')
    if (!tailHash(all).equals(source.tailHashEnd)) throw new Error('tail hash at end differs')
    if (!headHash(all.subarray(0, source.headLength)).equals(source.headHash)) throw new Error('head hash differs')
    if (all.length !== source.end) throw new Error(`end ${source.end}, records give ${all.length}`)
    if ((before?.records.length ?? 0) !== source.firstOrdinal) throw new Error(`ordinal ${source.firstOrdinal}, ${before?.records.length} are stored`)
    if (before === undefined) {
      const keyPath = (records[0]?.key ?? '').replace(/^[^:]*:/, '')
      this.streams.set(id, { id, topic, source, bytes: all, records, ranges: [rangeOf(source)], keyPath, isOpen: true, isSuperseded: false, batches: 1, appendMs: this.nowMs() })
      this.supersede(topic, source)
      return
    }
    before.source = source
    before.bytes = all
    before.records.push(...records)
    before.ranges.push(rangeOf(source))
    before.isOpen = true
    before.batches += 1
    before.appendMs = this.nowMs()
  }

  private supersede(topic: string, source: SourceHeader): void {
    if (source.supersedes === undefined) return
    const id = streamId({ ...source, topic, generation: source.supersedes }).toString('hex')
    const old = this.streams.get(id)
    if (old !== undefined) old.isSuperseded = true
  }
}

/** Of all requests together: each uses its own fields. */
interface JsonBody {
  readonly after?: string
  readonly files: readonly { topic: string; inode: string; birthtimeNs: string; head: string }[]
  readonly streams: readonly { id: string; position: number }[]
}

function rangeOf({ start, end, sourceHash }: SourceHeader): StoredStream['ranges'][number] {
  return { start, end, sourceHash: sourceHash.toString('hex') }
}

export function decodeStored(batch: Buffer, zstd: Zstd): StoredRecord[] {
  const raw = decodeRecords(batch, zstd, contentBytesMax)
  const cursor = new RecordCursor(raw)
  const records: StoredRecord[] = []
  while (cursor.next()) {
    records.push({
      value: Buffer.from(raw.subarray(cursor.valueStart, cursor.valueEnd)),
      mark: cursor.mark(),
      key: raw.subarray(cursor.keyStart, cursor.keyEnd).toString(),
      labels: cursor.header(LABELS_HEADER_KEY)?.toString(),
    })
  }
  return records
}

function describe(stream: StoredStream): StreamInfo {
  const { source } = stream
  return {
    id: stream.id, agentId: source.agentId, host: source.host, path: source.path, keyPath: stream.keyPath, topic: stream.topic, partition: 0,
    inode: source.inode.toString(), birthtimeNs: source.birthtimeNs.toString(),
    headLength: source.headLength, headHash: source.headHash.toString('hex'),
    generation: source.generation, supersedes: source.supersedes ?? null, superseded: stream.isSuperseded,
    position: stream.bytes.length, tailHash: tailHash(stream.bytes).toString('hex'), records: stream.records.length,
    firstOffset: 0, lastOffset: 0, lastAppendMs: stream.appendMs, endsWithEof: source.endsWithEof, open: stream.isOpen,
  }
}

function answer(status: number, value: unknown, headers: Record<string, string> = {}): HttpResponse {
  const text = Buffer.from(JSON.stringify(value))
  return {
    status,
    headers: new Map(Object.entries(headers)),
    body: (async function* body() {
      await Promise.resolve()
      yield text
    })(),
  }
}
