import { beforeAll, expect, test } from 'vitest'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { sealedBatch } from '../../sealed-batch.ts'
import { simulate } from '../../sim-system.ts'
import { FakeCollector } from './fake-collector.ts'
import { cli, type CliRun } from './run-cli.ts'

let zstd: Zstd
beforeAll(async () => {
  zstd = await loadZstd()
})

function event(id: string, line: string): string {
  return `id: ${id}\ndata: ${JSON.stringify({ topic: 'app', partition: 0, offset: 1, ts: 1, host: 'h', path: '/p', line })}\n\n`
}

function tails(http: FakeCollector): URLSearchParams[] {
  return http.requests.filter(({ url }) => url.includes('/v1/tail')).map(({ url }) => new URL(url).searchParams)
}

/** Lets virtual time pass until the command is done. */
async function follow(argv: readonly string[], http: FakeCollector): Promise<CliRun> {
  const simulation = simulate()
  let done: CliRun | undefined
  const run = cli(argv, { http, simulation }).then((result) => {
    done = result
    return result
  })
  for (let turn = 0; turn < 100 && done === undefined; turn += 1) await simulation.clock.advance(1000)
  return run
}

test('tail begins with the newest ten lines and goes on', async () => {
  const http = new FakeCollector(zstd)
  http.tails = [`: hello\n\n${event('app:0@1', 'one')}${event('app:0@2', 'two')}`]
  const run = await follow(['tail', '-t', 'app', '-o', 'raw'], http)
  expect(run.stdout).toBe('one\ntwo\n')
  expect(Object.fromEntries(tails(http)[0] ?? [])).toEqual({ topic: 'app', last: '10' })
})

test('a lost connection is made again behind the last printed line, without asking for old lines again', async () => {
  const http = new FakeCollector(zstd)
  http.tails = [event('app:0@1', 'one'), `${event('app:0@2', 'two')}id: app:0@3\ndata: {"cut`, event('app:0@3', 'three')]
  const run = await follow(['tail', '-o', 'raw'], http)
  expect(run.stdout).toBe('one\ntwo\nthree\n')
  const heads = http.requests.filter(({ url }) => url.includes('/v1/tail')).map(({ headers }) => headers?.['last-event-id'])
  expect(heads).toEqual([undefined, 'app:0@1', 'app:0@2', 'app:0@3'])
  expect(tails(http).slice(1).every((query) => !query.has('last'))).toBe(true)
  // The fourth connection was refused for good.
  expect(run.code).toBe(4)
})

test('with -S what was there comes first, and the tail takes up the cursor of that query', async () => {
  const http = new FakeCollector(zstd)
  http.store(sealedBatch({ zstd, lines: ['old'] }))
  http.tails = [event('app:0@2', 'new')]
  const run = await follow(['query', '-f', '-S', '2025-01-01', '-o', 'raw'], http)
  expect(run.stdout).toBe('old\nnew\n')
  expect(Object.fromEntries(tails(http)[0] ?? [])).toEqual({ from: 'app:0@1' })
})

test('when the first connection fails it does not try again', async () => {
  const run = await cli(['tail'])
  expect(run.code).toBe(4)
})

test('what the server could not read is told', async () => {
  const http = new FakeCollector(zstd)
  http.tails = [`event: missing\ndata: {"topic":"app"}\n\n${event('app:0@9', 'x')}`]
  const run = await follow(['tail', '-o', 'raw'], http)
  expect(run.stdout).toBe('x\n')
  expect(run.stderr).toContain('missing: {"topic":"app"}')
})
