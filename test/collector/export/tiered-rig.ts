/** A log whose old segments were exported and then dropped here, and the tiered log over both. */
import { openBlockCache } from '../../../collector/export/block-cache.ts'
import { ExportedFiles } from '../../../collector/export/exported-files.ts'
import { ExportedLog } from '../../../collector/export/exported-log.ts'
import { createExporter, type Exporter } from '../../../collector/export/exporter.ts'
import { createFileStore } from '../../../collector/export/file-store.ts'
import type { RemoteStore } from '../../../collector/export/remote-store.ts'
import { TieredLog } from '../../../collector/export/tiered-log.ts'
import type { ReadableLog } from '../../../collector/storage/topic-log.ts'
import type { Zstd } from '../../../shared/zstd.ts'
import { toOffset } from '../../../shared/types.ts'
import { SimFileSystem } from '../../sim-fs.ts'
import { openRig, splitBatches, type Rig, type StoredBatch } from '../storage/store-rig.ts'

export interface TieredRig extends Rig {
  readonly exporter: Exporter
  readonly remoteDisk: SimFileSystem
  readonly remote: RemoteStore
  /** Paths of every ranged read of the store. */
  readonly reads: string[]
  /** The store fails with this as long as it is set. */
  readonly failure: { now: Error | undefined }
  readonly tiered: TieredLog
  /** Another one over the same disk cache, with nothing in memory. */
  readonly reopened: () => TieredLog
  /** Exports what is sealed, lets the look back pass, and drops it here. */
  readonly exportAndDrop: () => Promise<void>
  readonly close: () => Promise<void>
}

/** Segments of about 2 KiB; nothing but the active one stays here once it is exported. */
const store = { defaults: { partitions: 4, segmentBytes: 2048, segmentAgeMs: 3_600_000, retentionBytes: 1, retentionAgeMs: undefined } }

export async function openTieredRig(options: { zstd: Zstd; cacheBytesMax?: number; remote?: RemoteStore }): Promise<TieredRig> {
  const rig = await openRig({ zstd: options.zstd, store })
  const remoteDisk = new SimFileSystem({ nowMs: () => rig.sim.clock.nowMs() })
  const reads: string[] = []
  const failure: { now: Error | undefined } = { now: undefined }
  const remote = watched(options.remote ?? createFileStore(remoteDisk, '/hdfs'), { reads, failure })
  const exporter = createExporter(rig.sim.system, { log: rig.store, store: remote, zstd: options.zstd, dataDir: '/data', recheckAfterMs: 0 })
  rig.store.setExportedOffset((topic, partition) => exporter.exportedOffset(topic, partition))
  await exporter.start()
  const cache = await openBlockCache(rig.sim.system, { directory: '/data/cache', bytesMax: options.cacheBytesMax ?? 1 << 20 })
  const reopened = (): TieredLog => {
    const files = new ExportedFiles(rig.sim.system, { store: remote, cache })
    const exported = new ExportedLog(rig.sim.system, { files, segments: (topic, partition) => exporter.segments(topic, partition) })
    return new TieredLog(rig.store, exported)
  }
  const exportAndDrop = async (): Promise<void> => {
    // The second round looks again at what the first one recorded.
    for (let round = 0; round < 2; round += 1) {
      await exporter.exportNow()
      await rig.sim.clock.advance(1_500)
    }
    await rig.store.maintain()
  }
  const close = async (): Promise<void> => {
    await exporter.close()
    await rig.store.close()
  }
  return { ...rig, exporter, remoteDisk, remote, reads, failure, tiered: reopened(), reopened, exportAndDrop, close }
}

function watched(store: RemoteStore, { reads, failure }: { reads: string[]; failure: { now: Error | undefined } }): RemoteStore {
  return {
    description: store.description,
    put: (path, source, options) => store.put(path, source, options),
    rename: (from, to) => store.rename(from, to),
    stat: (path) => store.stat(path),
    remove: (path) => store.remove(path),
    makeDirectories: (path) => store.makeDirectories(path),
    list: (path) => store.list(path),
    fingerprint: (lengthBytes) => store.fingerprint(lengthBytes),
    matches: (path, expected) => store.matches(path, expected),
    close: () => store.close(),
    async *read(path, range) {
      if (failure.now !== undefined) throw failure.now
      reads.push(path)
      yield* store.read(path, range)
    },
  }
}

export interface ReadBack {
  readonly batches: readonly StoredBatch[]
  readonly missing: readonly { fromOffset: number; toOffset: number; reason: string }[]
}

/** Everything from offset 0 to the high watermark. */
export async function readBack(log: ReadableLog, topic = 'app', partition = 0, bytesMax = 4096): Promise<ReadBack> {
  const batches: StoredBatch[] = []
  const missing: ReadBack['missing'][number][] = []
  const { highWatermark } = log.watermarks(topic, partition)
  for (let offset = toOffset(0), rounds = 0; offset < highWatermark; rounds += 1) {
    if (rounds > 10_000) throw new Error('reading makes no progress')
    const result = await log.read({ topic, partition, offset, bytesMax })
    missing.push(...result.missing)
    batches.push(...splitBatches(result.batches))
    if (result.nextOffset <= offset) throw new Error(`nextOffset ${result.nextOffset} after ${offset}`)
    offset = result.nextOffset
  }
  return { batches, missing }
}
