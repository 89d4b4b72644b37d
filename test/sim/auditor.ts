/**
 * Looks at the collector through its own API: reads the log as it grows, and after every start compares everything with
 * what was seen and said before.
 *
 * - I3: the table of positions is the fold over the log.
 * - I4: nothing that was acknowledged, told or read is gone.
 * - I6, I12: no stream is forgotten, no position goes back.
 */
import type { Handler, ServerRequest } from '../../shared/http-handler.ts'
import { fetchHeaders, parseJson, paths, statusSchema, streamsResponseSchema, topicsResponseSchema, type StreamInfo, type TopicInfo } from '../../shared/wire.ts'
import type { Ledger } from './ledger.ts'
import type { Life } from './life.ts'
import { collect } from './network.ts'
import type { Trace } from './trace.ts'

export const TOPIC = 'app'

/** Alarms that faults of a simulation may raise. All others tell of lost or damaged data. */
const expectedAlarms = new Set(['CLOCK_STEPPED', 'AGENT_ID_DOUBLED', 'EXPORT_STORE_UNREACHABLE', 'EXPORT_PARKED', 'SNAPSHOT_NOT_WRITTEN', 'DISK_FULL', 'PARTITION_FAILED'])

export interface Audited {
  readonly streams: ReadonlyMap<string, StreamInfo>
  readonly topic: TopicInfo | undefined
}

export class Auditor {
  private readonly ledger: Ledger
  private readonly trace: Trace
  private readonly isSetBack: () => boolean

  constructor(parts: { ledger: Ledger; trace: Trace; isSetBack: () => boolean }) {
    this.ledger = parts.ledger
    this.isSetBack = parts.isSetBack
    this.trace = parts.trace
  }

  /** Before anybody else is let in: the log stands still. */
  async afterStart(handler: Handler, life: Life): Promise<Audited> {
    const topic = await this.readTopic(handler)
    const streams = await this.readStreams(handler)
    await this.readAll(handler, topic, { isFromStart: true })
    if (!life.isAlive) return { streams, topic }
    this.comparePositions(streams)
    this.compareAcks(topic)
    await this.checkAlarms(handler)
    return { streams, topic }
  }

  /** What came since the last time. */
  async follow(handler: Handler): Promise<void> {
    await this.readAll(handler, await this.readTopic(handler), { isFromStart: false })
  }

  async readStreams(handler: Handler): Promise<ReadonlyMap<string, StreamInfo>> {
    const found = new Map<string, StreamInfo>()
    for (let after: string | undefined, page = 0; page < 100; page += 1) {
      const text = await ask(handler, paths.streams, after === undefined ? {} : { after })
      const { streams, next } = parseJson(streamsResponseSchema, text.body.toString(), 'streams')
      for (const stream of streams) found.set(stream.id, stream)
      if (next === null) break
      after = next
    }
    return found
  }

  async checkAlarms(handler: Handler): Promise<void> {
    const { alarms } = parseJson(statusSchema, (await ask(handler, paths.status)).body.toString(), 'status')
    for (const { code, message } of alarms) {
      const isExpected = expectedAlarms.has(code) || (code === 'LOG_SET_BACK' && this.isSetBack())
      if (!isExpected) this.trace.violation('alarm', `${code}: ${message}`)
    }
  }

  private async readTopic(handler: Handler): Promise<TopicInfo | undefined> {
    const { topics } = parseJson(topicsResponseSchema, (await ask(handler, paths.topics)).body.toString(), 'topics')
    return topics.find(({ name }) => name === TOPIC)
  }

  private async readAll(handler: Handler, topic: TopicInfo | undefined, options: { isFromStart: boolean }): Promise<void> {
    for (const { partition, logStartOffset, highWatermark } of topic?.partitions ?? []) {
      const seen = this.ledger.partition(partition)
      const reached = seen.nextOffset
      if (highWatermark < reached) this.trace.violation('I4', `partition ${partition} ends at ${highWatermark}, ${reached} was read before`)
      const from = options.isFromStart ? logStartOffset : reached
      if (logStartOffset > reached) this.trace.violation('I9', `partition ${partition} begins at ${logStartOffset}, it was read to ${reached} only`)
      await this.readPartition(handler, partition, { from, to: highWatermark })
    }
  }

  private async readPartition(handler: Handler, partition: number, range: { from: number; to: number }): Promise<void> {
    const found = new Set<number>()
    const seen = this.ledger.partition(partition)
    const before = [...seen.batches.keys()]
    for (let offset = range.from; offset < range.to; ) {
      const answer = await ask(handler, paths.fetch, { topic: TOPIC, partition: String(partition), offset: String(offset) })
      const missing = answer.headers[fetchHeaders.missing]
      const logStart = Number(answer.headers[fetchHeaders.logStartOffset])
      if (missing !== undefined && offset >= logStart) this.trace.violation('I4', `partition ${partition} misses ${missing}`)
      this.ledger.take(partition, answer.body)
      for (let at = 0; at < answer.body.length; at += 12 + answer.body.readInt32BE(at + 8)) found.add(Number(answer.body.readBigInt64BE(at)))
      const next = Number(answer.headers[fetchHeaders.nextOffset])
      if (next <= offset) break
      offset = next
    }
    for (const baseOffset of before) {
      if (baseOffset >= range.from && baseOffset < range.to && !found.has(baseOffset)) {
        this.trace.violation('I4', `the batch at ${baseOffset} of partition ${partition} was read before and is gone`)
      }
    }
  }

  private comparePositions(streams: ReadonlyMap<string, StreamInfo>): void {
    for (const [id, { position, how }] of this.ledger.told) {
      const now = streams.get(id)
      if (now === undefined) this.trace.violation('I6', `stream ${id.slice(0, 8)} was told of (position ${position}, ${how}) and is forgotten`)
      else if (now.position < position) this.trace.violation('I4', `stream ${id.slice(0, 8)} stands at ${now.position}, ${position} was told (${how})`)
    }
    for (const [id, { bytes, records }] of this.ledger.streams) {
      const now = streams.get(id)
      if (now?.position !== bytes.length || now.records !== records) {
        this.trace.violation('I3', `stream ${id.slice(0, 8)}: table ${now?.position} (${now?.records} records), log ${bytes.length} (${records} records)`)
      }
    }
    for (const id of streams.keys()) if (!this.ledger.streams.has(id)) this.trace.violation('I3', `stream ${id.slice(0, 8)} stands in the table and not in the log`)
  }

  private compareAcks(topic: TopicInfo | undefined): void {
    for (const [place, ack] of this.ledger.acks) {
      const [partition = 0, offset = 0] = place.split('/').map(Number)
      const seen = this.ledger.partition(partition).batches.get(offset)
      const logStart = topic?.partitions[partition]?.logStartOffset ?? 0
      if (seen === undefined ? offset >= logStart : seen.batchCrc !== ack.crc || seen.stream !== ack.stream) {
        this.trace.violation('I4', `the batch acknowledged at ${place} (stream ${ack.stream.slice(0, 8)} to ${ack.end}) is not there`)
      }
    }
  }
}

interface Answer {
  readonly body: Buffer
  readonly headers: Readonly<Record<string, string>>
}

/** Past the network: the auditor stands beside the collector. */
export async function ask(handler: Handler, path: string, query: Record<string, string> = {}, method = 'GET'): Promise<Answer> {
  const request: ServerRequest = {
    method, path,
    query: new URLSearchParams(query),
    headers: new Map([['host', '127.0.0.1:4280']]),
    contentLength: method === 'GET' ? undefined : 0,
    body: nothing(),
    remoteAddress: '127.0.0.1',
    certificateNames: [],
    signal: new AbortController().signal,
  }
  const response = await handler(request)
  const body = await collect(response.body)
  if (response.status !== 200) throw new Error(`${path} was answered ${response.status}: ${body.toString()}`)
  return { body, headers: response.headers ?? {} }
}

async function* nothing(): AsyncGenerator<Uint8Array> {
  yield* []
}
