/** The CLI on an export store, with no collector: the store of a real exporter, read by its manifests alone. */
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { loadZstd, type Zstd } from '../../shared/zstd.ts'
import { sealedBatch, type SealedBatch } from '../sealed-batch.ts'
import { simulate } from '../sim-system.ts'
import { cli, type CliRun } from './cli/run-cli.ts'
import { openTieredRig, type TieredRig } from './export/tiered-rig.ts'
import { noise } from './storage/store-rig.ts'

let zstd: Zstd
let rig: TieredRig
let content: Buffer
let first: SealedBatch | undefined

beforeAll(async () => {
  zstd = await loadZstd()
})

/** Forty batches of two files in a few segments, all exported; the collector is gone then. */
beforeEach(async () => {
  rig = await openTieredRig({ zstd })
  content = Buffer.alloc(0)
  let app: SealedBatch | undefined
  let db: SealedBatch | undefined
  for (let count = 0; count < 20; count += 1) {
    app = sealedBatch({ zstd, lines: [`app ${count} ${noise(150, count + 1)}`, `second ${count}`], timestampMs: 1000 + count, ...(app === undefined ? {} : { previous: app }) })
    first ??= app
    db = sealedBatch({ zstd, lines: [`db ${count} ${noise(100, count + 99)}`], path: '/var/log/db.log', inode: 7n, timestampMs: 1000 + count, ...(db === undefined ? {} : { previous: db }) })
    for (const { topic, source, batch } of [app, db]) await rig.store.append({ topic, source, batch })
    content = app.sourceSoFar
  }
  await rig.exporter.exportNow()
  await rig.close()
})

function run(...argv: readonly string[]): Promise<CliRun> {
  const [command = '', ...rest] = argv
  return cli([command, '--from', 'file:///hdfs', ...rest], { simulation: simulate({ fs: rig.remoteDisk }) })
}

describe('with no collector, from a store', () => {
  test('cat rebuilds a file byte for byte', async () => {
    const { code, bytes, stderr } = await run('cat', 'web-1:/var/log/app.log')
    expect(stderr).toBe('')
    expect(code).toBe(0)
    expect(bytes.equals(content)).toBe(true)
  })

  test('query finds, counts, limits, and begins at a cursor', async () => {
    expect(await run('query', 'second', '-c')).toMatchObject({ code: 0, stdout: '20\n' })
    expect(await run('query', 'second', '-n', '2', '-o', 'raw')).toMatchObject({ code: 0, stdout: 'second 18\nsecond 19\n' })
    expect(await run('query', 'second', '--host', 'other-*')).toMatchObject({ code: 1, stdout: '' })
    const all = (await run('query', '-o', 'json')).stdout.trim().split('\n').map((line) => JSON.parse(line) as { partition: number; offset: number })
    const partition = all[0]?.partition ?? 0
    const end = Math.max(...all.filter((each) => each.partition === partition).map(({ offset }) => offset))
    const fromCursor = await run('query', '-p', String(partition), '--from', `app:${partition}@${end}`, '-c')
    expect(fromCursor).toMatchObject({ code: 0, stdout: '1\n' })
  })

  test('streams stand where they stood in the collector', async () => {
    const rows = JSON.parse((await run('streams', '--json')).stdout) as { path: string; position: number; records: number }[]
    expect(new Map(rows.map(({ path, records }) => [path, records]))).toEqual(new Map([['/var/log/app.log', 40], ['/var/log/db.log', 20]]))
    expect(rows.find(({ path }) => path.endsWith('app.log'))?.position).toBe(content.length)
  })

  test('verify checks every batch and chain, and replay gives the lines', async () => {
    expect(await run('verify', '--json')).toMatchObject({ code: 0 })
    const replayed = await run('replay', '--speed', 'max', '--path', '/var/log/app.log')
    expect(replayed.bytes.equals(content)).toBe(true)
  })

  test('a segment whose file is gone is told as missing, and the rest is given', async () => {
    const folder = (await rig.remoteDisk.list('/hdfs/raw/app')).map(({ name }) => name).sort()[0] ?? ''
    const log = (await rig.remoteDisk.list(`/hdfs/raw/app/${folder}`)).map(({ name }) => name).filter((name) => name.endsWith('.log')).sort()[0] ?? ''
    await rig.remoteDisk.remove(`/hdfs/raw/app/${folder}/${log}`)
    const { code, stderr, stdout } = await run('query', '-c')
    expect(code).toBe(3)
    expect(stderr).toContain('can not be read back')
    expect(Number(stdout)).toBeGreaterThan(0)
    expect(Number(stdout)).toBeLessThan(60)
  })

  test('a manifest that can not be read leaves its segment out, and its offsets are told as missing', async () => {
    const folder = (await rig.remoteDisk.list('/hdfs/raw/app')).map(({ name }) => name).sort()[0] ?? ''
    const names = (await rig.remoteDisk.list(`/hdfs/raw/app/${folder}`)).map(({ name }) => name).filter((name) => name.endsWith('.manifest.json')).sort()
    expect(names.length).toBeGreaterThan(2)
    const file = await rig.remoteDisk.open(`/hdfs/raw/app/${folder}/${names[1] ?? ''}`, 'truncateWrite')
    await file.write([Buffer.from('{')], 0)
    await file.close()
    expect(await run('query', '-c', '--from', `app:${folder.slice(2)}@0`)).toMatchObject({ code: 3 })
  })

  test('an empty folder, a URL that is none, and what makes no sense are told', async () => {
    const empty = await cli(['query', '--from', 'file:///nothing'], { simulation: simulate() })
    expect(empty).toMatchObject({ code: 1 })
    expect(empty.stderr).toContain('nothing is exported there')
    expect((await cli(['query', '--from', 'ftp://x/y'], { simulation: simulate() })).code).toBe(2)
    expect((await run('query', '-f')).code).toBe(2)
    expect((await run('replay', '--to', 'topic:other')).code).toBe(2)
    expect((await run('query', '--server', 'http://127.0.0.1:4280')).code).toBe(2)
    expect((await run('query', '--from', 'file:///other')).code).toBe(2)
  })
})
