/** An exporter on a real store, with a disk of its own, and the judges of what it left there. */
import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { createExporter, type Exporter } from '../../collector/export/exporter.ts'
import { openJournal } from '../../collector/export/journal.ts'
import { segmentPath } from '../../collector/export/layout.ts'
import { openRemoteStore, type StoreOptions } from '../../collector/export/open-store.ts'
import type { ByteSource, RemoteStore } from '../../collector/export/remote-store.ts'
import { sweepQuietly } from '../../collector/export/sweep.ts'
import { createNodeSystem } from '../../shared/node-system.ts'
import { createHttpClient } from '../../shared/node/http-client.ts'
import type { FileSystem, HttpClient, System } from '../../shared/system.ts'
import type { Zstd } from '../../shared/zstd.ts'
import { SealedSegments } from '../collector/export/sealed-segments.ts'
import { simulate } from '../sim-system.ts'
import type { HdfsCluster } from './hdfs-cluster.ts'

export const system = createNodeSystem({ logLevel: 'error' })

/** Strikes once, in the middle of the first upload of a `.log`, or before the first rename of one. */
export interface Strike {
  readonly at: 'upload' | 'rename'
  readonly run: (dataNodeHost: string | undefined) => Promise<void>
}

export function openStore(url: string, options: StoreOptions, streamingHttp: HttpClient = createHttpClient({ keepsConnections: false })): RemoteStore {
  return openRemoteStore(url, options, { system, http: system.http, streamingHttp })
}

export interface Exporting {
  readonly segments: SealedSegments
  readonly exporter: Exporter
  readonly store: RemoteStore
  readonly root: string
  readonly close: () => Promise<void>
}

export interface ExportingOptions {
  readonly zstd: Zstd
  readonly store: StoreOptions
  readonly strike?: Strike
  readonly root?: string
  /** How long an upload may stand still, for tests that can't wait a minute. */
  readonly idleMs?: number
  /** Where an upload goes instead of to the DataNode that the NameNode named. */
  readonly detour?: (dataNodeHost: string) => string
}

export async function startExporting(cluster: HdfsCluster, options: ExportingOptions): Promise<Exporting> {
  const folder = await mkdtemp(join(tmpdir(), 'tailrace-real-'))
  const fs = below(system.fs, folder)
  const segments = new SealedSegments({ fs, zstd: options.zstd })
  const root = options.root ?? `/export-${system.random.bytes(6).toString('hex')}`
  let dataNodeHost: string | undefined
  const dataNodes = createHttpClient({ keepsConnections: false })
  const watched: HttpClient = {
    request: (request) => {
      if (request.method !== 'PUT') return dataNodes.request(request)
      const { hostname, host } = new URL(request.url)
      dataNodeHost = hostname
      const url = options.detour === undefined ? request.url : request.url.replace(host, options.detour(host))
      return dataNodes.request({ ...request, url, ...(options.idleMs === undefined ? {} : { headersTimeoutMs: options.idleMs }) })
    },
    close: () => dataNodes.close(),
  }
  const plain = openStore(cluster.url(root), options.store, watched)
  const store = options.strike === undefined ? plain : struck(plain, options.strike, () => dataNodeHost)
  const own: System = { ...system, fs }
  const exporter = createExporter(own, { log: segments.log, store, zstd: options.zstd, dataDir: '/data', startWaitMs: 30_000 })
  const close = async (): Promise<void> => {
    await exporter.close()
    await rm(folder, { recursive: true, force: true })
  }
  return { segments, exporter, store: plain, root, close }
}

function struck(store: RemoteStore, strike: Strike, dataNodeHost: () => string | undefined): RemoteStore {
  let isDone = false
  const isDue = (at: Strike['at'], path: string): boolean => {
    if (isDone || strike.at !== at || !path.endsWith('.log')) return false
    isDone = true
    return true
  }
  const inTheMiddle = (source: ByteSource): ByteSource => ({
    lengthBytes: source.lengthBytes,
    open: async function* () {
      let sent = 0
      let isStruck = false
      for await (const piece of source.open()) {
        for (const half of [piece.subarray(0, piece.length >> 1), piece.subarray(piece.length >> 1)]) {
          yield half
          sent += half.length
          if (isStruck || sent < source.lengthBytes / 2) continue
          isStruck = true
          // The first bytes have to be on their way: only then is it the middle.
          await sleep(100)
          await strike.run(dataNodeHost())
        }
      }
    },
  })
  return {
    description: store.description,
    put: (path, source, options) => store.put(path, isDue('upload', path) ? inTheMiddle(source) : source, options),
    rename: async (from, to) => {
      if (isDue('rename', to)) await strike.run(dataNodeHost())
      return store.rename(from, to)
    },
    stat: (path) => store.stat(path),
    remove: (path) => store.remove(path),
    makeDirectories: (path) => store.makeDirectories(path),
    read: (path, range) => store.read(path, range),
    list: (path) => store.list(path),
    fingerprint: (lengthBytes) => store.fingerprint(lengthBytes),
    matches: (path, expected) => store.matches(path, expected),
    close: () => store.close(),
  }
}

/** Again and again until all is exported; what it met on the way. */
export async function exportAll({ exporter }: Exporting, options: { withinMs: number }): Promise<readonly string[]> {
  const deadline = Date.now() + options.withinMs
  const met: string[] = []
  for (;;) {
    try {
      await exporter.exportNow()
      return met
    } catch (error) {
      met.push(error instanceof Error ? error.message : String(error))
      if (Date.now() > deadline) throw error
      await sleep(500)
    }
  }
}

/** Every segment once under its final name, byte for byte as Hadoop's own client reads it, and after the sweep nothing else. */
export async function expectExported(cluster: HdfsCluster, { segments, exporter, store, root }: Exporting, partitions: readonly number[]): Promise<void> {
  await sweepTomorrow(store)
  expect(await store.list('_tmp')).toEqual([])
  expect(await store.list('_quarantine')).toEqual([])
  const expected = partitions.flatMap((partition) => segments.log.segments('app', partition))
  const paths = expected.map(({ topic, partition, baseOffset, nextOffset }) => segmentPath({ topic, partition, baseOffset, nextOffset, epoch: segments.logEpoch }, 'log'))
  const listed = (await cluster.shell('-ls', '-R', `${root}/raw`)).split('\n').map((line) => line.trim().split(/\s+/).at(-1) ?? '')
  expect(listed.filter((path) => path.endsWith('.log')).toSorted()).toEqual(paths.map((path) => `${root}/${path}`).toSorted())
  expect(listed.filter((path) => path.endsWith('.manifest.json'))).toHaveLength(paths.length)
  const local = createHash('sha256')
  for (const { files } of expected) local.update(segments.contents.get(files.log) ?? Buffer.alloc(0))
  expect(await cluster.sha256Of(paths.map((path) => `${root}/${path}`))).toBe(local.digest('hex'))
  for await (const { result } of exporter.verify({ deep: true })) expect(result).toBe('ok')
}

/** What the sweep of tomorrow will do, when no upload is under way any more. */
export async function sweepTomorrow(store: RemoteStore): Promise<void> {
  const { system: simulated } = simulate()
  const clock = { ...simulated.clock, nowMs: () => Date.now() + 25 * 3_600_000 }
  await sweepQuietly({ clock, log: simulated.log }, { store, journal: await openJournal(simulated, '/empty'), liveTemps: new Set() })
}

/** The same file system with `/data` in a folder of the test. */
export function below(fs: FileSystem, folder: string): FileSystem {
  const at = (path: string): string => (path === '/' ? folder : `${folder}${path}`)
  return {
    ...fs,
    open: (path, mode) => fs.open(at(path), mode),
    stat: (path, options) => fs.stat(at(path), options),
    list: (path) => fs.list(at(path)),
    makeDirectory: (path) => fs.makeDirectory(at(path)),
    rename: (from, to) => fs.rename(at(from), at(to)),
    remove: (path) => fs.remove(at(path)),
    syncDirectory: (path) => fs.syncDirectory(at(path)),
  }
}
