import { beforeAll, expect, test } from 'vitest'
import { exportsResponseSchema, parseJson, statusSchema, topicSchema, topicsResponseSchema, type ExportInfo } from '../../../shared/wire.ts'
import { toOffset } from '../../../shared/types.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { startApi, type Answer, type Api } from '../../collector-api.ts'
import { sealedBatch } from '../../sealed-batch.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

function send(api: Api, method: string, path: string, body?: unknown): Promise<Answer> {
  return api.ask({ method, path, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
}

test('a topic is created, listed, altered and deleted', async () => {
  const api = startApi(zstd)
  const created = await send(api, 'POST', '/v1/topics', { name: 'web', config: { partitions: 2, retentionAgeMs: 60_000, retentionBytes: null } })
  expect(created.status).toBe(201)
  expect(parseJson(topicSchema, created.body, '')).toMatchObject({ name: 'web', config: { partitions: 2, retentionAgeMs: 60_000, retentionBytes: null } })
  const altered = await send(api, 'PATCH', '/v1/topics/web', { config: { partitions: 3, retentionAgeMs: null } })
  expect(parseJson(topicSchema, altered.body, '').config).toMatchObject({ partitions: 3, retentionAgeMs: null })
  expect(parseJson(topicsResponseSchema, (await send(api, 'GET', '/v1/topics')).body, '').topics.map(({ name }) => name)).toEqual(['web'])
  expect((await send(api, 'DELETE', '/v1/topics/web')).status).toBe(200)
  expect((await send(api, 'GET', '/v1/topics/web')).code).toBe('UNKNOWN_TOPIC')
})

test('mistakes about topics have their codes', async () => {
  const api = startApi(zstd)
  await send(api, 'POST', '/v1/topics', { name: 'web', config: { partitions: 2 } })
  const answers = [
    await send(api, 'POST', '/v1/topics', { name: 'web' }),
    await send(api, 'POST', '/v1/topics', { name: '../x' }),
    await send(api, 'POST', '/v1/topics', { name: 'x', config: { partitons: 3 } }),
    await send(api, 'POST', '/v1/topics', { name: 'x', config: { partitions: 0 } }),
    await send(api, 'PATCH', '/v1/topics/web', { config: { partitions: 1 } }),
    await send(api, 'PATCH', '/v1/topics/none', { config: {} }),
    await send(api, 'DELETE', '/v1/topics/none'),
    await api.ask({ method: 'POST', path: '/v1/topics', body: '{"name":' }),
    await api.ask({ method: 'POST', path: '/v1/topics', body: '{"name":"x"}', headers: { 'content-type': 'text/plain' } }),
  ]
  expect(answers.map(({ code }) => code)).toEqual([
    'TOPIC_EXISTS', 'INVALID_TOPIC', 'BAD_REQUEST', 'BAD_REQUEST', 'INVALID_PARTITIONS', 'UNKNOWN_TOPIC', 'UNKNOWN_TOPIC', 'BAD_REQUEST', 'UNSUPPORTED_MEDIA_TYPE',
  ])
})

test('rolling a topic rolls each of its partitions', async () => {
  const api = startApi(zstd)
  await send(api, 'POST', '/v1/topics', { name: 'web', config: { partitions: 3 } })
  expect((await send(api, 'POST', '/v1/topics/web/roll')).status).toBe(200)
  expect(api.log.rolls).toBe(3)
})

test('the status page counts what there is', async () => {
  const api = startApi(zstd)
  await api.send([sealedBatch({ zstd })])
  const status = parseJson(statusSchema, (await api.ask({ path: '/v1/status' })).body, '')
  expect(status).toMatchObject({
    version: '1.2.3', clusterId: 'cluster-1', ready: true, topics: 1, streams: 1, exportTo: null, alarms: [],
    agents: [{ agentId: 'agent-1', host: 'web-1', openStreams: 1 }],
  })
})

test('metrics are Prometheus text', async () => {
  const api = startApi(zstd)
  await api.send([sealedBatch({ zstd })])
  const answer = await api.ask({ path: '/metrics' })
  expect(answer.headers['content-type']).toContain('version=0.0.4')
  expect(answer.body).toContain('tailrace_collector_records_stored_total 1')
  expect(answer.body).toContain('tailrace_collector_request_bytes 0')
})

const exported: ExportInfo = {
  topic: 'app', partition: 0, exportedOffset: 5, logEndOffset: 9, lagSegments: 0, lagBytes: 0, lagMs: 0, oldestUnexportedMs: 0, state: 'idle', reason: null, segments: [],
}

const nothingToSkip = { skippable: () => undefined, skip: () => Promise.resolve() }

test('what holds an export up is told first, and given up only with that range', async () => {
  const skipped: unknown[] = []
  const range = { fromOffset: toOffset(5), toOffset: toOffset(7) }
  const api = startApi(zstd, {
    exports: {
      list: () => Promise.resolve([]),
      exportNow: () => Promise.resolve(),
      skippable: (topic, partition) => (topic === 'app' && partition === 0 ? range : undefined),
      skip: (...given) => {
        skipped.push(given)
        return Promise.resolve()
      },
    },
  })
  const ask = (body: object): ReturnType<typeof api.ask> => api.ask({ method: 'POST', path: '/v1/exports/skip', body: JSON.stringify(body) })
  expect((await ask({ topic: 'app', partition: 1 })).json).toEqual({ range: null, isSkipped: false })
  expect((await ask({ topic: 'app', partition: 0 })).json).toEqual({ range, isSkipped: false })
  expect(skipped).toEqual([])
  expect((await ask({ topic: 'app', partition: 0, range })).json).toEqual({ range, isSkipped: true })
  expect(skipped).toEqual([['app', 0, range]])
  expect((await ask({ topic: 'app', partition: 0, range: { fromOffset: -1, toOffset: 2 } })).code).toBe('BAD_REQUEST')
})

test('exports are listed with the check that was asked for, and made on request', async () => {
  const asked: (string | undefined)[] = []
  let exports = 0
  const api = startApi(zstd, {
    exports: {
      list: ({ check }) => {
        asked.push(check)
        return Promise.resolve([exported])
      },
      exportNow: () => {
        exports += 1
        return Promise.resolve()
      },
      ...nothingToSkip,
    },
  })
  expect(parseJson(exportsResponseSchema, (await api.ask({ path: '/v1/exports' })).body, '').exports).toEqual([exported])
  await api.ask({ path: '/v1/exports?check=deep' })
  expect((await api.ask({ path: '/v1/exports?check=quick' })).code).toBe('BAD_REQUEST')
  expect((await api.ask({ method: 'POST', path: '/v1/exports' })).status).toBe(200)
  expect([asked, exports]).toEqual([[undefined, 'deep', undefined], 1])
})

test('without an export the list is empty, and asking for one says how to get it', async () => {
  const api = startApi(zstd)
  expect((await api.ask({ path: '/v1/exports' })).json).toEqual({ exports: [] })
  expect((await api.ask({ method: 'POST', path: '/v1/exports' })).code).toBe('CONFLICT')
})

test('an administrator confirms the clock after a step', async () => {
  let confirmed = 0
  const api = startApi(zstd, { confirmClock: () => (confirmed += 1) })
  expect((await api.ask({ method: 'POST', path: '/v1/clock/confirm' })).status).toBe(200)
  expect(confirmed).toBe(1)
})
