import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startCollector, type RunningCollector } from '../../collector/collector.ts'
import { collectorSettings, toCollectorConfig, type CollectorConfig } from '../../collector/config.ts'
import { createToken } from '../../collector/http/tokens.ts'
import { createInProcessExecutor } from '../../collector/query/in-process-executor.ts'
import { createNodeSystem } from '../../shared/node-system.ts'
import { parseSettings } from '../../shared/settings.ts'
import { createHttpClient } from '../../shared/node/http-client.ts'
import type { System } from '../../shared/system.ts'
import { batchesResponseSchema, contentTypes, parseJson } from '../../shared/wire.ts'
import { loadZstd } from '../../shared/zstd.ts'
import { framesOf } from '../collector-api.ts'
import { sealedBatch } from '../sealed-batch.ts'

let folder: string
let system: System
const running: RunningCollector[] = []
const fatal: unknown[] = []

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tailrace-collector-'))
  system = createNodeSystem({ logLevel: 'error' })
  fatal.length = 0
})

afterEach(async () => {
  await Promise.all(running.splice(0).map((collector) => collector.close()))
  await system.http.close()
  await rm(folder, { recursive: true, force: true })
  expect(fatal).toEqual([])
})

function configOf(flags: Readonly<Record<string, unknown>>): CollectorConfig {
  const result = toCollectorConfig(parseSettings(collectorSettings, { flags: { data: join(folder, 'data'), listen: '127.0.0.1:0', ...flags } }))
  if ('problems' in result) throw new Error(JSON.stringify(result.problems))
  return result.config
}

async function start(flags: Readonly<Record<string, unknown>> = {}): Promise<RunningCollector> {
  const zstd = await loadZstd()
  const collector = await startCollector(system, configOf(flags), {
    zstd,
    executor: createInProcessExecutor(zstd),
    exportHttp: { http: system.http, streamingHttp: createHttpClient({ keepsConnections: false }) },
    onFatal: (error) => fatal.push(error),
  })
  running.push(collector)
  return collector
}

async function stop(collector: RunningCollector): Promise<void> {
  running.splice(running.indexOf(collector), 1)
  await collector.close()
}

async function ask(collector: RunningCollector, path: string, options: { method?: 'GET' | 'POST'; body?: Buffer; headers?: Record<string, string> } = {}): Promise<{ status: number; text: string }> {
  const { method = 'GET', body, headers = {} } = options
  const response = await system.http.request({ method, url: collector.url + path, headers, ...(body === undefined ? {} : { body: [body] }) })
  const pieces: Uint8Array[] = []
  for await (const piece of response.body) pieces.push(piece)
  return { status: response.status, text: Buffer.concat(pieces).toString() }
}

test('what was acknowledged is there after a restart, and the agent is told how far it came', async () => {
  const zstd = await loadZstd()
  const first = sealedBatch({ zstd, lines: ['one', 'two'] })
  const second = sealedBatch({ zstd, lines: ['three'], previous: first })
  const before = await start()
  const headers = { 'content-type': contentTypes.batches }
  const stored = await ask(before, '/v1/batches', { method: 'POST', headers, body: framesOf([first, second]) })
  expect(parseJson(batchesResponseSchema, stored.text, '').frames.map(({ status }) => status)).toEqual(['ok', 'ok'])
  await stop(before)
  const after = await start()
  const again = await ask(after, '/v1/batches', { method: 'POST', headers, body: framesOf([second]) })
  expect(parseJson(batchesResponseSchema, again.text, '').frames).toMatchObject([{ status: 'have', position: 14 }])
  const query = await ask(after, '/v1/query?topic=app&pattern=t')
  expect(query.text.trim().split('\n').map((line) => (JSON.parse(line) as { line?: string }).line)).toEqual(['two', 'three', undefined])
})

test('what is exported on request lies in the folder byte for byte, and the check says so', async () => {
  const collector = await start({ exportTo: `file://${folder}/exported`, partitions: '1' })
  await ask(collector, '/v1/topics/app/lines', { method: 'POST', body: Buffer.from('a\nb\n') })
  const { status, text } = await ask(collector, '/v1/exports', { method: 'POST' })
  expect(status).toBe(200)
  const [exported] = (JSON.parse(text) as { exports: { exportedOffset: number; segments: { name: string }[] }[] }).exports
  expect(exported).toMatchObject({ topic: 'app', logEndOffset: 2, segments: [{ state: 'recorded' }] })
  const checked = await ask(collector, '/v1/exports?check=deep')
  expect(JSON.parse(checked.text)).toMatchObject({ exports: [{ segments: [{ check: 'ok' }] }] })
  const name = exported?.segments[0]?.name ?? ''
  const copy = await readFile(join(folder, 'exported/raw/app/p=0', `${name}.log`))
  expect(copy.equals(await readFile(join(folder, 'data/topics/app-0/00000000000000000000.log')))).toBe(true)
})

test('a second collector on the same folder is refused with the name of the first', async () => {
  await start()
  await expect(start()).rejects.toMatchObject({ code: 'LOCKED', message: expect.stringContaining(String(process.pid)) as string })
})

test('a port in use is told, and the folder is free again afterwards', async () => {
  const collector = await start()
  await expect(start({ data: join(folder, 'other'), listen: `127.0.0.1:${collector.port}` })).rejects.toMatchObject({ code: 'CANNOT_LISTEN' })
  await start({ data: join(folder, 'other') })
})

test('with tokens nobody gets in before a token was made and the collector reloaded', async () => {
  const collector = await start({ auth: 'tokens' })
  expect((await ask(collector, '/v1/topics')).status).toBe(401)
  const { token } = await createToken(system, join(folder, 'data'), { role: 'read' })
  const headers = { authorization: `Bearer ${token}` }
  expect((await ask(collector, '/v1/topics', { headers })).status).toBe(401)
  await collector.reload()
  expect((await ask(collector, '/v1/topics', { headers })).status).toBe(200)
})
