import { beforeAll, expect, test } from 'vitest'
import { errorResponse } from '../../../shared/http-body.ts'
import type { ServerRequest } from '../../../shared/http-handler.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { hashToken, type AuthOptions } from '../../../collector/http/auth.ts'
import { createRouter, type Route } from '../../../collector/http/router.ts'
import type { StoredToken } from '../../../collector/http/tokens.ts'
import { startApi, type Answer } from '../../collector-api.ts'
import { sealedBatch } from '../../sealed-batch.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

const tokens: readonly StoredToken[] = [
  { id: 'aaaaaaaaaaaa', hash: hashToken('tr_agent'), createdMs: 0, role: 'agent', agentId: 'agent-1', host: 'web-1' },
  { id: 'bbbbbbbbbbbb', hash: hashToken('tr_read'), createdMs: 0, role: 'read' },
  { id: 'cccccccccccc', hash: hashToken('tr_admin'), createdMs: 0, role: 'admin' },
]
const withTokens: AuthOptions = { tokens: () => tokens, hasCertificates: false, adminNames: [], readNames: [] }
const withCertificates: AuthOptions = { tokens: undefined, hasCertificates: true, adminNames: ['boss'], readNames: ['reader'] }
const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` })

function frameCodes(answer: Answer): readonly unknown[] {
  return ((answer.json as { frames?: readonly { status: string; code?: string }[] }).frames ?? []).map(({ status, code }) => code ?? status)
}

test('each role opens its own doors and no other', async () => {
  const api = startApi(zstd, { auth: withTokens })
  const doors = [
    { role: 'ingest', method: 'POST', path: '/v1/topics/app/lines', headers: {}, body: 'a line' },
    { role: 'read', method: 'GET', path: '/v1/topics', headers: {}, body: '' },
    { role: 'admin', method: 'POST', path: '/v1/topics', headers: {}, body: '{"name":"made"}' },
  ]
  const opened: string[] = []
  for (const { role, ...door } of doors) {
    for (const token of ['tr_agent', 'tr_read', 'tr_admin']) {
      const { status } = await api.ask({ ...door, headers: bearer(token) })
      expect([200, 201, 403]).toContain(status)
      if (status !== 403) opened.push(`${token} ${role}`)
    }
  }
  expect(opened).toEqual(['tr_agent ingest', 'tr_admin ingest', 'tr_read read', 'tr_admin read', 'tr_admin admin'])
})

test('without a token, with a wrong one, or with two, nobody gets in', async () => {
  const api = startApi(zstd, { auth: withTokens })
  const attempts = [{}, bearer('tr_other'), bearer('x'.repeat(5000)), { authorization: 'Basic dHJfYWRtaW4=' }, { authorization: 'Bearer tr_read, Bearer tr_read' }]
  for (const headers of attempts) {
    const answer = await api.ask({ path: '/v1/topics', headers })
    expect([answer.status, answer.code]).toEqual([401, 'UNAUTHENTICATED'])
  }
})

test('probes need no identity, metrics do', async () => {
  const api = startApi(zstd, { auth: withTokens })
  const statuses = await Promise.all(['/health', '/ready', '/metrics', '/v1/status'].map(async (path) => (await api.ask({ path })).status))
  expect(statuses).toEqual([200, 200, 401, 401])
})

test('a token of one agent may not send as another agent or host', async () => {
  const api = startApi(zstd, { auth: withTokens })
  const mine = sealedBatch({ zstd })
  const otherAgent = sealedBatch({ zstd, agentId: 'agent-2', inode: 2n })
  const otherHost = sealedBatch({ zstd, host: 'db-1', inode: 3n })
  expect(frameCodes(await api.send([otherAgent, mine, otherHost], { headers: { 'content-type': 'application/vnd.tailrace.batches', ...bearer('tr_agent') } }))).toEqual([
    'HOST_MISMATCH',
    'ok',
    'HOST_MISMATCH',
  ])
  const alone = await api.send([otherHost], { headers: { 'content-type': 'application/vnd.tailrace.batches', ...bearer('tr_agent') } })
  expect([alone.status, alone.code]).toEqual([403, 'HOST_MISMATCH'])
  for (const [path, body] of [
    ['/v1/hello', { protocol: 1, agentId: 'agent-1', host: 'db-1', session: '0123456789abcdef' }],
    ['/v1/streams/lookup', { agentId: 'agent-2', files: [] }],
    ['/v1/streams/close', { agentId: 'agent-2', streams: [] }],
  ] as const) {
    const answer = await api.ask({ method: 'POST', path, headers: bearer('tr_agent'), body: JSON.stringify(body) })
    expect([path, answer.status, answer.code]).toEqual([path, 403, 'HOST_MISMATCH'])
  }
  expect(api.log.storedBatches).toBe(1)
})

test('a certificate speaks for the agent and host that it names, and only some may read or administrate', async () => {
  const api = startApi(zstd, { auth: withCertificates })
  const headers = { 'content-type': 'application/vnd.tailrace.batches' }
  const send = (certificateNames: readonly string[]): Promise<Answer> => api.send([sealedBatch({ zstd })], { headers, certificateNames })
  expect((await send([])).status).toBe(401)
  expect((await send(['agent-1', 'db-1'])).code).toBe('HOST_MISMATCH')
  expect(frameCodes(await send(['agent-1', 'web-1']))).toEqual(['ok'])
  const statuses = await Promise.all(
    ['web-1', 'reader', 'boss'].map(async (name) => {
      const read = await api.ask({ path: '/v1/topics', certificateNames: [name] })
      const administrate = await api.ask({ method: 'DELETE', path: '/v1/topics/none', certificateNames: [name] })
      return [read.status, administrate.status]
    }),
  )
  expect(statuses).toEqual([
    [403, 403],
    [200, 403],
    [200, 404],
  ])
})

test('a foreign Host header is refused before anything else is looked at', async () => {
  const api = startApi(zstd)
  for (const host of ['evil.example', '', 'collector, collector']) {
    const answer = await api.ask({ path: '/v1/topics', headers: { host } })
    expect([answer.status, answer.code]).toEqual([403, 'FORBIDDEN'])
  }
})

test('a page of another site can not make a browser write here', async () => {
  const api = startApi(zstd)
  const ask = (origin: string): Promise<Answer> =>
    api.ask({ method: 'POST', path: '/v1/topics/app/lines', headers: { origin, 'content-type': 'text/plain' }, body: 'forged' })
  expect([(await ask('https://evil.example')).code, (await ask('null')).code]).toEqual(['FORBIDDEN', 'FORBIDDEN'])
  expect((await ask('http://collector')).status).toBe(200)
})

function routed(routes: readonly Route[]): (method: string, path: string) => Promise<{ status: number; body: string; allow: string | undefined }> {
  const everything = { name: 'test', roles: new Set(['read' as const]), identity: undefined }
  const handler = createRouter({ routes, authenticate: () => everything, isKnownHost: () => true })
  return async (method, path) => {
    const request = { method, path, headers: new Map<string, string>() } as unknown as ServerRequest
    const response = await handler(request).catch(errorResponse)
    return { status: response.status, body: String(response.body), allow: response.headers?.['allow'] }
  }
}

const echo: Route = {
  method: 'GET',
  pattern: '/v1/topics/:topic/lines',
  role: 'read',
  handler: (_request, { params }) => Promise.resolve({ status: 200, body: params.get('topic') ?? '' }),
}

test('a path parameter is decoded once, and what does not decode is refused', async () => {
  const ask = routed([echo])
  expect((await ask('GET', '/v1/topics/a%20b/lines')).body).toBe('a b')
  expect((await ask('GET', '/v1/topics/%252e%252e/lines')).body).toBe('%2e%2e')
  expect((await ask('GET', '/v1/topics/%ff/lines')).status).toBe(400)
})

test('what is not there is 404, and a wrong method says which are right', async () => {
  const ask = routed([echo])
  expect((await ask('GET', '/v1/topics/a')).status).toBe(404)
  expect((await ask('GET', '/'.repeat(500))).status).toBe(404)
  expect((await ask('HEAD', '/v1/topics/a/lines')).status).toBe(200)
  expect(await ask('DELETE', '/v1/topics/a/lines')).toMatchObject({ status: 405, allow: 'GET' })
})

test('two routes for one door are a bug that shows at start', () => {
  expect(() => routed([echo, { ...echo, pattern: '/v1/topics/:name/lines' }])).toThrow('registered once')
})
