import { gzipSync } from 'node:zlib'
import { beforeAll, expect, test } from 'vitest'
import { AppError } from '../../../shared/errors.ts'
import { readIdempotencyMark } from '../../../shared/plain-batch.ts'
import { checkBatch, decodeRecords, RecordCursor } from '../../../shared/record-batch.ts'
import { toOffset } from '../../../shared/types.ts'
import { wireLimits } from '../../../shared/wire.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { startApi, type Answer, type Api } from '../../collector-api.ts'
import type { MemoryTopicLog } from '../../memory-topic-log.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

function post(api: Api, body: string | Buffer, headers: Readonly<Record<string, string>> = {}, topic = 'app'): Promise<Answer> {
  return api.ask({ method: 'POST', path: `/v1/topics/${topic}/lines`, headers, body })
}

interface Stored {
  readonly lines: readonly string[]
  readonly keys: readonly (string | undefined)[]
  readonly mark: string | undefined
}

async function storedAt(log: MemoryTopicLog, answer: Answer): Promise<Stored> {
  const { partition, baseOffset } = answer.json as { partition: number; baseOffset: number }
  const { batches } = await log.read({ topic: 'app', partition, offset: toOffset(baseOffset), bytesMax: 1 })
  checkBatch(batches, { contentBytesMax: wireLimits.batchContentBytesMax })
  const raw = decodeRecords(batches, zstd, wireLimits.batchContentBytesMax)
  const lines: string[] = []
  const keys: (string | undefined)[] = []
  for (const cursor = new RecordCursor(raw); cursor.next(); ) {
    expect(cursor.offsetDelta).toBe(lines.length)
    lines.push(raw.toString('utf8', cursor.valueStart, cursor.valueEnd))
    keys.push(cursor.keyStart < 0 ? undefined : raw.toString('utf8', cursor.keyStart, cursor.keyEnd))
  }
  return { lines, keys, mark: readIdempotencyMark(raw)?.key }
}

test('lines are stored as they are, with null keys, and answered with their offsets', async () => {
  const api = startApi(zstd)
  const answer = await post(api, 'one\r\n\ntwo\nno newline')
  expect(answer.json).toMatchObject({ topic: 'app', baseOffset: 0, lastOffset: 3, records: 4 })
  expect(await storedAt(api.log, answer)).toEqual({ lines: ['one\r', '', 'two', 'no newline'], keys: Array(4).fill(undefined), mark: undefined })
})

test('gzip and zstd bodies are unpacked', async () => {
  const api = startApi(zstd)
  for (const [encoding, body] of [
    ['gzip', gzipSync('a\nb\n')],
    ['zstd', zstd.compressSync(Buffer.from('a\nb\n'), 1)],
  ] as const) {
    expect((await storedAt(api.log, await post(api, body, { 'content-encoding': encoding }))).lines).toEqual(['a', 'b'])
  }
})

test('bombs, broken encodings, long lines and foreign types are refused, each with its code', async () => {
  const api = startApi(zstd)
  const zeros = Buffer.alloc(2 * 1024 * 1024)
  const cases: readonly (readonly [code: string, body: string | Buffer, headers: Readonly<Record<string, string>>])[] = [
    ['MESSAGE_TOO_LARGE', gzipSync(zeros), { 'content-encoding': 'gzip' }],
    ['MESSAGE_TOO_LARGE', zstd.compressSync(zeros, 1), { 'content-encoding': 'zstd' }],
    ['BAD_REQUEST', 'not gzip', { 'content-encoding': 'gzip' }],
    ['CORRUPT_MESSAGE', 'not zstd at all', { 'content-encoding': 'zstd' }],
    ['UNSUPPORTED_MEDIA_TYPE', 'x', { 'content-encoding': 'br' }],
    ['UNSUPPORTED_MEDIA_TYPE', 'x', { 'content-type': 'image/png' }],
    ['MESSAGE_TOO_LARGE', 'x'.repeat(600 * 1024), {}],
    ['MESSAGE_TOO_LARGE', '\n'.repeat(1024 * 1024), {}],
    ['BAD_REQUEST', '', {}],
    ['BAD_REQUEST', 'a', { 'idempotency-key': 'with space' }],
  ]
  for (const [code, body, headers] of cases) expect([code, (await post(api, body, headers)).code]).toEqual([code, code])
  expect((await api.ask({ method: 'POST', path: '/v1/topics/app/lines', body: 'x', contentLength: 10 * 1024 ** 3 })).status).toBe(413)
  expect(api.log.storedBatches).toBe(0)
})

test('a topic name that climbs out of its folder is no topic name, however it is encoded', async () => {
  const api = startApi(zstd)
  const codes = await Promise.all(['..%2f..%2fetc', '.hidden', '%252e%252e', 'a%00b', 'x'.repeat(201)].map(async (topic) => (await post(api, 'a', {}, topic)).code))
  expect(codes).toEqual(Array(5).fill('INVALID_TOPIC'))
  expect(api.log.topics()).toEqual([])
})

test('NDJSON is checked line by line, and blank lines stand for nothing', async () => {
  const api = startApi(zstd)
  const headers = { 'content-type': 'application/x-ndjson' }
  expect((await storedAt(api.log, await post(api, '{"a":1}\n\n[2]\n', headers))).lines).toEqual(['{"a":1}', '[2]'])
  const answer = await post(api, '{"a":1}\n{"a":\n', headers)
  expect([answer.code, answer.body.includes('line 2')]).toEqual(['BAD_REQUEST', true])
})

test('a repeat with the same Idempotency-Key stores nothing and gets the same offsets', async () => {
  const api = startApi(zstd)
  const first = await post(api, 'a\nb', { 'idempotency-key': 'k1' })
  const repeat = await post(api, 'a\nb', { 'idempotency-key': 'k1' })
  expect(repeat.json).toEqual({ ...(first.json as object), repeated: true })
  expect((await storedAt(api.log, first)).mark).toBe('k1')
  expect(api.log.storedBatches).toBe(1)
  const misuse = await post(api, 'ab', { 'idempotency-key': 'k1' })
  expect([misuse.status, misuse.code]).toEqual([409, 'CONFLICT'])
})

test('two requests with one key at the same time are stored once', async () => {
  const api = startApi(zstd)
  await Promise.all([1, 2, 3].map(() => post(api, 'a', { 'idempotency-key': 'k' })))
  expect(api.log.storedBatches).toBe(1)
})

test('a key is known after a restart too, because it lies in the log', async () => {
  const before = startApi(zstd)
  const first = await post(before, 'a', { 'idempotency-key': 'k' })
  const after = startApi(zstd, { log: before.log })
  const repeat = await post(after, 'a', { 'idempotency-key': 'k' })
  expect(repeat.json).toEqual({ ...(first.json as object), repeated: true })
  expect(before.log.storedBatches).toBe(1)
})

test('a key is forgotten after an hour', async () => {
  const api = startApi(zstd)
  await post(api, 'a', { 'idempotency-key': 'k' })
  await api.sim.clock.advance(3_600_001)
  expect((await post(api, 'a', { 'idempotency-key': 'k' })).json).not.toHaveProperty('repeated')
  expect(api.log.storedBatches).toBe(2)
})

test('a request that failed may be tried again with its key', async () => {
  const api = startApi(zstd)
  api.log.failures.push(new AppError('DISK_FULL', 'no space left'))
  expect((await post(api, 'a', { 'idempotency-key': 'k' })).status).toBe(507)
  expect((await post(api, 'a', { 'idempotency-key': 'k' })).json).not.toHaveProperty('repeated')
  expect(api.log.storedBatches).toBe(1)
})
