/** Status and admin answers, over a real agent on a simulated machine. */
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { adminHandler } from '../../agent/admin.ts'
import { agentStatus, agentStatusSchema, statusTable, type AgentStatus } from '../../agent/status.ts'
import type { ServerResponse } from '../../shared/http-handler.ts'
import { parseJson } from '../../shared/wire.ts'
import { loadZstd, type Zstd } from '../../shared/zstd.ts'
import { AgentRig, testConfig } from './agent-rig.ts'

let zstd: Zstd
let rig: AgentRig
beforeAll(async () => {
  zstd = await loadZstd()
})
beforeEach(async () => {
  rig = new AgentRig({ zstd, config: { isWatching: true } })
  await rig.fs.makeDirectory('/log')
  rig.fs.putFile('/log/a.log', Buffer.from('one\ntwo'))
  rig.fs.putFile('/log/empty.log', Buffer.alloc(0))
  await rig.start()
  await rig.pass(2000)
})
afterEach(async () => {
  await rig.stop()
})

async function get(path: string, options: { host?: string; method?: string } = {}): Promise<ServerResponse> {
  const handler = adminHandler({ system: rig.sim.system, current: () => ({ agent: rig.agent, config: testConfig() }), ownNames: ['web-1'] })
  return handler({
    method: options.method ?? 'GET', path, query: new URLSearchParams(), headers: new Map([['host', options.host ?? '127.0.0.1:4281']]),
    contentLength: undefined, body: (async function* none() { /* no body */ })(), remoteAddress: '127.0.0.1', certificateNames: [], signal: new AbortController().signal,
  })
}

function status(): AgentStatus {
  return agentStatus(rig.agent, testConfig(), rig.sim.clock)
}

describe('status', () => {
  test('tells per file how far it is and why the rest is not read', () => {
    const [a, empty] = status().files
    expect(a).toMatchObject({ path: '/log/a.log', state: 'reading', size: 7, acked: 4, lagBytes: 3, generation: 1, reason: 'its last line has no newline yet' })
    expect(empty).toMatchObject({ path: '/log/empty.log', state: 'empty', reason: 'it has no bytes yet' })
  })

  test('lag counts seconds while something is missing, and is gone when all is stored', async () => {
    await rig.pass(10_000)
    expect(status().files[0]?.lagSeconds).toBeGreaterThanOrEqual(10)
    await rig.append('/log/a.log', '\n')
    await rig.pass(3000)
    expect(status().files[0]).toMatchObject({ state: 'up to date', lagBytes: 0, lagSeconds: 0, reason: null })
  })

  test('a lost collector is told with its reason', async () => {
    rig.collector.isDown = true
    await rig.append('/log/a.log', ' and three\n')
    await rig.pass(5000)
    expect(status().connection).toMatchObject({ state: 'lost', reason: expect.stringContaining('CANNOT_CONNECT') as string })
  })

  test('the table shows control and bidirectional characters instead of sending them', () => {
    const hostile = { ...status(), agentId: 'a\u001b[31m\u202e' }
    expect(statusTable(hostile)).toContain('a\\u{1b}[31m\\u{202e}')
  })
})

test('what is left out is told with its reason', async () => {
  rig.fs.putFile('/log/wtmp.log', Buffer.from('x\n'))
  const other = new AgentRig({ zstd, input: { exclude: ['w*'] }, fs: rig.fs })
  await other.start()
  await other.pass(2000)
  const { files, unlisted } = agentStatus(other.agent, testConfig(), other.sim.clock)
  expect(files.find(({ path }) => path === '/log/wtmp.log')).toMatchObject({ state: 'skipped', reason: 'excluded by w*' })
  expect(unlisted).toBe(0)
  expect(statusTable({ ...status(), unlisted: 7 })).toMatch(/and 7 more paths that are left out\n$/)
  await other.stop()
})

describe('admin server', () => {
  test('/status answers what the status verb reads', async () => {
    const { status: code, body } = await get('/status')
    expect(code).toBe(200)
    expect(parseJson(agentStatusSchema, String(body), 'status').files).toHaveLength(2)
  })

  test('/ready is 503 while the collector is away, /health is not', async () => {
    expect((await get('/ready')).status).toBe(200)
    rig.collector.isDown = true
    await rig.append('/log/a.log', ' x\n')
    await rig.pass(2000)
    expect((await get('/ready')).status).toBe(503)
    expect((await get('/health')).status).toBe(200)
  })

  test('a foreign Host is refused, our own names are not', async () => {
    expect((await get('/status', { host: 'evil.example' })).status).toBe(403)
    expect((await get('/status', { host: 'WEB-1:4281' })).status).toBe(200)
    expect((await get('/status', { host: '[::1]:4281' })).status).toBe(200)
  })

  test('nothing but GET, and nothing but what is there', async () => {
    expect((await get('/status', { method: 'POST' })).status).toBe(405)
    expect((await get('/nothing')).status).toBe(404)
  })
})
