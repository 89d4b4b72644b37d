import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { sealedBatch, type SealedBatch } from '../../sealed-batch.ts'
import { simulate } from '../../sim-system.ts'
import { FakeCollector } from './fake-collector.ts'
import { cli } from './run-cli.ts'

let zstd: Zstd
beforeAll(async () => {
  zstd = await loadZstd()
})

/** Stores the pieces as batches of one stream and answers the last one. */
function storeFile(http: FakeCollector, pieces: readonly Buffer[], options: Partial<Parameters<typeof sealedBatch>[0]> = {}): SealedBatch {
  let previous: SealedBatch | undefined
  for (const source of pieces) {
    previous = sealedBatch({ zstd, source, ...options, ...(previous === undefined ? {} : { previous }) })
    http.store(previous)
  }
  if (previous === undefined) throw new Error('no pieces')
  return previous
}

test('any bytes, cut into any batches, come back byte for byte', async () => {
  const piece = fc.uint8Array({ minLength: 1, maxLength: 200 }).map((bytes) => Buffer.from(bytes))
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { minLength: 1, maxLength: 8 }), async (pieces) => {
      const http = new FakeCollector(zstd)
      // Every piece but the last ends as an agent's batch does: behind a newline, or with an eof record.
      storeFile(http, pieces)
      const run = await cli(['cat', 'web-1:/var/log/app.log'], { http })
      expect(run.stderr).toBe('')
      expect(run.code).toBe(0)
      expect(run.bytes).toEqual(Buffer.concat(pieces))
    }),
    { numRuns: 60 },
  )
})

test('a file of more than the tail window, in batches larger and smaller than it, passes every tail hash', async () => {
  const http = new FakeCollector(zstd)
  const pieces = [70_000, 10, 30_000, 200_000, 1, 65_536].map((size, index) => Buffer.concat([Buffer.alloc(size, 0x61 + index), Buffer.from('\n')]))
  storeFile(http, pieces)
  const run = await cli(['cat', 'web-1:/var/log/app.log'], { http })
  expect(run).toMatchObject({ code: 0, stderr: '' })
  expect(run.bytes).toEqual(Buffer.concat(pieces))
})

test('other streams in the partition are left out, also where the server does not filter', async () => {
  const http = new FakeCollector(zstd)
  const first = sealedBatch({ zstd, lines: ['mine 1'] })
  http.store(first)
  http.store(sealedBatch({ zstd, lines: ['other'], path: '/other.log', inode: 7n }))
  http.store(sealedBatch({ zstd, lines: ['mine 2'], previous: first }))
  expect((await cli(['cat', 'web-1:/var/log/app.log'], { http })).stdout).toBe('mine 1\nmine 2\n')
})

test('it stops at the position that the collector had when it began', async () => {
  const http = new FakeCollector(zstd)
  const first = sealedBatch({ zstd, lines: ['before'] })
  http.store(first)
  const info = [...http.streams.values()]
  http.store(sealedBatch({ zstd, lines: ['after'], previous: first }))
  for (const stream of info) http.streams.set(stream.id, stream)
  expect(await cli(['cat', 'web-1:/var/log/app.log'], { http })).toMatchObject({ code: 0, stdout: 'before\n' })
})

test('the newest generation is taken, and it is said that there are others; --all gives each in order', async () => {
  const http = new FakeCollector(zstd)
  const old = storeFile(http, [Buffer.from('old\n')])
  storeFile(http, [Buffer.from('new\n')], { generation: 1, supersedes: 0 })
  // The old one moved on under its rotated name.
  http.store(sealedBatch({ zstd, lines: ['late'], previous: old, path: '/var/log/app.log.1' }))
  const newest = await cli(['cat', 'web-1:/var/log/app.log'], { http })
  expect(newest).toMatchObject({ code: 0, stdout: 'new\n' })
  expect(newest.stderr).toContain('newest of 2 generations')
  expect((await cli(['cat', 'web-1:/var/log/app.log', '--all'], { http })).stdout).toBe('old\nlate\nnew\n')
  expect((await cli(['cat', 'web-1:/var/log/app.log.1'], { http })).stdout).toBe('old\nlate\n')
})

test('--stream takes the first digits of an id', async () => {
  const http = new FakeCollector(zstd)
  const sealed = storeFile(http, [Buffer.from('x\n')])
  const id = sealed.source.streamId.toString('hex')
  expect((await cli(['cat', '--stream', id.slice(0, 8)], { http })).stdout).toBe('x\n')
  expect((await cli(['cat', '--stream', id], { http })).stdout).toBe('x\n')
})

test('a file that nobody shipped is exit code 1', async () => {
  const run = await cli(['cat', 'web-1:/nope.log'], { http: new FakeCollector(zstd) })
  expect(run).toMatchObject({ code: 1, stdout: '' })
})

function threeBatches(): FakeCollector {
  const http = new FakeCollector(zstd)
  storeFile(http, [Buffer.from('one\n'), Buffer.from('two\n'), Buffer.from('three\n')])
  return http
}

test('a damaged batch is named with its range, the rest is printed, exit code 3', async () => {
  const http = threeBatches()
  const batch = http.log('app')[1]
  batch?.bytes.writeUInt8((batch.bytes.at(-1) ?? 0) ^ 1, batch.bytes.length - 1)
  const run = await cli(['cat', 'web-1:/var/log/app.log'], { http })
  expect(run).toMatchObject({ code: 3, stdout: 'one\nthree\n' })
  expect(run.stderr).toContain('batch at offset 1 is damaged: CRC-32C does not match')
  expect(run.stderr).toContain('bytes 4 to 8 are missing')
})

test('a batch that is not there is a hole, at the end as in the middle', async () => {
  const middle = threeBatches()
  middle.log('app').splice(1, 1)
  expect(await cli(['cat', 'web-1:/var/log/app.log'], { http: middle })).toMatchObject({ code: 3, stdout: 'one\nthree\n' })
  const end = threeBatches()
  end.log('app').splice(2, 1)
  const run = await cli(['cat', 'web-1:/var/log/app.log'], { http: end })
  expect(run).toMatchObject({ code: 3, stdout: 'one\ntwo\n' })
  expect(run.stderr).toContain('bytes 8 to 14 are missing')
})

test('bytes that are stored twice are written once and told', async () => {
  const http = new FakeCollector(zstd)
  const first = sealedBatch({ zstd, lines: ['one'] })
  http.store(first)
  http.store(first)
  http.store(sealedBatch({ zstd, lines: ['two'], previous: first }))
  const run = await cli(['cat', 'web-1:/var/log/app.log'], { http })
  expect(run).toMatchObject({ code: 3, stdout: 'one\ntwo\n' })
  expect(run.stderr).toContain('bytes 0 to 4 are stored twice')
})

test('what retention dropped is told as the byte at which the log begins', async () => {
  const http = threeBatches()
  http.dropBelow(1, 'app')
  const run = await cli(['cat', 'web-1:/var/log/app.log'], { http })
  expect(run).toMatchObject({ code: 3, stdout: 'two\nthree\n' })
  expect(run.stderr).toContain('the log begins at byte 4')
})

test('a batch that goes on from other bytes than the one before it is told', async () => {
  const http = new FakeCollector(zstd)
  const good = sealedBatch({ zstd, lines: ['same length'] })
  const other = sealedBatch({ zstd, lines: ['other bytes'] })
  http.store(good)
  http.store({ ...sealedBatch({ zstd, lines: ['next'], previous: other }), recordCount: 1 })
  const run = await cli(['cat', 'web-1:/var/log/app.log'], { http })
  expect(run.code).toBe(3)
  expect(run.stderr).toContain('tail hash at the start is not that of the batch before')
})

test('-o writes a whole file under its name, and nothing under it when the work fails', async () => {
  const simulation = simulate()
  await simulation.fs.makeDirectory('/out')
  await simulation.fs.syncDirectory('/')
  const run = await cli(['cat', 'web-1:/var/log/app.log', '-o', '/out/app.log'], { http: threeBatches(), simulation })
  expect(run).toMatchObject({ code: 0, stdout: '' })
  expect(simulation.fs.getFile('/out/app.log')?.toString()).toBe('one\ntwo\nthree\n')
  simulation.fs.crash()
  expect([...simulation.fs.files().keys()].filter((path) => path.startsWith('/out/'))).toEqual(['/out/app.log'])

  const broken = threeBatches()
  broken.intercept = (_request, url) => {
    if (url.pathname === '/v1/fetch' && url.searchParams.get('offset') === '2') throw new TypeError('bug')
    return undefined
  }
  await expect(cli(['cat', 'web-1:/var/log/app.log', '-o', '/out/second.log'], { http: broken, simulation })).rejects.toThrow('bug')
  expect(simulation.fs.getFile('/out/second.log')).toBeUndefined()
})

test('a full disk is exit code 5', async () => {
  const simulation = simulate({ capacityBytes: 4 })
  const run = await cli(['cat', 'web-1:/var/log/app.log', '-o', '/app.log'], { http: threeBatches(), simulation })
  expect(run.code).toBe(5)
})
