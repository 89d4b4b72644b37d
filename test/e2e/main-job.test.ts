/**
 * The main job with real processes: what was written to files comes back byte for byte from `tailrace cat` and from the
 * exported segments, also when agent or collector are killed on the way.
 */
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { appendFile, copyFile, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import * as v from 'valibot'
import { afterEach, describe, expect, test } from 'vitest'
import { decodeRecords, hasValidCrc, peekBatchSize, readSourceHeader, RecordCursor } from '../../shared/record-batch.ts'
import { exportsResponseSchema, topicsResponseSchema, wireLimits } from '../../shared/wire.ts'
import { loadZstd } from '../../shared/zstd.ts'
import { writeAccessLog } from '../access-log.ts'
import { freePort, getJson, run, sha256Of, sha256OfFile, start, startCollector, temporaryFolder, until, type Running } from './processes.ts'

const loghub = new URL('../../../shared/data/loghub/', import.meta.url).pathname
const host = hostname()
const cleanUps: Array<() => Promise<unknown>> = []

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

async function folder(): Promise<string> {
  const made = await temporaryFolder()
  cleanUps.push(made.remove)
  return made.path
}

function stopLater<R extends Running>(running: R): R {
  cleanUps.push(() => running.kill('SIGKILL'))
  return running
}

async function ship(url: string, files: readonly string[], extra: readonly string[] = []): Promise<void> {
  const done = await run('tailrace-agent', ['run', '--once', '--collector', url, '--topic', 'app', '--admin', 'off', ...extra, ...files], { timeoutMs: 180_000 })
  expect(done.stderr + done.stdout.toString(), 'agent --once').not.toMatch(/BUG/)
  expect(done.code, done.stderr).toBe(0)
}

async function catHash(url: string, path: string): Promise<string> {
  const out = await run('tailrace', ['cat', '--server', url, `${host}:${path}`], { timeoutMs: 120_000 })
  expect(out.code, out.stderr).toBe(0)
  return sha256Of(out.stdout)
}

/** SHA-256 per source path, from nothing but the exported raw segments. */
async function hashesFromExport(root: string): Promise<Map<string, string>> {
  const zstd = await loadZstd()
  const pieces = new Map<string, Array<{ start: number; bytes: Buffer }>>()
  const names = (await readdir(join(root, 'raw'), { recursive: true })).filter((name) => name.endsWith('.log'))
  for (const name of names) {
    const log = await readFile(join(root, 'raw', name))
    for (let at = 0; at < log.length; ) {
      const batch = log.subarray(at, at + (peekBatchSize(log, at) ?? 0))
      expect(hasValidCrc(batch)).toBe(true)
      const source = readSourceHeader(batch, zstd, wireLimits.batchContentBytesMax)
      expect(source).toBeDefined()
      const of = pieces.get(source?.path ?? '') ?? []
      of.push({ start: source?.start ?? -1, bytes: sourceBytes(decodeRecords(batch, zstd, wireLimits.batchContentBytesMax)) })
      pieces.set(source?.path ?? '', of)
      at += batch.length
    }
  }
  const hashes = new Map<string, string>()
  for (const [path, parts] of pieces) {
    parts.sort((a, b) => a.start - b.start)
    let position = 0
    for (const part of parts) {
      expect(part.start, `${path} has no gap and no overlap`).toBe(position)
      position += part.bytes.length
    }
    hashes.set(path, sha256Of(Buffer.concat(parts.map((part) => part.bytes))))
  }
  return hashes
}

function sourceBytes(raw: Buffer): Buffer {
  const cursor = new RecordCursor(raw)
  const pieces: Buffer[] = []
  while (cursor.next()) {
    pieces.push(raw.subarray(cursor.valueStart, cursor.valueEnd))
    if (cursor.mark() === 'newline') pieces.push(Buffer.from('\n'))
  }
  return Buffer.concat(pieces)
}

async function recordsStored(url: string): Promise<number> {
  const { topics } = v.parse(topicsResponseSchema, await getJson(`${url}/v1/topics`))
  return topics.flatMap((topic) => topic.partitions).reduce((sum, partition) => sum + partition.highWatermark, 0)
}

async function verify(url: string): Promise<void> {
  const out = await run('tailrace', ['verify', '--server', url], { timeoutMs: 120_000 })
  expect(out.code, out.stdout.toString() + out.stderr).toBe(0)
}

test.skipIf(!existsSync(loghub))('every loghub file, a file of random bytes and odd files come back byte for byte, also from the export', async () => {
  const work = await folder()
  const logs = join(work, 'logs')
  await mkdir(logs)
  for (const name of readdirSync(loghub).filter((name) => name.endsWith('.log'))) await copyFile(join(loghub, name), join(logs, name))
  await writeFile(join(logs, 'random.log'), randomBytes(3_000_000))
  await writeFile(join(logs, 'one-long-line.log'), randomBytes(2_000_000).toString('hex'))
  await writeFile(join(logs, 'crlf.log'), 'a\r\nb\r\n\r\n\n\0\0\nlast without newline \xff\xfe')
  await writeFile(join(logs, 'empty.log'), '')
  await writeFile(join(logs, 'newlines.log'), '\n'.repeat(1000))
  const collector = stopLater(await startCollector({ data: join(work, 'data'), args: ['--export-to', `file://${work}/hdfs`, '--segment-bytes', '1MiB'] }))
  await ship(collector.url, [`${logs}/*.log`])

  const expected = new Map<string, string>()
  for (const name of await readdir(logs)) {
    if ((await stat(join(logs, name))).size > 0) expected.set(join(logs, name), await sha256OfFile(join(logs, name)))
  }
  for (const [path, hash] of expected) expect(await catHash(collector.url, path), path).toBe(hash)
  await verify(collector.url)
  // Shipping again ships nothing: the collector knows every position.
  const before = await recordsStored(collector.url)
  await ship(collector.url, [`${logs}/*.log`])
  expect(await recordsStored(collector.url)).toBe(before)

  // The rest of the active segments goes out by age.
  expect(await collector.kill('SIGTERM')).toBe(0)
  const again = stopLater(await startCollector({ data: join(work, 'data'), args: ['--export-to', `file://${work}/hdfs`, '--segment-age', '1s'] }))
  await until('all segments are exported', async () => {
    const { exports } = v.parse(exportsResponseSchema, await getJson(`${again.url}/v1/exports`))
    return exports.length > 0 && exports.every((partition) => partition.exportedOffset === partition.logEndOffset)
  })
  expect(await hashesFromExport(join(work, 'hdfs'))).toEqual(expected)
  await verify(again.url)
}, 240_000)

test('a 300 MB access log comes back with the same SHA-256', async () => {
  const work = await folder()
  const log = join(work, 'access.log')
  const { lines } = await writeAccessLog({ path: log, bytes: 300_000_000, seed: 1 })
  const collector = stopLater(await startCollector({ data: join(work, 'data') }))
  await ship(collector.url, [log])
  expect(await recordsStored(collector.url)).toBe(lines)
  expect(await catHash(collector.url, log)).toBe(await sha256OfFile(log))
}, 240_000)

describe('kill -9', () => {
  test('of the agent, again and again while a file grows and is rotated, loses and doubles nothing', async () => {
    const work = await folder()
    const logs = join(work, 'logs')
    await mkdir(logs)
    const collector = stopLater(await startCollector({ data: join(work, 'data') }))
    const args = ['run', '--collector', collector.url, '--topic', 'app', '--admin', 'off', '--unterminated-after', '1s', `${logs}/*.log`]
    let written = 0
    for (let round = 0; round < 6; round += 1) {
      const agent = stopLater(start('tailrace-agent', args))
      for (let piece = 0; piece < 20; piece += 1) {
        const lines = Array.from({ length: 500 }, () => `line ${String((written += 1)).padStart(9, '0')} ${'x'.repeat(written % 90)}\n`)
        await appendFile(join(logs, `app-${round % 2}.log`), lines.join(''))
      }
      await until('the agent ships something', async () => (await recordsStored(collector.url)) > round * 3_000)
      await agent.kill('SIGKILL')
    }
    await ship(collector.url, [`${logs}/*.log`])
    expect(await recordsStored(collector.url)).toBe(written)
    for (const name of await readdir(logs)) expect(await catHash(collector.url, join(logs, name))).toBe(await sha256OfFile(join(logs, name)))
    await verify(collector.url)
  }, 120_000)

  test('of the collector while an agent ships loses and doubles nothing', async () => {
    const work = await folder()
    const log = join(work, 'access.log')
    const { lines } = await writeAccessLog({ path: log, bytes: 60_000_000, seed: 2 })
    const port = await freePort()
    const data = join(work, 'data')
    let collector = stopLater(await startCollector({ data, port }))
    const agent = stopLater(start('tailrace-agent', ['run', '--collector', collector.url, '--topic', 'app', '--admin', 'off', log]))
    for (let round = 1; round <= 3; round += 1) {
      await until('some of it is stored', async () => (await recordsStored(collector.url)) > (lines * round) / 8)
      await collector.kill('SIGKILL')
      collector = stopLater(await startCollector({ data, port }))
    }
    await until('all of it is stored', async () => (await recordsStored(collector.url)) >= lines)
    expect(await agent.kill('SIGTERM')).toBe(0)
    expect(await recordsStored(collector.url)).toBe(lines)
    expect(await catHash(collector.url, log)).toBe(await sha256OfFile(log))
    await verify(collector.url)
  }, 120_000)
})

test('a line without newline is shipped after unterminatedAfter, and the file goes on behind it', async () => {
  const work = await folder()
  const log = join(work, 'app.log')
  await writeFile(log, 'first\nsecond, unfinished')
  const collector = stopLater(await startCollector({ data: join(work, 'data') }))
  stopLater(start('tailrace-agent', ['run', '--collector', collector.url, '--topic', 'app', '--admin', 'off', '--unterminated-after', '500ms', log]))
  await until('the unfinished line is there', async () => (await recordsStored(collector.url)) === 2)
  await appendFile(log, ' and its end\nthird\n')
  await until('the rest is there', async () => (await recordsStored(collector.url)) === 4)
  expect(await catHash(collector.url, log)).toBe(await sha256OfFile(log))
}, 60_000)

test('query finds a line just written, and a follow shows the next one', async () => {
  const work = await folder()
  const log = join(work, 'app.log')
  await writeFile(log, 'started\nneedle one\n')
  const collector = stopLater(await startCollector({ data: join(work, 'data') }))
  stopLater(start('tailrace-agent', ['run', '--collector', collector.url, '--topic', 'app', '--admin', 'off', log]))
  await until('query finds it', async () => (await run('tailrace', ['query', '--server', collector.url, '-t', 'app', 'needle'])).code === 0)
  const found = await run('tailrace', ['query', '--server', collector.url, '-o', 'raw', 'needle'])
  expect(found.stdout.toString()).toBe('needle one\n')
  expect((await run('tailrace', ['query', '--server', collector.url, 'absent'])).code).toBe(1)
  expect((await run('tailrace', ['query', '--server', 'http://127.0.0.1:9', 'absent'])).code).toBe(4)
  expect((await run('tailrace', ['query', '--no-such-flag'])).code).toBe(2)
  const answer = await fetch(`${collector.url}/v1/topics/web/lines`, { method: 'POST', body: 'one\ntwo\n', headers: { 'content-type': 'text/plain' } })
  expect(answer.status).toBe(200)
  const lines = await run('tailrace', ['query', '--server', collector.url, '-t', 'web', '-o', 'raw'])
  expect(lines.stdout.toString()).toBe('one\ntwo\n')
}, 60_000)
