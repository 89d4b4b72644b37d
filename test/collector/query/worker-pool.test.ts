import { build } from 'esbuild'
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseQuery } from '../../../collector/query/parse-query.ts'
import { QueryEngine } from '../../../collector/query/query-engine.ts'
import { createWorkerPool } from '../../../collector/query/worker-pool.ts'
import { loadZstd } from '../../../shared/zstd.ts'
import { simulate } from '../../sim-system.ts'
import { ask, engineOn, fillLog, parseAnswer, type TestBatch } from './query-fixture.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
let folder = ''

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tailrace-worker-'))
  // The bundle finds the packages that it leaves outside as the built programs do: in the project's node_modules.
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  await writeFile(join(folder, 'dying.js'), `import { parentPort } from 'node:worker_threads'\nparentPort.on('message', () => { throw new Error('planted') })\n`)
  await build({
    absWorkingDir: root, entryPoints: ['collector/query/scan-worker.ts'], outfile: join(folder, 'scan-worker.js'), bundle: true, platform: 'node',
    target: 'node20.19', format: 'esm', external: ['@node-rs/crc32', 'zstd-codec'], logLevel: 'silent',
    banner: { js: `import { createRequire as r } from 'node:module'\nconst require = r(import.meta.url)` },
  })
})

afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
})

const batches: readonly TestBatch[] = Array.from({ length: 30 }, (_, at) => ({
  topic: 'app', partition: at % 3, key: `web-${at % 3}:/a.log`, records: Array.from({ length: 40 }, (_row, row) => ({ line: `line ${at} ${row}`, ts: at })),
}))

describe('the worker pool', () => {
  test('gives the same answers as a scan in this thread', async () => {
    const zstd = await loadZstd()
    const { log } = await fillLog(batches, zstd)
    const { system } = simulate()
    const executor = createWorkerPool({ entry: pathToFileURL(join(folder, 'scan-worker.js')), size: 2, log: system.log })
    const engine = new QueryEngine({ log, executor, clock: system.clock })
    for (const parameters of ['', 'pattern=7&before=2&after=1', 'mode=regex&pattern=1%5B0-3%5D+3%24', 'last=25', 'count=1&pattern=2&host=web-1', 'reverse=1&limit=9']) {
      const mine = await ask(engineOn(log, zstd), parameters)
      const theirs = await ask(engine, parameters)
      expect(theirs.rows).toEqual(mine.rows)
      expect(theirs.end.matched).toBe(mine.end.matched)
    }
    await executor.close()
  })

  test('drops the scans of a query that was cancelled', async () => {
    const { log } = await fillLog(batches, await loadZstd())
    const { system } = simulate()
    const executor = createWorkerPool({ entry: pathToFileURL(join(folder, 'scan-worker.js')), size: 1, log: system.log })
    const engine = new QueryEngine({ log, executor, clock: system.clock })
    const stop = new AbortController()
    const answer = engine.answer(await engine.prepare(parseQuery(new URLSearchParams('pattern=line'))), stop.signal)
    const first = answer.next()
    stop.abort()
    await expect(first).rejects.toMatchObject({ code: 'ABORTED' })
    await executor.close()
  })

  test('names what a dying worker left unread, and refuses once they keep dying', async () => {
    const { log } = await fillLog(batches, await loadZstd())
    const { system, log: lines } = simulate()
    const executor = createWorkerPool({ entry: pathToFileURL(join(folder, 'dying.js')), size: 1, log: system.log })
    const engine = new QueryEngine({ log, executor, clock: system.clock })
    for (let round = 0; round < 3; round += 1) {
      const pieces: Uint8Array[] = []
      for await (const piece of engine.answer(await engine.prepare(parseQuery(new URLSearchParams('pattern=line'))), new AbortController().signal)) pieces.push(piece)
      const { rows, end } = parseAnswer(Buffer.concat(pieces))
      expect(rows).toEqual([])
      expect(end.missing.map(({ partition, fromOffset, toOffset }) => [partition, fromOffset, toOffset])).toEqual([[0, 0, 400], [1, 0, 400], [2, 0, 400]])
    }
    expect(lines.lines.filter(({ event }) => event === 'scan worker died').length).toBe(5)
    await executor.close()
  })
})
