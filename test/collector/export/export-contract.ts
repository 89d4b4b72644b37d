/** What an export leaves on a store, said of every kind of store: a folder, the stand-in, a real Hadoop (test/real). */
import { expect, test } from 'vitest'
import { createExporter, type Exporter } from '../../../collector/export/exporter.ts'
import { segmentFileKinds, segmentPath } from '../../../collector/export/layout.ts'
import { parseManifest } from '../../../collector/export/manifest.ts'
import { bufferSource, readSmall, type RemoteStore } from '../../../collector/export/remote-store.ts'
import type { SegmentInfo } from '../../../collector/storage/topic-log.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { SimFileSystem } from '../../sim-fs.ts'
import { simulate } from '../../sim-system.ts'
import { SealedSegments } from './sealed-segments.ts'

interface Bench {
  readonly zstd: Zstd
  readonly store: RemoteStore
  readonly segments: SealedSegments
  readonly expected: readonly SegmentInfo[]
  readonly start: (options?: { dataDir?: string; clusterId?: string }) => Promise<Exporter>
}

function keyOf(segment: SegmentInfo): Parameters<typeof segmentPath>[0] {
  const { topic, partition, baseOffset, nextOffset } = segment
  return { topic, partition, baseOffset, nextOffset, epoch: 3 }
}

/** `newPlace` answers what opens a store in a place that nothing is in yet; an exporter closes its own. */
export function describeExport(newPlace: () => () => RemoteStore): void {
  async function open(): Promise<Bench> {
    const [openStore, zstd] = [newPlace(), await loadZstd()]
    const store = openStore()
    const fs = new SimFileSystem()
    const segments = new SealedSegments({ fs, zstd })
    const expected = [await segments.add('app', 0), await segments.add('app', 0, { batches: 1 }), await segments.add('app', 1)]
    const start = async ({ dataDir = '/data', clusterId }: { dataDir?: string; clusterId?: string } = {}): Promise<Exporter> => {
      const log = clusterId === undefined ? segments.log : { ...segments.log, clusterId }
      const exporter = createExporter(simulate({ fs }).system, { log, store: openStore(), zstd, dataDir })
      await exporter.start()
      return exporter
    }
    return { zstd, store, segments, expected, start }
  }

  /** Each segment with its four files, byte for byte, and no other name. */
  async function expectExported({ store, segments, expected }: Bench): Promise<void> {
    for (const segment of expected) {
      expect((await readSmall(store, segmentPath(keyOf(segment), 'log'), 1 << 24)).equals(segments.contents.get(segment.files.log) ?? Buffer.alloc(0))).toBe(true)
      const manifest = parseManifest(await readSmall(store, segmentPath(keyOf(segment), 'manifest.json'), 1 << 20), keyOf(segment))
      expect(manifest.records).toBe(segment.nextOffset - segment.baseOffset)
    }
    const names = [...(await store.list('raw/app/p=0')), ...(await store.list('raw/app/p=1'))]
    expect(names).toHaveLength(expected.length * segmentFileKinds.length)
    expect(await store.list('_tmp')).toEqual([])
  }

  test('every segment comes out once, byte for byte, with its manifest', async () => {
    const bench = await open()
    const exporter = await bench.start()
    await exporter.exportNow()
    await expectExported(bench)
    await exporter.exportNow()
    await expectExported(bench)
    await exporter.close()
  })

  test('an exporter without its journal knows its files again by their checksums', async () => {
    const bench = await open()
    const first = await bench.start()
    await first.exportNow()
    await first.close()
    const second = await bench.start({ dataDir: '/data-2' })
    await second.exportNow()
    await expectExported(bench)
    expect(await bench.store.list('_quarantine')).toEqual([])
    await second.close()
  })

  test('a foreign file under a name of ours is moved aside', async () => {
    const bench = await open()
    const [segment] = bench.expected
    if (segment === undefined) throw new Error('a segment was added')
    // By an exporter, so that the folder is ours; then somebody changes a byte.
    const first = await bench.start()
    await first.exportNow()
    const path = segmentPath(keyOf(segment), 'log')
    const foreign = await readSmall(bench.store, path, 1 << 24)
    foreign.writeUInt8(foreign.readUInt8(100) ^ 1, 100)
    await bench.store.remove(path)
    await bench.store.put(path, bufferSource(foreign))
    const results: string[] = []
    for await (const { result } of first.verify({ deep: true })) results.push(result)
    expect(results.filter((result) => result !== 'ok')).toEqual(['checksum'])
    await first.close()
    const second = await bench.start({ dataDir: '/data-2' })
    await second.exportNow()
    await expectExported(bench)
    expect(await bench.store.list('_quarantine/app/p=0')).toMatchObject([{ lengthBytes: foreign.length }])
    await second.close()
  })

  test('the folder of one cluster is refused to another', async () => {
    const bench = await open()
    await (await bench.start()).close()
    const other = await bench.start({ dataDir: '/data-2', clusterId: 'cluster-2' })
    expect(other.refusal()).toMatchObject({ code: 'RESTORE_REQUIRED' })
    await other.close()
  })
}
