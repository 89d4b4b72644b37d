/** A collector's log and exporter on a simulated disk that also holds the export folder, and disasters for its data folder. */
import { collectorSettings, toCollectorConfig, type CollectorConfig } from '../../collector/config.ts'
import { ExportedFiles } from '../../collector/export/exported-files.ts'
import { ExportedLog } from '../../collector/export/exported-log.ts'
import { createExporter, type Exporter } from '../../collector/export/exporter.ts'
import { createFileStore } from '../../collector/export/file-store.ts'
import { parseManifest, type Manifest } from '../../collector/export/manifest.ts'
import { parseSegmentPath } from '../../collector/export/layout.ts'
import { TieredLog } from '../../collector/export/tiered-log.ts'
import { runRestore } from '../../collector/restore.ts'
import { openTopicStore, type TopicStore } from '../../collector/storage/topic-store.ts'
import { parseSettings } from '../../shared/settings.ts'
import type { FileSystem } from '../../shared/system.ts'
import { wireLimits } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { SealedBatch } from '../sealed-batch.ts'
import type { SimFileSystem } from '../sim-fs.ts'
import { simulate, type Simulation } from '../sim-system.ts'

export const DATA = '/data'
const ROOT = '/hdfs'

export function restoreConfig(): CollectorConfig {
  const flags = { data: DATA, exportTo: `file://${ROOT}`, partitions: '1', segmentBytes: '64KiB' }
  const result = toCollectorConfig(parseSettings(collectorSettings, { flags }))
  if ('problems' in result) throw new Error(JSON.stringify(result.problems))
  return result.config
}

export interface Life {
  readonly store: TopicStore
  readonly exporter: Exporter
  readonly readable: TieredLog
  close(): Promise<void>
}

/** A process life, from start to `close`. */
export async function live(sim: Simulation, zstd: Zstd): Promise<Life> {
  const { topicDefaults } = restoreConfig()
  const store = await openTopicStore(sim.system, { dataDir: DATA, zstd, defaults: topicDefaults, batchContentBytesMax: wireLimits.batchContentBytesMax })
  const remote = createFileStore(sim.fs, ROOT)
  const exporter = createExporter(sim.system, { log: store, store: remote, zstd, dataDir: DATA, recheckAfterMs: 0 })
  store.setExportedOffset((topic, partition) => exporter.exportedOffset(topic, partition))
  await exporter.start()
  const files = new ExportedFiles(sim.system, { store: remote, cache: undefined })
  const exported = new ExportedLog(sim.system, { files, segments: (topic, partition) => exporter.segments(topic, partition) })
  const close = async (): Promise<void> => {
    await exporter.close()
    await store.close()
  }
  return { store, exporter, readable: new TieredLog(store, exported), close }
}

export async function restore(sim: Simulation, zstd: Zstd, options: { isDryRun?: boolean; takesOver?: boolean } = {}): Promise<string[]> {
  const printed: string[] = []
  await runRestore(sim.system, restoreConfig(), {
    transport: { http: sim.system.http, streamingHttp: sim.system.http },
    zstd, print: (line) => printed.push(line), isDryRun: options.isDryRun ?? false, takesOver: options.takesOver ?? true,
  })
  return printed
}

/** As an agent does: every batch from the beginning, whose answer says whether it was needed. */
export async function send({ store }: Life, batches: readonly SealedBatch[]): Promise<string[]> {
  const kinds: string[] = []
  for (const { topic, source, batch } of batches) kinds.push((await store.append({ topic, source, batch: Buffer.from(batch) })).kind)
  return kinds
}

/** The data folder burns. */
export async function loseData(fs: FileSystem): Promise<void> {
  await removeTree(fs, DATA)
  await fs.syncDirectory('/')
}

export async function copyTree(fs: SimFileSystem, from: string, to: string): Promise<void> {
  await fs.makeDirectory(to)
  for (const { name, kind } of await fs.list(from)) {
    if (kind === 'directory') {
      await copyTree(fs, `${from}/${name}`, `${to}/${name}`)
      continue
    }
    const file = await fs.open(`${to}/${name}`, 'truncateWrite')
    const bytes = fs.getFile(`${from}/${name}`) ?? Buffer.alloc(0)
    if (bytes.length > 0) await file.write([bytes], 0)
    await file.sync()
    await file.close()
  }
  await fs.syncDirectory(to)
}

/** The older copy comes back. */
export async function setBack(fs: FileSystem, copy: string): Promise<void> {
  await removeTree(fs, DATA)
  await fs.rename(copy, DATA)
  await fs.syncDirectory('/')
}

async function removeTree(fs: FileSystem, path: string): Promise<void> {
  for (const { name, kind } of await fs.list(path)) {
    if (kind === 'directory') await removeTree(fs, `${path}/${name}`)
    else await fs.remove(`${path}/${name}`)
  }
  await fs.removeDirectory(path)
}

export function manifests(fs: SimFileSystem, topic: string): Manifest[] {
  const found: Manifest[] = []
  for (const [path, bytes] of fs.files()) {
    const file = path.startsWith(`${ROOT}/`) ? parseSegmentPath(path.slice(ROOT.length + 1)) : undefined
    if (file?.kind === 'manifest.json' && file.key.topic === topic) found.push(parseManifest(bytes, file.key))
  }
  return found.sort((a, b) => a.partition - b.partition || a.baseOffset - b.baseOffset)
}

/** The disk as it is now, in another life of the machine. */
export function rebooted(fs: SimFileSystem): Simulation {
  return simulate({ fs, seed: 11 })
}
