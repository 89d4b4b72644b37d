/**
 * A collector in memory for the CLI's tests: real sealed batches behind the real paths, without sockets. It answers the
 * way the contract in shared/wire.ts says, no more: filters are fixed text, streams are folded from the batches given.
 */
import { patchBatch, readBatchHeader, RecordCursor, decodeRecords, producerOf } from '../../../shared/record-batch.ts'
import type { HttpClient, HttpRequest, HttpResponse } from '../../../shared/system.ts'
import { toOffset } from '../../../shared/types.ts'
import { fetchHeaders, splitRecordKey, type CollectorStatus, type ExportInfo, type QueryRecord, type StreamInfo, type TopicInfo } from '../../../shared/wire.ts'
import type { MissingResponse } from '../../../shared/wire-missing.ts'
import type { Zstd } from '../../../shared/zstd.ts'
import type { SealedBatch } from '../../sealed-batch.ts'

interface StoredBatch {
  readonly bytes: Buffer
  readonly baseOffset: number
  readonly lastOffset: number
  readonly streamId: string | undefined
}

export interface PostedLines {
  readonly topic: string
  readonly key: string
  readonly body: string
}

export class FakeCollector implements HttpClient {
  readonly posted: PostedLines[] = []
  readonly requests: HttpRequest[] = []
  exports: ExportInfo[] = []
  alarms: CollectorStatus['alarms'] = []
  missing: Array<{ topic: string; partition: number; fromOffset: number; toOffset: number; reason: string }> = []
  /** Answers of `GET /v1/tail`, one per connection; behind the last one it refuses. */
  tails: string[] = []
  /** Called before each answer; may throw, or answer in the collector's place. */
  setBack: MissingResponse = { sinceMs: null, missing: [], confirmed: [] }
  intercept: (request: HttpRequest, url: URL) => HttpResponse | undefined = () => undefined
  /** Cuts the answer to a query after so many bytes. */
  cutQueryAfter: number | undefined
  readonly streams = new Map<string, StreamInfo>()
  private readonly zstd: Zstd
  private readonly partitions = new Map<string, StoredBatch[]>()
  private readonly logStarts = new Map<string, number>()

  constructor(zstd: Zstd) {
    this.zstd = zstd
  }

  store(sealed: SealedBatch, partition = 0): number {
    const id = sealed.source.streamId.toString('hex')
    const stored = this.storeRaw(sealed.batch, { topic: sealed.topic, partition, streamId: id })
    const { source } = sealed
    const known = this.streams.get(id)
    this.streams.set(id, {
      id, agentId: source.agentId, host: source.host, path: source.path, keyPath: sealed.keyPath, topic: sealed.topic, partition,
      inode: source.inode.toString(), birthtimeNs: source.birthtimeNs.toString(), headLength: source.headLength,
      headHash: source.headHash.toString('hex'), generation: source.generation, supersedes: source.supersedes ?? null,
      superseded: false, position: source.end, tailHash: source.tailHashEnd.toString('hex'),
      records: (known?.records ?? 0) + sealed.recordCount, firstOffset: known?.firstOffset ?? stored.baseOffset,
      lastOffset: stored.lastOffset, lastAppendMs: 1_700_000_000_000 + stored.lastOffset, endsWithEof: source.endsWithEof, open: true,
    })
    return stored.baseOffset
  }

  storeRaw(batch: Buffer, place: { topic: string; partition: number; streamId?: string }): StoredBatch {
    const key = `${place.topic}:${place.partition}`
    const log = this.partitions.get(key) ?? []
    this.partitions.set(key, log)
    const bytes = Buffer.from(batch)
    const baseOffset = (log.at(-1)?.lastOffset ?? -1) + 1
    patchBatch(bytes, { baseOffset: toOffset(baseOffset), leaderEpoch: 1 })
    const stored = { bytes, baseOffset, lastOffset: baseOffset + readBatchHeader(bytes).lastOffsetDelta, streamId: place.streamId }
    log.push(stored)
    return stored
  }

  /** The stored bytes, to be damaged by a test. */
  log(topic: string, partition = 0): StoredBatch[] {
    return this.partitions.get(`${topic}:${partition}`) ?? []
  }

  /** What retention does: batches below go. */
  dropBelow(offset: number, topic: string, partition = 0): void {
    const log = this.log(topic, partition)
    while ((log[0]?.lastOffset ?? Infinity) < offset) log.shift()
    this.logStarts.set(`${topic}:${partition}`, offset)
  }

  async request(request: HttpRequest): Promise<HttpResponse> {
    await Promise.resolve()
    this.requests.push(request)
    const url = new URL(request.url)
    const early = this.intercept(request, url)
    if (early !== undefined) return early
    if (url.pathname === '/v1/topics' && request.method === 'GET') return json({ topics: this.topicInfos() })
    if (url.pathname === '/v1/streams') return json({ streams: this.streamsFor(url.searchParams), next: null })
    if (url.pathname === '/v1/streams/missing') return json(this.setBack)
    if (url.pathname === '/v1/exports') return json({ exports: this.exports })
    if (url.pathname === '/v1/clock/confirm') return json({ confirmed: true })
    if (url.pathname === '/v1/status') return json(this.status())
    if (url.pathname === '/v1/fetch') return this.fetch(url.searchParams)
    if (url.pathname === '/v1/query') return this.query(url.searchParams)
    if (url.pathname === '/v1/tail') return this.tail()
    const lines = /^\/v1\/topics\/([^/]+)\/lines$/.exec(url.pathname)
    if (lines !== null) return this.takeLines(lines[1] ?? '', request)
    if (url.pathname.startsWith('/v1/topics')) return json({})
    return error(404, 'NOT_FOUND', `no ${url.pathname}`)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  private topicInfos(): TopicInfo[] {
    const names = [...new Set([...this.partitions.keys()].map((key) => key.slice(0, key.lastIndexOf(':'))))]
    return names.map((name) => ({
      name,
      config: { partitions: 1, segmentBytes: 1024, segmentAgeMs: 3_600_000, retentionBytes: null, retentionAgeMs: null },
      partitions: [...this.partitions].filter(([key]) => key.startsWith(`${name}:`)).map(([key, log]) => {
        const end = (log.at(-1)?.lastOffset ?? -1) + 1
        return {
          partition: Number(key.slice(name.length + 1)), logStartOffset: this.logStarts.get(key) ?? 0, localLogStartOffset: this.logStarts.get(key) ?? 0, highWatermark: end, logEndOffset: end,
          segments: 1, sizeBytes: log.reduce((sum, { bytes }) => sum + bytes.length, 0), firstAppendMs: 1, lastAppendMs: 2, state: 'ok',
        }
      }),
    }))
  }

  private streamsFor(query: URLSearchParams): StreamInfo[] {
    const is = (name: string, ...values: string[]): boolean => !query.has(name) || values.includes(query.get(name) ?? '')
    return [...this.streams.values()].filter((stream) => is('host', stream.host) && is('path', stream.path, stream.keyPath) && is('id', stream.id))
  }

  private status(): CollectorStatus {
    return {
      version: '0.0.0', clusterId: 'cluster-1', logEpoch: 1, startedMs: 1, nowMs: 5001, ready: true, topics: 1, streams: this.streams.size,
      freeBytes: 1024, exportTo: null, alarms: this.alarms, agents: [],
    }
  }

  /** One batch per page, so that paging is always at work. */
  private fetch(query: URLSearchParams): HttpResponse {
    const key = `${query.get('topic') ?? ''}:${query.get('partition') ?? ''}`
    const offset = Number(query.get('offset'))
    const end = Number(query.get('endOffset') ?? Infinity)
    const log = this.partitions.get(key) ?? []
    const wanted = log.find((batch) => batch.lastOffset >= offset && batch.baseOffset < end && (query.get('stream') ?? batch.streamId) === batch.streamId)
    const endOfLog = (log.at(-1)?.lastOffset ?? -1) + 1
    return {
      status: 200,
      headers: new Map([
        [fetchHeaders.nextOffset, String(wanted === undefined ? Math.min(end, endOfLog) : wanted.lastOffset + 1)],
        [fetchHeaders.highWatermark, String(endOfLog)],
        [fetchHeaders.logStartOffset, String(this.logStarts.get(key) ?? 0)],
      ]),
      body: pieces(wanted?.bytes ?? Buffer.alloc(0)),
    }
  }

  private query(query: URLSearchParams): HttpResponse {
    const all = this.records().filter((record) => matches(record, query))
    const last = Number(query.get('last') ?? 0)
    const limit = Number(query.get('limit') ?? 0)
    const ordered = query.has('reverse') ? [...all].reverse() : all
    const chosen = last > 0 ? ordered.slice(-last) : limit > 0 ? ordered.slice(0, limit) : ordered
    const end = {
      matched: query.has('count') ? all.length : chosen.length, truncated: chosen.length < all.length, missing: this.missing, batches: 1, batchesRead: 1,
      bytesRead: 10, contentBytes: 10, ms: 1, cursor: [...this.partitions].map(([key, log]) => `${key}@${(log.at(-1)?.lastOffset ?? -1) + 1}`).join(','),
    }
    const lines = [...(query.has('countBy') ? minutes(all) : query.has('count') ? [] : chosen), { end }].map((row) => `${JSON.stringify(row)}\n`)
    const body = Buffer.from(lines.join(''))
    const cut = this.cutQueryAfter
    this.cutQueryAfter = undefined
    return { status: 200, headers: new Map(), body: pieces(cut === undefined ? body : body.subarray(0, cut)) }
  }

  /** In order of time, then partition, then offset. */
  records(): QueryRecord[] {
    const found: QueryRecord[] = []
    for (const [place, log] of this.partitions) {
      const [topic, partition] = [place.slice(0, place.lastIndexOf(':')), Number(place.slice(place.lastIndexOf(':') + 1))]
      for (const { bytes, baseOffset } of log) {
        const cursor = new RecordCursor(decodeRecords(bytes, this.zstd, 1 << 24))
        while (cursor.next()) {
          const key = cursor.keyStart < 0 ? '' : cursor.raw.toString('utf8', cursor.keyStart, cursor.keyEnd)
          const value = cursor.raw.subarray(cursor.valueStart, cursor.valueEnd)
          const line = value.toString('utf8')
          found.push({
            topic, partition, offset: baseOffset + cursor.offsetDelta, ts: readBatchHeader(bytes).baseTimestampMs + cursor.timestampDelta,
            ...splitRecordKey(key), line, ...(Buffer.from(line).equals(value) ? {} : { b64: value.toString('base64') }),
          })
        }
      }
    }
    return found.sort((a, b) => a.ts - b.ts || a.partition - b.partition || a.offset - b.offset)
  }

  private tail(): HttpResponse {
    const text = this.tails.shift()
    if (text === undefined) return error(403, 'FORBIDDEN', 'no more tails')
    return { status: 200, headers: new Map(), body: pieces(Buffer.from(text)) }
  }

  private takeLines(topic: string, request: HttpRequest): HttpResponse {
    const body = request.body !== undefined && !('stream' in request.body) ? Buffer.concat([...request.body]).toString('latin1') : ''
    const key = request.headers?.['idempotency-key'] ?? ''
    if (!this.posted.some((earlier) => earlier.key === key)) this.posted.push({ topic, key, body })
    return json({ topic, partition: 0, baseOffset: 0, lastOffset: 0, records: 1 })
  }
}

function matches(record: QueryRecord, query: URLSearchParams): boolean {
  const patterns = query.getAll('pattern')
  const topics = query.getAll('topic')
  const partitions = query.getAll('partition')
  const from = new Map((query.get('from') ?? '').split(',').map((part): [string, number] => [part.slice(0, part.lastIndexOf('@')), Number(part.slice(part.lastIndexOf('@') + 1))]))
  return (
    (patterns.length === 0 || patterns.some((pattern) => record.line.includes(pattern))) &&
    (topics.length === 0 || topics.includes(record.topic)) && (partitions.length === 0 || partitions.includes(String(record.partition))) &&
    record.offset >= (from.get(`${record.topic}:${record.partition}`) ?? 0) &&
    record.ts >= Number(query.get('since') ?? -Infinity) && record.ts < Number(query.get('until') ?? Infinity)
  )
}

export function json(value: unknown): HttpResponse {
  return { status: 200, headers: new Map([['content-type', 'application/json']]), body: pieces(Buffer.from(JSON.stringify(value))) }
}

export function error(status: number, code: string, message: string): HttpResponse {
  return { status, headers: new Map(), body: pieces(Buffer.from(JSON.stringify({ error: { code, message, retryable: false } }))) }
}

/** In odd sizes, so that no reader can count on whole lines. */
async function* pieces(bytes: Buffer): AsyncGenerator<Uint8Array> {
  await Promise.resolve()
  for (let at = 0; at < bytes.length; at += 1009) yield bytes.subarray(at, at + 1009)
}

/** The stream whose batches these producer ids belong to; a check that the fake and the batches agree. */
export function producerIdOf(sealed: SealedBatch): bigint {
  return producerOf(sealed.source.streamId, sealed.source.firstOrdinal).producerId
}

/** Whatever unit was asked for: what the server counts is tested there. */
function minutes(records: readonly QueryRecord[]): { ts: number; count: number }[] {
  const starts = records.map(({ ts }) => ts - (ts % 60_000))
  return [...new Set(starts)].map((ts) => ({ ts, count: starts.filter((start) => start === ts).length }))
}
