import { beforeAll, describe, expect, test } from 'vitest'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { plainBatch, sealedBatch } from '../../sealed-batch.ts'
import { error, FakeCollector } from './fake-collector.ts'
import { cli } from './run-cli.ts'

let zstd: Zstd
beforeAll(async () => {
  zstd = await loadZstd()
})

const T0 = Date.UTC(2026, 0, 1)

function collectorWith(lines: readonly (string | Buffer)[]): FakeCollector {
  const http = new FakeCollector(zstd)
  http.store(sealedBatch({ zstd, lines, timestampMs: T0 }))
  return http
}

function lastQuery(http: FakeCollector): URLSearchParams {
  return new URL(http.requests.at(-1)?.url ?? 'http://nothing').searchParams
}

describe('formats into a pipe', () => {
  const odd = Buffer.from([0x61, 0xff, 0x1b, 0x62])

  test('raw gives every byte of every line back', async () => {
    const run = await cli(['query', '-o', 'raw'], { http: collectorWith(['one', 'two \x1b[31m\r', odd, '']) })
    expect(run.code).toBe(0)
    expect(run.bytes).toEqual(Buffer.concat([Buffer.from('one\ntwo \x1b[31m\r\n'), odd, Buffer.from('\n\n')]))
  })

  test('text has time, host and path before the unchanged line', async () => {
    const run = await cli(['query', '--utc'], { http: collectorWith(['one', odd]) })
    expect(run.bytes).toEqual(
      Buffer.concat([Buffer.from('2026-01-01T00:00:00.000Z web-1:/var/log/app.log one\n2026-01-01T00:00:00.000Z web-1:/var/log/app.log '), odd, Buffer.from('\n')]),
    )
  })

  test('json is one object a line and nothing else', async () => {
    const run = await cli(['query', '-o', 'json'], { http: collectorWith(['one', odd]) })
    const rows = run.stdout.trimEnd().split('\n').map((line) => JSON.parse(line) as { line: string; offset: number; b64?: string })
    expect(rows.map(({ offset }) => offset)).toEqual([0, 1])
    expect(rows[0]).toMatchObject({ topic: 'app', host: 'web-1', path: '/var/log/app.log', line: 'one' })
    expect(Buffer.from(rows[1]?.b64 ?? '', 'base64')).toEqual(odd)
  })

  test('csv quotes what needs it and has a head', async () => {
    const run = await cli(['query', '-o', 'csv', '--utc'], { http: collectorWith(['say "hi", you', 'plain']) })
    expect(run.stdout).toBe(
      'ts,host,path,topic,partition,offset,line,b64\n' +
        '2026-01-01T00:00:00.000Z,web-1,/var/log/app.log,app,0,0,"say ""hi"", you",\n' +
        '2026-01-01T00:00:00.000Z,web-1,/var/log/app.log,app,0,1,plain,\n',
    )
  })

  test('logfmt quotes values with spaces', async () => {
    const run = await cli(['query', '-o', 'logfmt', '--utc'], { http: collectorWith(['a b="c"']) })
    expect(run.stdout).toBe('ts=2026-01-01T00:00:00.000Z host=web-1 path=/var/log/app.log topic=app partition=0 offset=0 line="a b=\\"c\\""\n')
  })

  test('a posted line, which has no host, is shown under its topic', async () => {
    const http = new FakeCollector(zstd)
    http.storeRaw(plainBatch({ zstd, lines: ['posted'], timestampMs: T0 }), { topic: 'web', partition: 0 })
    expect((await cli(['query', '--utc'], { http })).stdout).toBe('2026-01-01T00:00:00.000Z web posted\n')
  })
})

describe('on a terminal', () => {
  test.each(['text', 'raw', 'json', 'logfmt', 'csv'])('%s sends no control character of a line or a path', async (format) => {
    const http = new FakeCollector(zstd)
    http.store(sealedBatch({ zstd, lines: ['a\x1b[2Jb\u009b1m\u202e\r'], host: 'h\x1b[1m', path: '/p\x07' }))
    const run = await cli(['query', '-o', format], { http, isTty: true, env: { NO_COLOR: '1' } })
    expect(run.code).toBe(0)
    expect(run.stdout).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]/)
  })

  test('asks for the newest 1000 lines and says so when there were more', async () => {
    const http = collectorWith(Array.from({ length: 1001 }, (_, index) => `line ${index}`))
    const run = await cli(['query'], { http, isTty: true, env: { NO_COLOR: '1' } })
    expect(run.stdout.split('\n')).toHaveLength(1001)
    expect(run.stdout).not.toContain('line 0\n')
    expect(run.stderr).toContain('only the newest 1000 lines')
  })

  test('a server error with control characters is shown escaped', async () => {
    const http = new FakeCollector(zstd)
    http.intercept = () => error(400, 'INVALID_QUERY', 'bad \x1b]0;x\x07')
    const run = await cli(['query', 'x'], { http, isTty: true })
    expect(run.code).toBe(2)
    expect(run.stderr).toContain('bad \\x1b]0;x\\x07 (INVALID_QUERY)')
  })
})

describe('limits and filters become parameters', () => {
  test.each([
    [['-n', '5'], { last: '5' }],
    [['-n', '0'], {}],
    [['-n', '5', '-r'], { limit: '5', reverse: '1' }],
    [['-r', '-n', '0'], { reverse: '1' }],
    [['-C', '2'], { before: '2', after: '2' }],
    [['-C', '2', '-A', '5'], { before: '2', after: '5' }],
    [['-E', '-w', '-i', '-v'], { mode: 'regex', word: '1', ignoreCase: '1', invert: '1' }],
    [['-S', '2026-01-01', '-U', '2026-01-02', '--utc'], { since: String(T0), until: String(T0 + 86_400_000) }],
    [['--host', 'web-*', '--path', '/var/**', '-p', '3'], { host: 'web-*', path: '/var/**', partition: '3' }],
    [['--from', 'app:0@7'], { from: 'app:0@7' }],
  ])('%j', async (flags, expected) => {
    const http = collectorWith(['x'])
    await cli(['query', ...flags], { http })
    expect(Object.fromEntries(lastQuery(http))).toEqual(expected)
  })

  test('patterns from the operand and from -e are all sent, an empty one means none', async () => {
    const http = collectorWith(['x'])
    await cli(['query', 'a', '-e', 'b', '-e', '-c', '-t', 'app', '-t', 'web'], { http })
    expect(lastQuery(http).getAll('pattern')).toEqual(['a', 'b', '-c'])
    expect(lastQuery(http).getAll('topic')).toEqual(['app', 'web'])
    await cli(['query', ''], { http })
    expect(lastQuery(http).has('pattern')).toBe(false)
  })
})

describe('exit codes', () => {
  test('0 when a line was found, 1 when none was', async () => {
    const http = collectorWith(['needle'])
    expect((await cli(['query', 'needle'], { http })).code).toBe(0)
    expect(await cli(['query', 'absent'], { http })).toMatchObject({ code: 1, stdout: '', stderr: '' })
  })

  test('-c prints the count and tells by its code whether it is zero', async () => {
    const http = collectorWith(['a1', 'a2', 'b'])
    expect(await cli(['query', '-c', 'a'], { http })).toMatchObject({ code: 0, stdout: '2\n' })
    expect(await cli(['query', '-c', 'z'], { http })).toMatchObject({ code: 1, stdout: '0\n' })
  })

  test('-q prints nothing and stops at the first match', async () => {
    const http = collectorWith(['a', 'b'])
    expect(await cli(['query', '-q', 'a'], { http })).toMatchObject({ code: 0, stdout: '', stderr: '' })
    expect(lastQuery(http).get('limit')).toBe('1')
    expect((await cli(['query', '-q', 'z'], { http })).code).toBe(1)
  })

  test.each([
    [['query', '--no-such-flag']], [['no-such-command']], [['query', 'a', 'b']], [['query', '-S', 'soon']], [['query', '-n', 'x']],
    [['query', '-S', '14:00', '-U', '13:00']], [['query', '-o', 'xml']], [['query', '-f', '-r']], [['query', '--server', 'ftp://x']],
    [['query', '--server', 'http://user:pw@x']], [['cat']], [['cat', 'nocolon']], [['cat', 'a:b', '--stream', 'abcd']], [['topics', 'create']],
    [['topics', 'create', '../x']], [['topics', 'alter', 'app']], [['replay', '--to', 'mail:x']], [['replay', '--speed', '0']],
    [['inspect', 'x.txt']], [[]],
  ])('2 for usage: %j', async (argv) => {
    const run = await cli(argv, { http: collectorWith(['x']) })
    expect(run.code).toBe(2)
    expect(run.stdout).toBe('')
    expect(run.stderr).not.toBe('')
  })

  test('3 when something could not be read; the rest is printed', async () => {
    const http = collectorWith(['x'])
    http.missing = [{ topic: 'app', partition: 0, fromOffset: 5, toOffset: 9, reason: 'damaged' }]
    expect(await cli(['query', '-o', 'raw'], { http })).toMatchObject({ code: 3, stdout: 'x\n', stderr: 'missing: app-0 offsets 5 to 9: damaged\n' })
  })

  test('an answer that is cut off is never taken for the whole', async () => {
    const http = collectorWith(Array.from({ length: 50 }, (_, index) => `line ${index}`))
    const whole = await cli(['query', '-o', 'json'], { http })
    for (const cut of [whole.bytes.length, whole.bytes.length - 10, 0, whole.bytes.indexOf('\n') + 1]) {
      http.cutQueryAfter = cut
      const run = await cli(['query', '-o', 'json'], { http })
      expect(run.code).toBe(3)
      expect(run.stderr).toContain('cut off')
      expect(whole.stdout.startsWith(run.stdout)).toBe(true)
    }
  })

  test('4 when it cannot connect or is not allowed', async () => {
    expect((await cli(['query', 'x'])).code).toBe(4)
    const http = new FakeCollector(zstd)
    http.intercept = () => error(401, 'UNAUTHENTICATED', 'no token')
    expect(await cli(['query', 'x'], { http })).toMatchObject({ code: 4, stderr: expect.stringContaining('TAILRACE_TOKEN') })
  })

  test('130 when interrupted', async () => {
    const abort = new AbortController()
    const http = new FakeCollector(zstd)
    http.intercept = () => {
      abort.abort('interrupt')
      throw new Error('aborted')
    }
    expect((await cli(['query', 'x'], { http, signal: abort.signal })).code).toBe(130)
  })

  test('141, silently, when the reader of stdout is gone', async () => {
    const abort = new AbortController()
    const http = new FakeCollector(zstd)
    http.intercept = () => {
      abort.abort('pipe')
      throw new Error('aborted')
    }
    expect(await cli(['query', 'x'], { http, signal: abort.signal })).toMatchObject({ code: 141, stderr: '' })
  })
})

test('--stats tells the cost and the cursor on stderr', async () => {
  const run = await cli(['query', '--stats', '-o', 'raw'], { http: collectorWith(['x']) })
  expect(run.stdout).toBe('x\n')
  expect(run.stderr).toContain('1 matches')
  expect(run.stderr).toContain('cursor app:0@1')
})

test('help shows examples before options, on stdout, with code 0', async () => {
  const run = await cli(['query', '--help'])
  expect(run.code).toBe(0)
  expect(run.stdout.indexOf('Examples:')).toBeGreaterThan(0)
  expect(run.stdout.indexOf('Examples:')).toBeLessThan(run.stdout.indexOf('Options:'))
  expect(run.stdout).toContain('arrival time')
})

test('every command has help with an example', async () => {
  const program = await cli(['--help'])
  const names = [...program.stdout.matchAll(/^ {2}([a-z]+) {2,}/gm)].map(([, name]) => name ?? '')
  expect(names).toEqual(['query', 'tail', 'cat', 'verify', 'replay', 'topics', 'streams', 'offsets', 'exports', 'status', 'inspect'])
  for (const name of names) expect((await cli([name, '--help'])).stdout).toMatch(/Examples:\n {2}tailrace /)
})

test('the server comes from --server, else TAILRACE_SERVER, and the token from file or environment', async () => {
  const http = collectorWith(['x'])
  await cli(['query'], { http, env: { TAILRACE_SERVER: 'https://logs.example/base/', TAILRACE_TOKEN: 'abc' } })
  expect(http.requests.at(-1)?.url).toMatch(/^https:\/\/logs\.example\/base\/v1\/query/)
  expect(http.requests.at(-1)?.headers?.['authorization']).toBe('Bearer abc')
  expect((await cli(['query'], { http, env: { TAILRACE_TOKEN: 'a\r\nx: y' } })).code).toBe(2)
})

describe('--count-by', () => {
  function threeMinutes(): FakeCollector {
    const http = new FakeCollector(zstd)
    for (const [at, lines] of [['a', 'b', 'a'], ['b'], ['a']].entries()) http.storeRaw(plainBatch({ zstd, lines, timestampMs: T0 + at * 60_000 + 5 }), { topic: 'web', partition: 0 })
    return http
  }

  test.each([
    ['text', '2026-01-01T00:00:00.000Z 2\n2026-01-01T00:02:00.000Z 1\n'],
    ['csv', 'ts,count\n2026-01-01T00:00:00.000Z,2\n2026-01-01T00:02:00.000Z,1\n'],
    ['logfmt', 'ts=2026-01-01T00:00:00.000Z count=2\nts=2026-01-01T00:02:00.000Z count=1\n'],
    ['json', `{"ts":${T0},"count":2}\n{"ts":${T0 + 120_000},"count":1}\n`],
  ])('prints a line for each minute that has matches, as %s', async (format, wanted) => {
    const http = threeMinutes()
    const run = await cli(['query', 'a', '--count-by', 'minute', '--utc', '-o', format], { http })
    expect({ code: run.code, stdout: run.stdout, asked: lastQuery(http).get('countBy') }).toEqual({ code: 0, stdout: wanted, asked: 'minute' })
  })

  test('finds nothing with exit code 1, and goes with no option that chooses lines', async () => {
    expect((await cli(['query', 'zz', '--count-by', 'minute'], { http: threeMinutes() })).code).toBe(1)
    for (const option of [['-n', '3'], ['-r'], ['-c'], ['-f'], ['-C', '1']]) {
      const run = await cli(['query', '--count-by', 'minute', ...option], { http: threeMinutes() })
      expect({ option, code: run.code }).toEqual({ option, code: 2 })
      expect(run.stderr).toContain('--count-by and --')
    }
  })
})
