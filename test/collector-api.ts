/** The collector's API without sockets: a handler over a log in memory, and a way to ask it. */
import { errorResponse } from '../shared/http-body.ts'
import type { Handler, ServerRequest } from '../shared/http-handler.ts'
import { contentTypes, encodeEnvelope, encodeFrame } from '../shared/wire.ts'
import { encodeSourceHeader } from '../shared/source-header.ts'
import type { Zstd } from '../shared/zstd.ts'
import { createCollectorHandler, type CollectorHandlerOptions } from '../collector/http/server.ts'
import { SetBackBook } from '../collector/http/set-back.ts'
import { MemoryTopicLog } from './memory-topic-log.ts'
import type { SealedBatch } from './sealed-batch.ts'
import { simulate, type Simulation } from './sim-system.ts'

export interface Api {
  readonly sim: Simulation
  readonly log: MemoryTopicLog
  readonly handler: Handler
  ask(request: AskOptions): Promise<Answer>
  /** `POST /v1/batches` with these batches. */
  send(batches: readonly SealedBatch[], options?: Partial<AskOptions>): Promise<Answer>
}

export interface AskOptions {
  readonly method?: string
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer
  /** Announced instead of the body's own; null = none. */
  readonly contentLength?: number | null
  readonly certificateNames?: readonly string[]
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** The body as JSON. */
  readonly json: unknown
  /** Code of an error answer. */
  readonly code: string | undefined
}

export function startApi(zstd: Zstd, options: Partial<CollectorHandlerOptions> & { log?: MemoryTopicLog } = {}): Api {
  const sim = simulate()
  const log = options.log ?? new MemoryTopicLog({ zstd, nowMs: () => sim.clock.nowMs() })
  const handler = createCollectorHandler({
    system: sim.system,
    log,
    zstd,
    auth: { tokens: undefined, hasCertificates: false, adminNames: [], readNames: [] },
    isKnownHost: (host) => host === 'collector',
    allowsNewTopics: true,
    memoryBytes: 64 * 1024 * 1024,
    version: '1.2.3',
    dataDirectory: '/',
    exports: undefined,
    exportTo: undefined,
    alarms: () => [],
    confirmClock: () => undefined,
    closedBecause: () => undefined,
    setBack: new SetBackBook(sim.system, log, '/'),
    readRoutes: [],
    ...options,
  })
  const ask = (request: AskOptions): Promise<Answer> => askHandler(handler, request)
  return {
    sim,
    log,
    handler,
    ask,
    send: (batches, more = {}) =>
      ask({ method: 'POST', path: '/v1/batches', headers: { 'content-type': contentTypes.batches, ...more.headers }, body: framesOf(batches), ...more }),
  }
}

export function framesOf(batches: readonly SealedBatch[]): Buffer {
  return Buffer.concat(batches.flatMap((batch) => frameOf(batch)))
}

export function frameOf({ topic, source, batch }: Pick<SealedBatch, 'topic' | 'source' | 'batch'>): Buffer[] {
  return encodeFrame({ envelope: encodeEnvelope({ topic, sourceHeader: encodeSourceHeader(source) }), batch })
}

async function askHandler(handler: Handler, options: AskOptions): Promise<Answer> {
  const body = Buffer.from(options.body ?? '')
  const question = options.path.indexOf('?')
  const contentLength = options.contentLength === undefined ? body.length : (options.contentLength ?? undefined)
  const request: ServerRequest = {
    method: options.method ?? 'GET',
    path: question < 0 ? options.path : options.path.slice(0, question),
    query: new URLSearchParams(question < 0 ? '' : options.path.slice(question + 1)),
    headers: new Map(Object.entries({ host: 'collector', ...options.headers })),
    contentLength,
    body: pieces(body),
    remoteAddress: '127.0.0.1',
    certificateNames: options.certificateNames ?? [],
    signal: new AbortController().signal,
  }
  const response = await handler(request).catch((error: unknown) => errorResponse(error))
  const text = await bodyText(response.body)
  const json: unknown = text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : undefined
  return { status: response.status, headers: response.headers ?? {}, body: text, json, code: codeOf(json) }
}

/** In two pieces, so that nobody relies on a body that comes at once. */
async function* pieces(body: Buffer): AsyncGenerator<Uint8Array> {
  await Promise.resolve()
  const middle = body.length >> 1
  if (middle > 0) yield body.subarray(0, middle)
  if (body.length > middle) yield body.subarray(middle)
}

async function bodyText(body: string | Uint8Array | AsyncIterable<Uint8Array> | undefined): Promise<string> {
  if (body === undefined) return ''
  if (typeof body === 'string') return body
  if (body instanceof Uint8Array) return Buffer.from(body).toString()
  const all: Uint8Array[] = []
  for await (const piece of body) all.push(piece)
  return Buffer.concat(all).toString()
}

function codeOf(json: unknown): string | undefined {
  const error: unknown = typeof json === 'object' && json !== null ? Reflect.get(json, 'error') : undefined
  const code: unknown = typeof error === 'object' && error !== null ? Reflect.get(error, 'code') : undefined
  return typeof code === 'string' ? code : undefined
}
