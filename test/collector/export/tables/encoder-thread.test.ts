import { build } from 'esbuild'
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createInProcessEncoder, type EncoderHost } from '../../../../collector/export/tables/encoder-host.ts'
import { createEncoderThread } from '../../../../collector/export/tables/encoder-thread.ts'
import type { EncodeJob, EncodeOutput } from '../../../../collector/export/tables/table-encoder.ts'
import { loadZstd } from '../../../../shared/zstd.ts'
import { plainBatch } from '../../../sealed-batch.ts'
import { simulate } from '../../../sim-system.ts'
import { codeOf } from '../remote-store-contract.ts'

const root = fileURLToPath(new URL('../../../..', import.meta.url))
const job: EncodeJob = { topic: 'app', partition: 0, format: 'parquet', scannedOffset: 0, hourLimit: 0, dueHourLimit: null }
let folder = ''

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tailrace-table-worker-'))
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  await writeFile(join(folder, 'dying.js'), `import { parentPort } from 'node:worker_threads'\nparentPort.on('message', () => { throw new Error('planted') })\n`)
  await build({
    absWorkingDir: root, entryPoints: ['collector/export/tables/table-worker.ts'], outfile: join(folder, 'table-worker.js'), bundle: true, platform: 'node',
    target: 'node20.19', format: 'esm', external: ['@node-rs/crc32', 'zstd-codec'], logLevel: 'silent',
    banner: { js: `import { createRequire as r } from 'node:module'\nconst require = r(import.meta.url)` },
  })
})

afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
})

async function encode(host: EncoderHost, batches: readonly Buffer[]): Promise<EncodeOutput[]> {
  const encoding = host.begin(job)
  const outputs: EncodeOutput[] = []
  for (const batch of batches) outputs.push(await encoding.add({ batches: Uint8Array.from(batch), lastAppendMs: null }))
  outputs.push(await encoding.finish())
  return outputs
}

function bytesOf(outputs: readonly EncodeOutput[]): Buffer {
  return Buffer.concat(outputs.flatMap(({ pieces }) => pieces.map(({ bytes }) => bytes)))
}

test('a worker thread makes the same files as this thread, one encoding after another', { timeout: 30_000 }, async () => {
  const zstd = await loadZstd()
  const batches = [1, 2, 3].map((seed) => plainBatch({ zstd, lines: [`line ${seed}`, 'and another'] }))
  const thread = createEncoderThread({ entry: pathToFileURL(join(folder, 'table-worker.js')), log: simulate().log })
  const here = await encode(createInProcessEncoder(zstd), batches)
  for (const round of [1, 2]) {
    const there = await encode(thread, batches)
    expect(bytesOf(there).equals(bytesOf(here)), `round ${round}`).toBe(true)
    expect(there.flatMap(({ finished }) => finished)).toEqual(here.flatMap(({ finished }) => finished))
  }
  // What is no batch fails its encoding only.
  expect(await codeOf(thread.begin(job).add({ batches: new Uint8Array(100), lastAppendMs: null }))).toBe('CORRUPT_MESSAGE')
  expect(bytesOf(await encode(thread, batches)).equals(bytesOf(here))).toBe(true)
  await thread.close()
  expect(await codeOf(thread.begin(job).finish())).toBe('ABORTED')
})

test('a thread that dies fails its encoding, and the next one has a new thread', { timeout: 30_000 }, async () => {
  const { log } = simulate()
  const thread = createEncoderThread({ entry: pathToFileURL(join(folder, 'dying.js')), log })
  for (let death = 0; death < 3; death += 1) expect(await codeOf(thread.begin(job).finish())).toBe('INTERNAL')
  expect(log.events('error')).toEqual(['the table worker died', 'the table worker died', 'the table worker died'])
  await thread.close()
})
