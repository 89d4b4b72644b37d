import { beforeAll, expect, test } from 'vitest'
import { closeResponseSchema, helloResponseSchema, lookupResponseSchema, parseJson, streamsResponseSchema, wireLimits, type HelloResponse } from '../../../shared/wire.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { startApi, type Answer, type Api } from '../../collector-api.ts'
import { sealedBatch } from '../../sealed-batch.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

const hello = { protocol: 1, agentId: 'agent-1', host: 'web-1', session: '0123456789abcdef' }

function post(api: Api, path: string, body: unknown): Promise<Answer> {
  return api.ask({ method: 'POST', path, body: JSON.stringify(body) })
}

async function helloPage(api: Api, more: object = {}): Promise<HelloResponse> {
  return parseJson(helloResponseSchema, (await post(api, '/v1/hello', { ...hello, ...more })).body, 'hello')
}

test('hello tells what is known of this agent: its streams, synced, and of no other agent', async () => {
  const api = startApi(zstd)
  const mine = sealedBatch({ zstd, lines: ['one', 'two'] })
  await api.send([mine, sealedBatch({ zstd, agentId: 'agent-2', inode: 9n })])
  const answer = await helloPage(api)
  expect(answer).toMatchObject({ clusterId: 'cluster-1', logEpoch: 1, next: null, limits: { batchBytesMax: wireLimits.batchBytesMax } })
  expect(answer.streams).toHaveLength(1)
  expect(answer.streams[0]).toMatchObject({
    id: mine.source.streamId.toString('hex'), agentId: 'agent-1', host: 'web-1', path: '/var/log/app.log', keyPath: '/var/log/app.log', topic: 'app',
    inode: '42', birthtimeNs: '7', generation: 0, supersedes: null, position: 8, records: 2, open: true,
    tailHash: mine.source.tailHashEnd.toString('hex'), headHash: mine.source.headHash.toString('hex'),
  })
})

test('many streams come page by page, each once', async () => {
  const api = startApi(zstd)
  const count = wireLimits.streamsPerPage + 50
  const batches = Array.from({ length: count }, (_, index) => sealedBatch({ zstd, inode: BigInt(index + 1) }))
  await api.send(batches)
  const ids: string[] = []
  let pages = 0
  for (let after: string | undefined; pages < 10; pages += 1) {
    const page = await helloPage(api, after === undefined ? {} : { after })
    ids.push(...page.streams.map(({ id }) => id))
    if (page.next === null) break
    after = page.next
  }
  expect(pages).toBe(1)
  expect(new Set(ids).size).toBe(count)
  expect(ids).toHaveLength(count)
})

test('long paths make pages shorter instead of answers longer than an agent reads', async () => {
  const api = startApi(zstd)
  const path = `/${'x'.repeat(4000)}`
  for (let from = 0; from < 900; from += 100) {
    await api.send(Array.from({ length: 100 }, (_, index) => sealedBatch({ zstd, path, inode: BigInt(from + index + 1) })))
  }
  const answer = await post(api, '/v1/hello', hello)
  expect(answer.body.length).toBeLessThan(wireLimits.jsonResponseBytesMax)
  expect((answer.json as HelloResponse).next).not.toBeNull()
})

test('hello of another protocol version or with a broken session is refused with the field that is wrong', async () => {
  const api = startApi(zstd)
  for (const [change, field] of [
    [{ protocol: 2 }, 'protocol'],
    [{ session: 'XYZ' }, 'session'],
    [{ agentId: '' }, 'agentId'],
  ] as const) {
    const answer = await post(api, '/v1/hello', { ...hello, ...change })
    expect([answer.status, answer.code]).toEqual([400, 'BAD_REQUEST'])
    expect(answer.body).toContain(field)
  }
})

test('an older session that comes back means that two agents share an id, and is told once', async () => {
  const api = startApi(zstd)
  const [a, b] = ['aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbb']
  await helloPage(api, { session: a })
  await helloPage(api, { session: b }) // a restart looks like this too
  expect(api.sim.log.events('warn')).toEqual([])
  await helloPage(api, { session: a })
  await helloPage(api, { session: b })
  expect(api.sim.log.events('warn')).toEqual(['two agents share one id'])
  expect((await api.ask({ path: '/v1/status' })).json).toMatchObject({
    alarms: [{ code: 'AGENT_ID_DOUBLED' }],
    agents: [{ agentId: 'agent-1', host: 'web-1', sessions: 2, openStreams: 0 }],
  })
  await api.sim.clock.advance(3_600_001)
  expect((await api.ask({ path: '/v1/status' })).json).toMatchObject({ alarms: [] })
})

test('an agent that was restarted is one agent', async () => {
  const api = startApi(zstd)
  for (const session of ['aaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbb', 'cccccccccccccccc']) await helloPage(api, { session })
  expect((await api.ask({ path: '/v1/status' })).json).toMatchObject({ alarms: [], agents: [{ agentId: 'agent-1', sessions: 1 }] })
})

test('lookup finds a file by inode and birth time, also when it is closed, and keeps the order of the question', async () => {
  const api = startApi(zstd)
  const known = sealedBatch({ zstd })
  await api.send([known])
  const id = known.source.streamId.toString('hex')
  expect(parseJson(closeResponseSchema, (await post(api, '/v1/streams/close', { agentId: 'agent-1', streams: [{ id, position: known.source.end }] })).body, '').closed).toEqual([id])
  const file = { topic: 'app', inode: '42', birthtimeNs: '7', head: '' }
  const answer = await post(api, '/v1/streams/lookup', { agentId: 'agent-1', files: [{ ...file, inode: '1' }, file] })
  const { files } = parseJson(lookupResponseSchema, answer.body, '')
  expect(files.map(({ streams }) => streams.map(({ id: found, open }) => [found, open]))).toEqual([[], [[id, false]]])
})

test('close leaves a stream open whose position is another, and one of another agent', async () => {
  const api = startApi(zstd)
  const mine = sealedBatch({ zstd })
  const other = sealedBatch({ zstd, agentId: 'agent-2', inode: 5n })
  await api.send([mine, other])
  const streams = [
    { id: mine.source.streamId.toString('hex'), position: 1 },
    { id: other.source.streamId.toString('hex'), position: other.source.end },
    { id: 'f'.repeat(32), position: 0 },
  ]
  expect((await post(api, '/v1/streams/close', { agentId: 'agent-1', streams })).json).toEqual({ closed: [] })
})

test('a number that does not fit into 64 bits is a bad request, not a wrong match', async () => {
  const api = startApi(zstd)
  const file = { topic: 'app', inode: '99999999999999999999', birthtimeNs: '0', head: '' }
  expect((await post(api, '/v1/streams/lookup', { agentId: 'agent-1', files: [file] })).code).toBe('BAD_REQUEST')
})

test('the listing of streams filters literally, and a misspelt filter is refused', async () => {
  const api = startApi(zstd)
  await api.send([sealedBatch({ zstd }), sealedBatch({ zstd, path: '/b', inode: 2n }), sealedBatch({ zstd, topic: 'web', host: 'db-1', inode: 3n })])
  const count = async (query: string): Promise<number> =>
    parseJson(streamsResponseSchema, (await api.ask({ path: `/v1/streams${query}` })).body, '').streams.length
  expect([await count(''), await count('?path=/b'), await count('?topic=web&host=db-1'), await count('?open=false'), await count('?path=/%2A')]).toEqual([3, 1, 1, 0, 0])
  expect((await api.ask({ path: '/v1/streams?hots=x' })).code).toBe('BAD_REQUEST')
  expect((await api.ask({ path: '/v1/streams?id=xyz' })).code).toBe('BAD_REQUEST')
})

test('the listing of streams goes on behind the last one of a page, and misses none', async () => {
  const api = startApi(zstd)
  const count = wireLimits.streamsPerPage + 1
  await api.send(Array.from({ length: count }, (_, index) => sealedBatch({ zstd, inode: BigInt(index + 1) })))
  const first = parseJson(streamsResponseSchema, (await api.ask({ path: '/v1/streams' })).body, '')
  const second = parseJson(streamsResponseSchema, (await api.ask({ path: `/v1/streams?after=${first.next}` })).body, '')
  expect([first.streams.length, second.streams.length, second.next]).toEqual([count - 1, 1, null])
  expect(new Set([...first.streams, ...second.streams].map(({ id }) => id)).size).toBe(count)
})
