import { beforeAll, describe, expect, test } from 'vitest'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { sealedBatch } from '../../sealed-batch.ts'
import { error, FakeCollector } from './fake-collector.ts'
import { cli } from './run-cli.ts'

let zstd: Zstd
beforeAll(async () => {
  zstd = await loadZstd()
})

function collector(): FakeCollector {
  const http = new FakeCollector(zstd)
  http.store(sealedBatch({ zstd, lines: ['a', 'b'] }))
  http.store(sealedBatch({ zstd, lines: ['c'], host: 'db-1', path: '/var/log/db.log', inode: 7n, topic: 'db' }))
  return http
}

test('streams --json is one array with what scripts need', async () => {
  const run = await cli(['streams', '--json'], { http: collector() })
  const rows = JSON.parse(run.stdout) as Array<Record<string, unknown>>
  expect(rows).toHaveLength(2)
  expect(rows[0]).toMatchObject({
    id: expect.stringMatching(/^[0-9a-f]{32}$/), host: 'web-1', path: '/var/log/app.log', topic: 'app', partition: 0, generation: 0, position: 4, records: 2, open: true,
  })
})

test.each([
  [['-t', 'd*'], ['db-1']],
  [['--host', 'web-*'], ['web-1']],
  [['--path', '/var/**'], ['web-1', 'db-1']],
  [['--path', '/var/log/db.log'], ['db-1']],
])('streams %j gives %j', async (flags, hosts) => {
  const run = await cli(['streams', '--json', ...flags], { http: collector() })
  expect((JSON.parse(run.stdout) as Array<{ host: string }>).map(({ host }) => host)).toEqual(hosts)
})

test('nothing found is exit code 1, an empty array in JSON', async () => {
  expect(await cli(['streams', '--host', 'x'], { http: collector() })).toMatchObject({ code: 1, stdout: '' })
  expect(await cli(['streams', '--host', 'x', '--json'], { http: collector() })).toMatchObject({ code: 1, stdout: '[]\n' })
})

test('a table escapes what a path may hold, also into a pipe', async () => {
  const http = new FakeCollector(zstd)
  http.store(sealedBatch({ zstd, lines: ['x'], path: '/a\nb\x1b[2J' }))
  expect((await cli(['streams'], { http })).stdout).toContain('/a\\x0ab\\x1b[2J')
})

test('topics and offsets show records, sizes and ends', async () => {
  const topics = await cli(['topics'], { http: collector() })
  expect(topics.stdout).toMatch(/^TOPIC +PARTITIONS +RECORDS/)
  expect(topics.stdout).toMatch(/^app +1 +2 /m)
  expect((await cli(['topics', 'list', '-t', 'db', '--json'], { http: collector() })).stdout).toContain('"db"')
  const offsets = await cli(['offsets', '--json', '-t', 'app'], { http: collector() })
  expect(JSON.parse(offsets.stdout)).toMatchObject([{ topic: 'app', partition: 0, logStartOffset: 0, highWatermark: 2, logEndOffset: 2 }])
})

describe('topics can be changed', () => {
  function lastBody(http: FakeCollector): unknown {
    const body = http.requests.at(-1)?.body
    return body !== undefined && !('stream' in body) ? JSON.parse(Buffer.concat([...body]).toString()) : undefined
  }

  test('create sends only the settings that were given', async () => {
    const http = collector()
    const run = await cli(['topics', 'create', 'new', '--partitions', '8', '--retention-age', '30d', '--segment-bytes', '64MiB'], { http })
    expect(run).toMatchObject({ code: 0, stdout: 'new: created\n' })
    expect(http.requests.at(-1)).toMatchObject({ method: 'POST', url: 'http://127.0.0.1:4280/v1/topics' })
    expect(lastBody(http)).toEqual({ name: 'new', config: { partitions: 8, retentionAgeMs: 2_592_000_000, segmentBytes: 67_108_864 } })
  })

  test('alter can lift a limit', async () => {
    const http = collector()
    await cli(['topics', 'alter', 'app', '--retention-bytes', 'none'], { http })
    expect(http.requests.at(-1)).toMatchObject({ method: 'PATCH', url: 'http://127.0.0.1:4280/v1/topics/app' })
    expect(lastBody(http)).toEqual({ config: { retentionBytes: null } })
    expect((await cli(['topics', 'alter', 'app', '--retention-age', '30'], { http })).code).toBe(2)
  })

  test('delete deletes, and with --dry-run only says what', async () => {
    const http = collector()
    expect(await cli(['topics', 'delete', 'app', '--dry-run'], { http })).toMatchObject({ code: 0, stdout: 'app: would delete 2 records in 1 partitions\n' })
    expect(http.requests.every(({ method }) => method === 'GET')).toBe(true)
    expect((await cli(['topics', 'delete', 'app'], { http })).code).toBe(0)
    expect(http.requests.at(-1)?.method).toBe('DELETE')
    expect((await cli(['topics', 'delete', 'nope'], { http })).code).toBe(1)
  })

  test('a refusal of the server keeps its code and its hint', async () => {
    const http = collector()
    http.intercept = () => error(409, 'TOPIC_EXISTS', 'there is a topic app')
    expect(await cli(['topics', 'create', 'app'], { http })).toMatchObject({ code: 1, stderr: expect.stringContaining('(TOPIC_EXISTS)') })
  })
})

test('exports shows lag, and a bad check is exit code 1', async () => {
  const http = collector()
  const segment = { baseOffset: 0, nextOffset: 2, state: 'recorded', sizeBytes: 2048, sha256: 'ab'.repeat(32), name: 'raw/app/p=0/x.log', check: 'length' as const }
  http.exports = [{ topic: 'app', partition: 0, exportedOffset: 2, logEndOffset: 2, lagSegments: 1, lagBytes: 2048, lagMs: 65_000, oldestUnexportedMs: 7_200_000, state: 'parked', reason: 'quota', segments: [segment] }]
  const run = await cli(['exports', '--check', 'length'], { http })
  expect(run.code).toBe(1)
  expect(run.stdout).toContain('1 (2.00 KiB)')
  expect(run.stdout).toContain('1m 5s')
  expect(run.stdout).toContain('2h')
  expect(run.stdout).toContain('1 of 1 BAD')
  expect(http.requests.at(-1)?.url).toContain('check=length')
  expect((await cli(['exports', '--segments'], { http })).stdout).toContain('raw/app/p=0/x.log')
})

test('a clock that stepped is confirmed from the command line', async () => {
  const http = collector()
  expect(await cli(['status', 'confirm-clock'], { http })).toMatchObject({ code: 0, stdout: expect.stringContaining('confirmed; there was no alarm') })
  expect(http.requests.at(-1)).toMatchObject({ method: 'POST', url: expect.stringContaining('/v1/clock/confirm') })
})

test('status is exit code 3 while there is an alarm', async () => {
  const http = collector()
  expect((await cli(['status'], { http })).code).toBe(0)
  http.alarms = [{ code: 'HOLE', message: 'offsets 5 to 9', sinceMs: 1 }]
  expect(await cli(['status'], { http })).toMatchObject({ code: 3, stdout: expect.stringContaining('ALARM       HOLE: offsets 5 to 9 (for 5.0s)') })
  expect(JSON.parse((await cli(['status', '--json'], { http })).stdout)).toMatchObject([{ ready: true }])
})

test('an answer that is not a collector is an error with a hint, not a crash', async () => {
  const http = collector()
  http.intercept = () => ({ status: 502, headers: new Map(), body: (async function* () { await Promise.resolve(); yield Buffer.from('<html>') })() })
  expect(await cli(['topics'], { http })).toMatchObject({ code: 4, stderr: expect.stringContaining('check that --server') })
  http.intercept = () => ({ status: 200, headers: new Map(), body: (async function* () { await Promise.resolve(); yield Buffer.from('{"topics":[{"name":7}]}') })() })
  expect((await cli(['topics'], { http })).code).toBe(2)
})
