/**
 * The reading endpoints: raw batches (`/v1/fetch`), records as NDJSON (`/v1/query`), and records as they come
 * (`/v1/tail`, server-sent events). Parameters are parsed and every mistake is answered before the first byte of a
 * stream; what fails later cuts the stream off, and the missing end line says so.
 *
 * A client that reads slowly is paused, one that is gone ends the work: bodies are pulled, and the signal is the
 * request's.
 */
import { AppError } from '../../shared/errors.ts'
import type { ServerRequest, ServerResponse } from '../../shared/http-handler.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import { checkTopicName, contentTypes, fetchHeaders, paths } from '../../shared/wire.ts'
import { fetchBatches, type FetchResult } from '../query/fetch.ts'
import { parseQuery, parseTail } from '../query/parse-query.ts'
import type { QueryEngine } from '../query/query-engine.ts'
import type { TailEvent } from '../query/tail-run.ts'
import type { ReadableLog } from '../storage/topic-log.ts'
import { checkParameterNames, numberParameter } from './query-parameters.ts'
import type { Route } from './router.ts'

const FETCH_BYTES = 1024 * 1024
const FETCH_BYTES_MAX = 8 * 1024 * 1024
/** Missing ranges that fit a header. */
const MISSING_LISTED_MAX = 32
const FETCH_PARAMETERS: ReadonlySet<string> = new Set(['topic', 'partition', 'offset', 'maxBytes', 'stream', 'endOffset'])

export interface ReadRoutesOptions {
  readonly log: ReadableLog
  readonly engine: QueryEngine
}

export function createReadRoutes({ log, engine }: ReadRoutesOptions): readonly Route[] {
  return [
    { method: 'GET', pattern: paths.fetch, role: 'read', handler: (request) => answerFetch(log, request) },
    { method: 'GET', pattern: paths.query, role: 'read', handler: (request) => answerQuery(engine, request) },
    { method: 'GET', pattern: paths.tail, role: 'read', handler: (request) => answerTail(engine, request) },
  ]
}

async function answerQuery(engine: QueryEngine, request: ServerRequest): Promise<ServerResponse> {
  const prepared = await engine.prepare(parseQuery(request.query))
  return {
    status: 200,
    headers: { 'content-type': contentTypes.ndjson, 'cache-control': 'no-store' },
    body: engine.answer(prepared, request.signal),
  }
}

async function answerTail(engine: QueryEngine, request: ServerRequest): Promise<ServerResponse> {
  const parameters = new URLSearchParams(request.query)
  // A browser's EventSource repeats its first URL and says in this header how far it came.
  const lastEventId = request.headers.get('last-event-id')
  if (lastEventId !== undefined && lastEventId !== '') parameters.set('from', lastEventId)
  const prepared = await engine.prepareTail(parseTail(parameters))
  return {
    status: 200,
    headers: { 'content-type': contentTypes.events, 'cache-control': 'no-store', 'x-accel-buffering': 'no' },
    body: eventStream(engine.tail(prepared, request.signal)),
  }
}

async function* eventStream(bursts: AsyncIterable<readonly TailEvent[]>): AsyncGenerator<Uint8Array, void, void> {
  for await (const events of bursts) yield Buffer.concat(events.map(eventBytes))
}

function eventBytes(event: TailEvent): Uint8Array {
  switch (event.kind) {
    case 'record':
      // The row ends with a newline; another one ends the event.
      return Buffer.concat([Buffer.from(`id: ${event.cursor}\ndata: `), event.row, Buffer.from('\n')])
    case 'missing':
      return Buffer.from(`event: missing\ndata: ${JSON.stringify(event.range)}\n\n`)
    case 'position':
      // With a type and empty data: a client takes the id, and nobody takes it for a record.
      return Buffer.from(`event: position\nid: ${event.cursor}\ndata:\n\n`)
  }
}

async function answerFetch(log: ReadableLog, request: ServerRequest): Promise<ServerResponse> {
  const { query } = request
  checkParameterNames(query, FETCH_PARAMETERS)
  const endOffset = numberParameter(query, 'endOffset')
  const result = await fetchBatches(
    log,
    {
      topic: checkTopicName(query.get('topic') ?? ''),
      partition: numberParameter(query, 'partition') ?? 0,
      offset: requireOffset(query),
      bytesMax: Math.min(Math.max(1, numberParameter(query, 'maxBytes') ?? FETCH_BYTES), FETCH_BYTES_MAX),
      endOffset: endOffset === undefined ? undefined : toOffset(endOffset),
      stream: streamOf(query),
    },
    request.signal,
  )
  return { status: 200, headers: headersOf(result), body: result.batches }
}

function headersOf(result: FetchResult): Record<string, string> {
  const headers = {
    'content-type': contentTypes.records,
    'cache-control': 'no-store',
    [fetchHeaders.nextOffset]: String(result.nextOffset),
    [fetchHeaders.highWatermark]: String(result.highWatermark),
    [fetchHeaders.logStartOffset]: String(result.logStartOffset),
  }
  if (result.missing.length === 0) return headers
  const listed = result.missing.slice(0, MISSING_LISTED_MAX).map(({ fromOffset, toOffset: to }) => `${fromOffset}-${to}`)
  return { ...headers, [fetchHeaders.missing]: listed.join(',') }
}

function requireOffset(query: URLSearchParams): Offset {
  const offset = numberParameter(query, 'offset')
  if (offset === undefined) throw badRequest('offset is missing')
  return toOffset(offset)
}

function streamOf(query: URLSearchParams): Buffer | undefined {
  const text = query.get('stream')
  if (text === null) return undefined
  if (!/^[0-9a-f]{32}$/.test(text)) throw badRequest('stream is not a stream id of 32 hex digits')
  return Buffer.from(text, 'hex')
}

function badRequest(message: string): AppError {
  return new AppError('BAD_REQUEST', message, { hint: `parameters of fetch: ${[...FETCH_PARAMETERS].join(', ')}` })
}
