import { beforeAll, describe, expect, test } from 'vitest'
import { createReadRoutes } from '../../../collector/http/read.ts'
import { createInProcessExecutor } from '../../../collector/query/in-process-executor.ts'
import { QueryEngine } from '../../../collector/query/query-engine.ts'
import type { ServerRequest, ServerResponse } from '../../../shared/http-handler.ts'
import { readBatchHeader } from '../../../shared/record-batch.ts'
import { fetchHeaders, paths, queryEndSchema, queryRecordSchema, parseJson } from '../../../shared/wire.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { MemoryTopicLog } from '../../memory-topic-log.ts'
import { sealedBatch, type SealedBatch } from '../../sealed-batch.ts'
import { simulate } from '../../sim-system.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

interface Api {
  readonly log: MemoryTopicLog
  readonly get: (path: string, parameters: string, headers?: Readonly<Record<string, string>>) => Promise<ServerResponse>
}

function api(): Api {
  const { clock } = simulate()
  const log = new MemoryTopicLog({ zstd, nowMs: () => clock.nowMs() })
  const routes = createReadRoutes({ log, engine: new QueryEngine({ log, clock, executor: createInProcessExecutor(zstd) }) })
  const get: Api['get'] = async (path, parameters, headers = {}) => {
    const route = routes.find(({ pattern }) => pattern === path)
    if (route === undefined) throw new Error(`no route ${path}`)
    return route.handler(request(path, parameters, headers), { params: new Map(), caller: { name: 'test', roles: new Set(), identity: undefined } })
  }
  return { log, get }
}

function request(path: string, parameters: string, headers: Readonly<Record<string, string>>): ServerRequest {
  return {
    method: 'GET', path, query: new URLSearchParams(parameters), headers: new Map(Object.entries(headers)), contentLength: undefined,
    body: nothing(), remoteAddress: '127.0.0.1', certificateNames: [], signal: new AbortController().signal,
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {
  // A GET has no body.
}

async function bodyOf(response: ServerResponse): Promise<Buffer> {
  const { body } = response
  if (body === undefined || typeof body === 'string' || body instanceof Uint8Array) return Buffer.from(body ?? '')
  const pieces: Uint8Array[] = []
  for await (const piece of body) pieces.push(Uint8Array.from(piece))
  return Buffer.concat(pieces)
}

function batchesOf(bytes: Buffer): number[] {
  const offsets: number[] = []
  for (let at = 0; at < bytes.length; at += readBatchHeader(bytes, at).sizeBytes) offsets.push(readBatchHeader(bytes, at).baseOffset)
  return offsets
}

/** Two streams whose batches alternate in one partition, of two lines each. */
async function fillTwoStreams(log: MemoryTopicLog): Promise<{ a: SealedBatch; b: SealedBatch }> {
  await log.createTopic('app', { partitions: 1 })
  let a = sealedBatch({ zstd, path: '/a.log', inode: 1n, lines: ['a 0', 'a 0'] })
  let b = sealedBatch({ zstd, path: '/b.log', inode: 2n, lines: ['b 0', 'b 0'] })
  await log.append(a)
  await log.append(b)
  for (let at = 1; at < 4; at += 1) {
    a = sealedBatch({ zstd, previous: a, lines: [`a ${at}`, `a ${at}`] })
    b = sealedBatch({ zstd, previous: b, lines: [`b ${at}`, `b ${at}`] })
    await log.append(a)
    await log.append(b)
  }
  return { a, b }
}

describe('GET /v1/query', () => {
  test('answers NDJSON that the schemas of the wire accept', async () => {
    const { log, get } = api()
    await fillTwoStreams(log)
    const response = await get(paths.query, 'pattern=1&path=b.log')
    expect(response.headers?.['content-type']).toBe('application/x-ndjson')
    const lines = (await bodyOf(response)).toString().trimEnd().split('\n')
    const { end } = parseJson(queryEndSchema, lines.pop() ?? '', 'end')
    expect(lines.map((line) => parseJson(queryRecordSchema, line, 'record')).map(({ host, path, line }) => [host, path, line])).toEqual([
      ['web-1', '/b.log', 'b 1'], ['web-1', '/b.log', 'b 1'],
    ])
    // The path was decided by the streams' ids in the headers: the other stream's batches were not decompressed.
    expect(end).toMatchObject({ matched: 2, batches: 8, batchesRead: 4, cursor: 'app:0@16' })
  })

  test('refuses a bad query before it answers anything', async () => {
    await expect(api().get(paths.query, 'pattern=(&mode=regex')).rejects.toMatchObject({ code: 'INVALID_QUERY' })
  })
})

describe('GET /v1/tail', () => {
  test('answers server-sent events that resume by Last-Event-ID', async () => {
    const { log, get } = api()
    await fillTwoStreams(log)
    const response = await get(paths.tail, 'from=end', { 'last-event-id': 'app:0@14' })
    expect(response.headers?.['content-type']).toBe('text/event-stream')
    const body = response.body as AsyncGenerator<Uint8Array>
    expect(Buffer.from((await body.next()).value as Uint8Array).toString()).toBe('event: position\nid: app:0@14\ndata:\n\n')
    const events = Buffer.from((await body.next()).value as Uint8Array).toString().split('\n\n')
    await body.return(undefined)
    expect(events.map((event) => event.split('\n')[0])).toEqual(['id: app:0@15', 'id: app:0@16', ''])
    const data = events[0]?.split('\n')[1] ?? ''
    expect(parseJson(queryRecordSchema, data.replace(/^data: /, ''), 'event')).toMatchObject({ offset: 14, line: 'b 3', path: '/b.log' })
  })
})

describe('GET /v1/fetch', () => {
  test('gives raw batches and says where to go on', async () => {
    const { log, get } = api()
    await fillTwoStreams(log)
    const response = await get(paths.fetch, 'topic=app&partition=0&offset=3&maxBytes=1')
    expect(batchesOf(await bodyOf(response))).toEqual([2])
    expect(response.headers).toMatchObject({
      'content-type': 'application/vnd.tailrace.records', [fetchHeaders.nextOffset]: '4', [fetchHeaders.highWatermark]: '16', [fetchHeaders.logStartOffset]: '0',
    })
  })

  test('gives nothing and the same offset at the end of the log', async () => {
    const { log, get } = api()
    await fillTwoStreams(log)
    const response = await get(paths.fetch, 'topic=app&partition=0&offset=16')
    expect((await bodyOf(response)).length).toBe(0)
    expect(response.headers?.[fetchHeaders.nextOffset]).toBe('16')
  })

  test('gives only the batches of a stream, and a loop over them ends', async () => {
    const { log, get } = api()
    const { b } = await fillTwoStreams(log)
    for (const maxBytes of [1, 100_000]) {
      const found: number[] = []
      let offset = 0
      let requests = 0
      while (offset < 16) {
        const response = await get(paths.fetch, `topic=app&partition=0&offset=${offset}&maxBytes=${maxBytes}&stream=${b.source.streamId.toString('hex')}`)
        found.push(...batchesOf(await bodyOf(response)))
        const next = Number(response.headers?.[fetchHeaders.nextOffset])
        expect(next).toBeGreaterThan(offset)
        offset = next
        requests += 1
      }
      expect(found).toEqual([2, 6, 10, 14])
      expect(requests).toBe(maxBytes === 1 ? 4 : 1)
    }
  })

  test('never gives a batch that begins at or behind endOffset', async () => {
    const { log, get } = api()
    const { a } = await fillTwoStreams(log)
    expect(batchesOf(await bodyOf(await get(paths.fetch, 'topic=app&partition=0&offset=0&endOffset=4')))).toEqual([0, 2])
    const response = await get(paths.fetch, `topic=app&partition=0&offset=0&endOffset=4&stream=${a.source.streamId.toString('hex')}`)
    expect(batchesOf(await bodyOf(response))).toEqual([0])
    expect(response.headers?.[fetchHeaders.nextOffset]).toBe('4')
  })

  test.each([
    ['topic=app&partition=0', 'BAD_REQUEST'],
    ['topic=app&partition=x&offset=0', 'BAD_REQUEST'],
    ['topic=app&partition=0&offset=0&stream=12', 'BAD_REQUEST'],
    ['topic=app&partition=0&offset=0&max=1', 'BAD_REQUEST'],
    ['topic=..%2Fx&partition=0&offset=0', 'INVALID_TOPIC'],
    ['topic=other&partition=0&offset=0', 'UNKNOWN_TOPIC'],
    ['topic=app&partition=0&offset=17', 'OFFSET_OUT_OF_RANGE'],
  ])('refuses %s with %s', async (parameters, code) => {
    const { log, get } = api()
    await fillTwoStreams(log)
    await expect(get(paths.fetch, parameters)).rejects.toMatchObject({ code })
  })
})
