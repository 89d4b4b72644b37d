/**
 * The export on a real Hadoop, started here: the contract of the store (WebHDFS and HttpFS), a whole export, the way
 * back, and what real faults make of it. What the stand-in claims about Hadoop is only as good as the last run of this.
 */
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runCheckExport } from '../../collector/check-export.ts'
import { startCollector } from '../../collector/collector.ts'
import { collectorSettings, toCollectorConfig, type CollectorConfig } from '../../collector/config.ts'
import type { StoreOptions } from '../../collector/export/open-store.ts'
import { createInProcessExecutor } from '../../collector/query/in-process-executor.ts'
import { openStoreReader } from '../../collector/store-reader.ts'
import { bufferSource, type RemoteStore } from '../../collector/export/remote-store.ts'
import { parseSettings } from '../../shared/settings.ts'
import { createHttpClient } from '../../shared/node/http-client.ts'
import type { HttpClient } from '../../shared/system.ts'
import { loadZstd, type Zstd } from '../../shared/zstd.ts'
import { describeExport } from '../collector/export/export-contract.ts'
import { describeReadBack } from '../collector/export/read-back-contract.ts'
import { codeOf, describeRemoteStore, patterned, piecewise, sha256 } from '../collector/export/remote-store-contract.ts'
import { startCollector as startProcess, temporaryFolder, until } from '../e2e/processes.ts'
import { expectExported, exportAll, openStore, startExporting, system, type Exporting, type Strike } from './exporting.ts'
import { HdfsCluster } from './hdfs-cluster.ts'
import { reasonToSkip } from './java.ts'

const reason = reasonToSkip('HDFS', ['java', 'javac', 'mvn'])
const user = { userName: userInfo().username }
let cluster: HdfsCluster
let zstd: Zstd

afterAll(() => system.http.close())

describe.skipIf(reason !== undefined)('on a real HDFS', () => {
  beforeAll(async () => {
    zstd = await loadZstd()
    cluster = await HdfsCluster.start({ dataNodes: 3, hasHttpFs: true })
  })
  afterAll(() => cluster.stop())

  const servers: readonly { readonly name: string; readonly url: () => string; readonly options: StoreOptions }[] = [
    { name: 'WebHDFS', url: () => cluster.url('/contract-web'), options: user },
    { name: 'HttpFS', url: () => `${cluster.httpFsUrl}/contract-http`, options: { ...user, mode: 'httpfs' } },
  ]
  describe.each(servers)('the store over $name', ({ url, options }) => {
    describeRemoteStore(() => Promise.resolve({ store: openStore(url(), options) }))
    const newPlace = (): (() => RemoteStore) => {
      const place = `${url()}/${system.random.bytes(6).toString('hex')}`
      return () => openStore(place, options)
    }
    describeExport(newPlace)
    describeReadBack(newPlace)

    test('has the checksum of one block and of many that is computed here', async () => {
      const store = openStore(url(), options)
      await store.makeDirectories('checksums')
      for (const lengthBytes of [1, 511, 512, 513, 1024 * 1024, 2_500_000]) {
        const path = `checksums/${system.random.bytes(8).toString('hex')}`
        const bytes = patterned(lengthBytes)
        await store.put(path, piecewise(bytes))
        // A hash that can't be right: only the checksum of the store can make this `same`.
        const hasher = store.fingerprint(lengthBytes)
        hasher?.update(bytes)
        expect(await store.matches(path, { lengthBytes, sha256: '0'.repeat(64), fingerprint: hasher?.digest() ?? '', source: piecewise(bytes) })).toBe('same')
        expect(await store.matches(path, { lengthBytes, sha256: sha256(bytes), source: piecewise(bytes) })).toBe('same')
      }
    })

    test('does not take an upload that stopped in the middle for the same', async () => {
      const store = openStore(url(), options)
      const path = `contract/${system.random.bytes(8).toString('hex')}`
      await store.makeDirectories('contract')
      const bytes = patterned(8 * 1024 * 1024)
      const failing = {
        lengthBytes: bytes.length,
        open: async function* () {
          for (let at = 0; at < 5; at += 1) yield bytes.subarray(at << 20, (at + 1) << 20)
          throw new Error('the local disk failed')
        },
      }
      expect(await codeOf(store.put(path, failing))).not.toBe('none')
      expect(['length', 'missing']).toContain(await store.matches(path, { lengthBytes: bytes.length, sha256: sha256(bytes), source: bufferSource(bytes) }))
    })
  })

  test('check-export finds the way open, and tells a wrong user what is missing', async () => {
    const check = async (hdfsUser: string): Promise<string> => {
      const lines: string[] = []
      await runCheckExport(system, configOf({ data: '/nowhere', hdfs: cluster.url('/checked'), hdfsUser }), { transport: { http: system.http, streamingHttp: createHttpClient({ keepsConnections: false }) }, print: (line) => lines.push(line) })
      return lines.join('\n')
    }
    expect(await check(user.userName)).toContain('the export can work')
    expect(await check('nobody')).toMatch(/FAILED create a file[^]*AccessControlException[^]*check permissions/)
  })

  test('what a collector exported is read back, line by line, with no collector', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'tailrace-real-'))
    const url = cluster.url('/read-back')
    const transport = (): { http: HttpClient; streamingHttp: HttpClient } => ({ http: system.http, streamingHttp: createHttpClient({ keepsConnections: false }) })
    const config = configOf({ data: join(folder, 'data'), listen: '127.0.0.1:0', hdfs: url, hdfsUser: user.userName, partitions: '1', segmentBytes: '256KiB' })
    const collector = await startCollector(system, config, { zstd, executor: createInProcessExecutor(zstd), exportHttp: transport(), onFatal: (error) => expect(error).toBeUndefined() })
    const sent = createHash('sha256')
    for (let post = 0; post < 30; post += 1) {
      const lines = Array.from({ length: 1000 }, (_each, line) => `${post} ${line} ${system.random.bytes(30).toString('hex')}\n`).join('')
      sent.update(lines)
      await readAnswer(system.http, { method: 'POST', url: `${collector.url}/v1/topics/app/lines`, body: [Buffer.from(lines)] })
    }
    await collector.exportNow()
    await collector.close()
    const reader = await openStoreReader(system, { url, store: user, transport: transport(), zstd, signal: new AbortController().signal, onProgress: () => Promise.resolve() })
    const rows = (await readAnswer(reader, { method: 'GET', url: 'http://store/v1/query?topic=app' })).trimEnd().split('\n').map((line) => JSON.parse(line) as { line?: string; end?: { missing: unknown[] } })
    expect(rows.at(-1)?.end?.missing).toEqual([])
    const got = createHash('sha256')
    for (const { line } of rows.slice(0, -1)) got.update(`${line ?? ''}\n`)
    expect(rows).toHaveLength(30_001)
    expect(got.digest('hex')).toBe(sent.digest('hex'))
    await reader.close()
    await rm(folder, { recursive: true, force: true })
  })

  test("Hadoop's own shell reads each line of the tables once", async () => {
    const folder = await temporaryFolder()
    const collector = await startProcess({ data: join(folder.path, 'data'), args: ['--partitions', '2', '--hdfs', cluster.url('/tables-text'), '--hdfs-user', user.userName, '--tables', 'jsonl', '--log-level', 'warn'] })
    const sent: string[] = []
    for (let post = 0; post < 10; post += 1) {
      const lines = Array.from({ length: 500 }, (_each, line) => `${post} ${line} naïve "quoted" ${system.random.bytes(20).toString('hex')}`)
      sent.push(...lines)
      const { status } = await fetch(`${collector.url}/v1/topics/app/lines`, { method: 'POST', body: `${lines.join('\n')}\n` })
      expect(status).toBe(200)
    }
    // Until the store has answered the first time this is refused.
    await until('all is exported', async () => (await fetch(`${collector.url}/v1/exports`, { method: 'POST' })).ok)
    await collector.kill('SIGTERM')
    const rows = (await cluster.shell('-text', '/tables-text/tables/app/dt=*/hour=*/*.jsonl.gz')).trimEnd().split('\n').map((row) => JSON.parse(row) as { message: string })
    expect(rows.map(({ message }) => message).toSorted()).toEqual(sent.toSorted())
    await folder.remove()
  })

  async function addSegments(made: Exporting): Promise<void> {
    for (let partition = 0; partition < 2; partition += 1) {
      for (let count = 0; count < 3; count += 1) await made.segments.add('app', partition, { batches: 40, linesEach: 2000 })
    }
  }

  async function exporting(strike?: Strike): Promise<Exporting> {
    const made = await startExporting(cluster, { zstd, store: user, ...(strike === undefined ? {} : { strike }) })
    await addSegments(made)
    await made.exporter.start()
    return made
  }

  /** An exporter that owns its store and has nothing to do until something stands in its way. */
  async function exportingAgainst(obstacle: (root: string) => Promise<unknown>): Promise<Exporting> {
    const made = await startExporting(cluster, { zstd, store: user })
    await made.exporter.start()
    await obstacle(made.root)
    await addSegments(made)
    return made
  }

  test('segments come out byte for byte', async () => {
    const made = await exporting()
    await made.exporter.exportNow()
    expect(await made.store.list('_tmp')).toEqual([])
    await expectExported(cluster, made, [0, 1])
    await made.close()
  })

  test('a DataNode that is killed in the middle of an upload costs an attempt and nothing else', async () => {
    let killed: ReturnType<HdfsCluster['dataNodeAt']> | undefined
    const made = await exporting({
      at: 'upload',
      run: async (host) => {
        killed = cluster.dataNodeAt(host ?? '')
        await cluster.kill(killed)
      },
    })
    await exportAll(made, { withinMs: 90_000 })
    expect(killed).toBeDefined()
    await expectExported(cluster, made, [0, 1])
    if (killed !== undefined) await cluster.restart(killed)
    await cluster.waitReady(3)
    await made.close()
  })

  test('a NameNode that is killed in the middle of an upload, or at a rename, is waited for', async () => {
    for (const at of ['upload', 'rename'] as const) {
      const made = await exporting({ at, run: () => cluster.kill('nn1') })
      expect(await codeOf(made.exporter.exportNow())).not.toBe('none')
      await cluster.restart('nn1')
      await cluster.waitReady(3)
      await exportAll(made, { withinMs: 60_000 })
      await expectExported(cluster, made, [0, 1])
      await made.close()
    }
  })

  test('safe mode parks the export with its name, and ends with it', async () => {
    const made = await exportingAgainst(() => cluster.dfsAdmin('-safemode', 'enter'))
    try {
      expect(await codeOf(made.exporter.exportNow())).toBe('UNAVAILABLE')
      expect(made.exporter.status()[0]).toMatchObject({ state: 'parked', reason: expect.stringContaining('safe mode') as string })
    } finally {
      await cluster.dfsAdmin('-safemode', 'leave')
    }
    await exportAll(made, { withinMs: 30_000 })
    await expectExported(cluster, made, [0, 1])
    await made.close()
  })

  test('a quota parks the export and drops nothing; lifted, it goes on', async () => {
    const made = await exportingAgainst((root) => cluster.dfsAdmin('-setSpaceQuota', '2m', root))
    expect(await codeOf(made.exporter.exportNow())).toBe('REMOTE_REFUSED')
    expect(made.exporter.status().some(({ state, reason: why }) => state === 'parked' && why?.includes('Quota') === true)).toBe(true)
    expect(made.exporter.exportedOffset('app', 0)).toBe(0)
    await cluster.dfsAdmin('-clrSpaceQuota', made.root)
    await exportAll(made, { withinMs: 30_000 })
    await expectExported(cluster, made, [0, 1])
    await made.close()
  })
})

describe.skipIf(reason !== undefined)('on a real HDFS of the line before, 3.4', () => {
  let older: HdfsCluster

  beforeAll(async () => {
    zstd = await loadZstd()
    older = await HdfsCluster.start({ dataNodes: 1, hadoop: '3.4' })
  })
  afterAll(() => older.stop())

  describeRemoteStore(() => Promise.resolve({ store: openStore(older.url('/contract'), user) }))
  const newPlace = (): (() => RemoteStore) => {
    const place = older.url(`/place-${system.random.bytes(6).toString('hex')}`)
    return () => openStore(place, user)
  }
  describeExport(newPlace)
  describeReadBack(newPlace)

  test('segments come out byte for byte', async () => {
    const made = await startExporting(older, { zstd, store: user })
    for (let count = 0; count < 3; count += 1) await made.segments.add('app', 0, { batches: 20, linesEach: 500 })
    await made.exporter.start()
    await made.exporter.exportNow()
    await expectExported(older, made, [0])
    await made.close()
  })
})

describe.skipIf(reason !== undefined)('on a pair of NameNodes', () => {
  let pair: HdfsCluster

  beforeAll(async () => {
    zstd = await loadZstd()
    pair = await HdfsCluster.start({ dataNodes: 1, hasStandby: true })
  })
  afterAll(() => pair.stop())

  test('a failover between upload and rename, and one that kills, lose and double nothing', async () => {
    const strikes: readonly (() => Promise<void>)[] = [
      async () => {
        await pair.haAdmin('-failover', 'nn1', 'nn2')
      },
      async () => {
        await pair.kill('nn2')
        await pair.haAdmin('-failover', 'nn2', 'nn1')
      },
    ]
    for (const run of strikes) {
      const made = await startExporting(pair, { zstd, store: user, strike: { at: 'rename', run } })
      for (let count = 0; count < 3; count += 1) await made.segments.add('app', 0, { batches: 20, linesEach: 500 })
      await made.exporter.start()
      await exportAll(made, { withinMs: 90_000 })
      await expectExported(pair, made, [0])
      await made.close()
    }
  })
})

function configOf(flags: Readonly<Record<string, unknown>>): CollectorConfig {
  const parsed = toCollectorConfig(parseSettings(collectorSettings, { flags }))
  if ('problems' in parsed) throw new Error(JSON.stringify(parsed.problems))
  return parsed.config
}

async function readAnswer(http: HttpClient, request: Parameters<HttpClient['request']>[0]): Promise<string> {
  const response = await http.request(request)
  const pieces: Uint8Array[] = []
  for await (const piece of response.body) pieces.push(piece)
  const text = Buffer.concat(pieces).toString('utf8')
  if (response.status !== 200) throw new Error(`${response.status}: ${text}`)
  return text
}
