import { beforeAll, describe, expect, test } from 'vitest'
import { ReplayPace } from '../../../collector/cli/replay-pace.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { sealedBatch } from '../../sealed-batch.ts'
import { simulate, type Simulation } from '../../sim-system.ts'
import { error, FakeCollector } from './fake-collector.ts'
import { cli, type CliRun, type CliOptions } from './run-cli.ts'

let zstd: Zstd
beforeAll(async () => {
  zstd = await loadZstd()
})

const T0 = Date.UTC(2026, 0, 1)

describe('the pace', () => {
  test('is an absolute schedule: time between records, divided by the speed', () => {
    const pace = new ReplayPace({ speed: 2, maxGapMs: undefined })
    expect([1000, 1100, 1100, 2000].map((ts) => pace.dueMs(ts))).toEqual([0, 50, 50, 500])
  })

  test('never waits longer than the gap allowed, in time of the replay', () => {
    const pace = new ReplayPace({ speed: 1, maxGapMs: 100 })
    expect([0, 50, 10_000, 10_010].map((ts) => pace.dueMs(ts))).toEqual([0, 50, 150, 160])
  })

  test('an older record is due at once and counted, and does not stretch what follows', () => {
    const pace = new ReplayPace({ speed: 1, maxGapMs: undefined })
    expect([1000, 2000, 1500, 2100].map((ts) => pace.dueMs(ts))).toEqual([0, 1000, 1000, 1100])
    expect(pace.late).toBe(1)
  })

  test('without a speed nothing waits', () => {
    const pace = new ReplayPace({ speed: undefined, maxGapMs: undefined })
    expect([0, 1e9].map((ts) => pace.dueMs(ts))).toEqual([0, 0])
  })
})

/** One record a batch, over two partitions, `seconds` apart. */
function spaced(seconds: readonly number[]): FakeCollector {
  const http = new FakeCollector(zstd)
  seconds.forEach((second, index) => {
    http.store(sealedBatch({ zstd, lines: [`line ${index}`], timestampMs: T0 + second * 1000, inode: BigInt(index + 1) }), index % 2)
  })
  return http
}

interface Timed extends CliRun {
  /** Virtual ms that passed. */
  readonly tookMs: number
}

/** Runs with a clock that advances in steps until the command is done. */
async function timed(argv: readonly string[], options: CliOptions & { simulation: Simulation }): Promise<Timed> {
  const { clock } = options.simulation
  const startMs = clock.monotonicMs()
  let tookMs: number | undefined
  const run = cli(argv, options).finally(() => {
    tookMs = clock.monotonicMs() - startMs
  })
  for (let turn = 0; turn < 2000 && tookMs === undefined; turn += 1) await clock.advance(100)
  return { ...(await run), tookMs: tookMs ?? Infinity }
}

test.each([
  [['--speed', '1'], 10_000],
  [['--speed', '5x'], 2000],
  [['--max-gap', '1s'], 3000],
  [['--speed', 'max'], 0],
])('%j takes the time it should, in order over all partitions', async (flags, expectedMs) => {
  const simulation = simulate()
  const run = await timed(['replay', '-t', 'app', ...flags], { http: spaced([0, 1, 2, 10]), simulation })
  expect(run).toMatchObject({ code: 0, stdout: 'line 0\nline 1\nline 2\nline 3\n' })
  expect(run.tookMs).toBeGreaterThanOrEqual(expectedMs - 50)
  expect(run.tookMs).toBeLessThanOrEqual(expectedMs + 200)
  expect(run.stderr).toContain('replay of app to stdout: 4 records')
  expect(run.stderr).toContain('sent 4 records')
})

test('--dry-run reads all, sends nothing, and says records, bytes, times and how long it would take', async () => {
  const run = await cli(['replay', '-t', 'app', '--max-gap', '2s', '--dry-run', '--utc', '--to', 'file:/never'], { http: spaced([0, 1, 100]) })
  expect(run.code).toBe(0)
  expect(run.stdout).toContain('3 records, 21 B')
  expect(run.stdout).toContain('from 2026-01-01T00:00:00.000Z to 2026-01-01T00:01:40.000Z')
  expect(run.stdout).toContain('about 3.0s')
  expect(run.stdout).toContain('hosts: web-1')
  expect(run.stdout).toContain('nothing was sent')
})

test('it ends at the offsets pinned at the start, whatever arrives meanwhile', async () => {
  const http = spaced([0, 1])
  let isLate = false
  http.intercept = (_request, url) => {
    if (url.pathname === '/v1/query' && !isLate) {
      isLate = true
      http.store(sealedBatch({ zstd, lines: ['late'], timestampMs: T0 + 500, inode: 77n }))
    }
    return undefined
  }
  expect((await cli(['replay', '-t', 'app', '--speed', 'max'], { http })).stdout).toBe('line 0\nline 1\n')
})

test('a broken answer is asked for again behind the last record', async () => {
  const http = spaced([0, 1, 2, 3])
  const simulation = simulate()
  http.intercept = (request, url) => {
    // The plan asks three times; the fourth is the replay itself.
    if (url.pathname === '/v1/query' && http.requests.filter(({ url: asked }) => asked.includes('/v1/query')).length === 4) http.cutQueryAfter = 300
    return request.method === 'GET' ? undefined : error(400, 'BAD_REQUEST', 'no')
  }
  const run = await timed(['replay', '-t', 'app', '--speed', 'max'], { http, simulation })
  expect(run).toMatchObject({ code: 0, stdout: 'line 0\nline 1\nline 2\nline 3\n' })
})

describe('into a topic', () => {
  const flags = ['replay', '-t', 'app', '--to', 'topic:copy', '--speed', 'max']

  test('nothing is written without --execute', async () => {
    const http = spaced([0, 1])
    const run = await cli(flags, { http })
    expect(run.code).toBe(0)
    expect(run.stdout).toContain('needs --execute')
    expect(http.posted).toEqual([])
  })

  test('lines go as they are, under a key', async () => {
    const http = new FakeCollector(zstd)
    http.store(sealedBatch({ zstd, lines: ['plain', Buffer.from([0x61, 0xff, 0x0d])], timestampMs: T0 }))
    const run = await cli([...flags, '--execute'], { http })
    expect(run.code).toBe(0)
    expect(http.posted).toEqual([{ topic: 'copy', key: expect.stringMatching(/^[0-9a-f]{40}$/), body: 'plain\na\xff\r\n' }])
  })

  test('a topic is never replayed into itself, by name, by glob or by default', async () => {
    const http = spaced([0])
    for (const source of [['-t', 'app'], ['-t', 'a*'], []]) {
      expect((await cli(['replay', ...source, '--to', 'topic:app', '--execute'], { http })).code).toBe(2)
    }
  })

  test('a crash after the collector took a group does not double it when the replay goes on', async () => {
    const http = spaced([0, 1, 2, 3])
    const simulation = simulate()
    let isFirst = true
    http.intercept = (request) => {
      if (request.method !== 'POST' || !isFirst) return undefined
      isFirst = false
      // The group is stored, its answer is lost, and then the client dies.
      const body = request.body !== undefined && !('stream' in request.body) ? Buffer.concat([...request.body]).toString() : ''
      http.posted.push({ topic: 'copy', key: request.headers?.['idempotency-key'] ?? '', body })
      throw new TypeError('killed')
    }
    const argv = [...flags, '--execute', '--checkpoint', '/r.ckpt']
    expect((await cli(argv, { http, simulation })).code).toBe(5)
    http.store(sealedBatch({ zstd, lines: ['arrived later'], inode: 99n, timestampMs: T0 + 9000 }))
    const run = await cli(argv, { http, simulation })
    expect(run.code).toBe(0)
    expect(http.posted.map(({ body }) => body).join('')).toBe('line 0\nline 1\nline 2\nline 3\n')
    const again = await cli(argv, { http, simulation })
    expect(again.code).toBe(0)
    expect(http.posted).toHaveLength(1)
  })

  test('a second replay that is meant is not taken for a repeat', async () => {
    const http = spaced([0])
    await cli([...flags, '--execute'], { http, simulation: simulate({ seed: 1 }) })
    await cli([...flags, '--execute'], { http, simulation: simulate({ seed: 2 }) })
    expect(http.posted).toHaveLength(2)
  })

  test('a collector that refuses the lines is exit code 5', async () => {
    const http = spaced([0])
    http.intercept = (request) => (request.method === 'POST' ? error(403, 'FORBIDDEN', 'read only') : undefined)
    expect(await cli([...flags, '--execute'], { http })).toMatchObject({ code: 5, stderr: expect.stringContaining('read only') })
  })

  test('a busy collector is asked again', async () => {
    const http = spaced([0])
    let refusals = 3
    http.intercept = (request) => (request.method === 'POST' && refusals-- > 0 ? error(429, 'THROTTLED', 'busy') : undefined)
    const run = await timed([...flags, '--execute'], { http, simulation: simulate() })
    expect(run.code).toBe(0)
    expect(http.posted).toHaveLength(1)
  })
})

describe('into a file', () => {
  const flags = ['replay', '-t', 'app', '--to', 'file:/b/out.log', '--speed', 'max', '--checkpoint', '/a/r.ckpt']

  test('an existing file is never overwritten', async () => {
    const simulation = simulate()
    simulation.fs.putFile('/out.log', Buffer.from('precious'))
    expect((await cli(['replay', '-t', 'app', '--to', 'file:/out.log', '--speed', 'max'], { http: spaced([0]), simulation })).code).toBe(5)
    expect(simulation.fs.getFile('/out.log')?.toString()).toBe('precious')
  })

  test('a resumed replay has every line once, wherever the power went', async () => {
    const lines = Array.from({ length: 2100 }, (_, index) => `line ${index}`)
    const whole = lines.map((line) => `${line}\n`).join('')
    const http = new FakeCollector(zstd)
    http.store(sealedBatch({ zstd, lines, timestampMs: T0 }))
    let deaths = 0
    for (let lifetime = 1; ; lifetime += 1) {
      const simulation = simulate({ seed: lifetime })
      await simulation.fs.makeDirectory('/a')
      await simulation.fs.makeDirectory('/b')
      await simulation.fs.syncDirectory('/')
      let calls = 0
      simulation.fs.inject = ({ kind }) => (kind !== 'read' && kind !== 'open' && ++calls > lifetime ? { errno: 'EIO' } : undefined)
      const first = await cli(flags, { http, simulation })
      if (first.code === 0) break
      expect(first.code).toBe(5)
      deaths += 1
      simulation.fs.inject = undefined
      simulation.fs.crash({ seed: lifetime })
      expect(await cli(flags, { http, simulation })).toMatchObject({ code: 0 })
      expect(simulation.fs.getFile('/b/out.log')?.toString()).toBe(whole)
    }
    expect(deaths).toBeGreaterThan(15)
  })

  test('a checkpoint of another question is refused', async () => {
    const simulation = simulate()
    await simulation.fs.makeDirectory('/a')
    await simulation.fs.makeDirectory('/b')
    const http = spaced([0])
    expect((await cli(flags, { http, simulation })).code).toBe(0)
    expect((await cli([...flags, '--host', 'web-1'], { http, simulation })).code).toBe(2)
  })
})

test('nothing to replay is exit code 1, a topic that is not there 2', async () => {
  expect((await cli(['replay', '-t', 'app', 'absent'], { http: spaced([0]) })).code).toBe(1)
  expect((await cli(['replay', '-t', 'nope'], { http: spaced([0]) })).code).toBe(2)
})

test('what could not be read is told, exit code 3', async () => {
  const http = spaced([0])
  http.missing = [{ topic: 'app', partition: 0, fromOffset: 5, toOffset: 9, reason: 'damaged' }]
  expect(await cli(['replay', '-t', 'app', '--speed', 'max'], { http })).toMatchObject({ code: 3, stdout: 'line 0\n', stderr: expect.stringContaining('missing: app-0 offsets 5 to 9') })
})
