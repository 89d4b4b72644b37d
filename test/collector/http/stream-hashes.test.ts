import { beforeAll, expect, test } from 'vitest'
import { hashToken } from '../../../collector/http/auth.ts'
import type { ReadRequest, ReadResult } from '../../../collector/storage/topic-log.ts'
import type { StoredToken } from '../../../collector/http/tokens.ts'
import { toOffset } from '../../../shared/types.ts'
import { parseJson, streamHashesResponseSchema, type StreamHashesResponse } from '../../../shared/wire.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { startApi, type Answer, type Api } from '../../collector-api.ts'
import { MemoryTopicLog } from '../../memory-topic-log.ts'
import { sealedBatch, type SealedBatch } from '../../sealed-batch.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

/** Retention has dropped the first offset. */
class ShortenedLog extends MemoryTopicLog {
  override read(request: ReadRequest): Promise<ReadResult> {
    return super.read({ ...request, offset: toOffset(Math.max(1, request.offset)) })
  }
}

function chain(count: number, options: Partial<Parameters<typeof sealedBatch>[0]> = {}): SealedBatch[] {
  const batches: SealedBatch[] = []
  for (let index = 0; index < count; index += 1) {
    const previous = batches.at(-1)
    batches.push(sealedBatch({ zstd, lines: [`line ${index}`], ...options, ...(previous === undefined ? {} : { previous }) }))
  }
  return batches
}

function pathOf(batch: SealedBatch | undefined, query = ''): string {
  return `/v1/streams/${batch?.source.streamId.toString('hex') ?? ''}/hashes${query}`
}

async function page(api: Api, path: string): Promise<StreamHashesResponse> {
  return parseJson(streamHashesResponseSchema, (await api.ask({ path })).body, 'hashes')
}

function rangesOf(batches: readonly SealedBatch[]): StreamHashesResponse['ranges'] {
  return batches.map(({ source: { start, end, sourceHash } }) => ({ start, end, sourceHash: sourceHash.toString('hex') }))
}

test('a stream gives its ranges and their hashes in file order, and no other stream is among them', async () => {
  const api = startApi(zstd)
  const mine = chain(3)
  const others = chain(3, { inode: 9n })
  for (const [index, batch] of mine.entries()) await api.send([batch, ...others.slice(index, index + 1)])
  expect(await page(api, pathOf(mine[0]))).toEqual({ stream: mine[0]?.source.streamId.toString('hex'), from: 0, ranges: rangesOf(mine), next: null, reachesBackTo: null })
})

test('what ends before the asked position is left out', async () => {
  const api = startApi(zstd)
  const mine = chain(3)
  await api.send(mine)
  const second = mine[1]?.source.start ?? 0
  expect((await page(api, pathOf(mine[0], `?from=${second}`))).ranges).toEqual(rangesOf(mine.slice(1)))
})

test('a stream whose first batches were dropped says where it begins now', async () => {
  const api = startApi(zstd, { log: new ShortenedLog({ zstd, nowMs: () => 0 }) })
  const mine = chain(3)
  await api.send(mine)
  const second = mine[1]?.source.start ?? 0
  expect(await page(api, pathOf(mine[0]))).toEqual({ stream: mine[0]?.source.streamId.toString('hex'), from: 0, ranges: rangesOf(mine.slice(1)), next: null, reachesBackTo: second })
  expect((await page(api, pathOf(mine[0], `?from=${second}`))).reachesBackTo).toBeNull()
})

test('pages follow each other and together hold every range once', async () => {
  const api = startApi(zstd)
  const noise = Array.from({ length: 8 }, (_, index) => Buffer.concat(Array.from({ length: 9000 }, (__, at) => Buffer.from(hashToken(`${index} ${at}`).toString('base64').slice(0, 40)))))
  const mine: SealedBatch[] = []
  for (const source of noise) {
    const previous = mine.at(-1)
    mine.push(sealedBatch({ zstd, source: Buffer.concat([source, Buffer.from('\n')]), ...(previous === undefined ? {} : { previous }) }))
  }
  await api.send(mine)
  const ranges: StreamHashesResponse['ranges'] = []
  let pages = 0
  for (let next: number | null = 0; next !== null && pages < 20; pages += 1) {
    const answer: StreamHashesResponse = await page(api, pathOf(mine[0], `?from=0&offset=${next}`))
    ranges.push(...answer.ranges)
    next = answer.next
  }
  expect(pages).toBeGreaterThan(1)
  expect(ranges).toEqual(rangesOf(mine))
})

test('an agent may ask about its own streams, a reader about all', async () => {
  const tokens: StoredToken[] = [
    { id: 'a', hash: hashToken('tr_one'), role: 'agent', agentId: 'agent-1', host: 'web-1', createdMs: 0 },
    { id: 'b', hash: hashToken('tr_two'), role: 'agent', agentId: 'agent-2', host: 'web-2', createdMs: 0 },
    { id: 'c', hash: hashToken('tr_read'), role: 'read', createdMs: 0 },
  ]
  const api = startApi(zstd, { auth: { tokens: () => tokens, hasCertificates: false, adminNames: [], readNames: [] } })
  const mine = chain(1)
  await api.send(mine, { headers: { authorization: 'Bearer tr_one', 'content-type': 'application/vnd.tailrace.batches' } })
  const as = (token: string): Promise<Answer> => api.ask({ path: pathOf(mine[0]), headers: { authorization: `Bearer ${token}` } })
  expect([(await as('tr_one')).status, (await as('tr_two')).code, (await as('tr_read')).status]).toEqual([200, 'HOST_MISMATCH', 200])
})

test('bad questions get a code each', async () => {
  const api = startApi(zstd)
  const mine = chain(1)
  await api.send(mine)
  const codes = await Promise.all(
    ['/v1/streams/xyz/hashes', `/v1/streams/${'0'.repeat(32)}/hashes`, pathOf(mine[0], '?from=-1'), pathOf(mine[0], '?form=1')].map(async (path) => (await api.ask({ path })).code),
  )
  expect(codes).toEqual(['BAD_REQUEST', 'UNKNOWN_STREAM', 'BAD_REQUEST', 'BAD_REQUEST'])
})
