/** The exporter on the embedded log itself: what is sealed there goes out, and retention waits for it. */
import { expect, test } from 'vitest'
import { createExporter } from '../../../collector/export/exporter.ts'
import { createFileStore } from '../../../collector/export/file-store.ts'
import { parseSegmentPath } from '../../../collector/export/layout.ts'
import { parseManifest } from '../../../collector/export/manifest.ts'
import { readSmall } from '../../../collector/export/remote-store.ts'
import { openTopicStore } from '../../../collector/storage/topic-store.ts'
import { decodeSourceHeader } from '../../../shared/source-header.ts'
import { wireLimits } from '../../../shared/wire.ts'
import { loadZstd } from '../../../shared/zstd.ts'
import { sealedBatch, type SealedBatch } from '../../sealed-batch.ts'
import { SimFileSystem } from '../../sim-fs.ts'
import { simulate } from '../../sim-system.ts'

test('segments of the embedded log come out byte for byte, and retention drops none before it was exported and looked at again', async () => {
  const sim = simulate()
  const zstd = await loadZstd()
  const log = await openTopicStore(sim.system, {
    dataDir: '/data',
    zstd,
    batchContentBytesMax: wireLimits.batchContentBytesMax,
    defaults: { partitions: 1, segmentBytes: 1024, segmentAgeMs: 3_600_000, retentionBytes: 1, retentionAgeMs: undefined },
  })
  const store = createFileStore(new SimFileSystem(), '/hdfs')
  const exporter = createExporter(sim.system, { log, store, zstd, dataDir: '/data', recheckAfterMs: 60_000 })
  log.setExportedOffset((topic, partition) => exporter.exportedOffset(topic, partition))
  let previous: SealedBatch | undefined
  for (let count = 0; count < 20; count += 1) {
    const lines = Array.from({ length: 5 }, (_each, line) => `line ${count * 5 + line}`)
    const sealed: SealedBatch = sealedBatch({ zstd, lines, ...(previous === undefined ? {} : { previous }) })
    await log.append({ topic: sealed.topic, source: sealed.source, batch: sealed.batch })
    previous = sealed
  }
  await log.maintain()
  expect(log.segments('app', 0)[0]?.baseOffset).toBe(0)

  await exporter.start()
  await exporter.exportNow()
  await log.maintain()
  const local = log.segments('app', 0).filter((each) => each.isSealed && each.sizeBytes > 0)
  expect(local.length).toBeGreaterThan(3)
  expect(local[0]?.baseOffset).toBe(0)
  let expected = 0
  for (const segment of local) {
    const stored = (await store.list('raw/app/p=0')).filter((each) => Number(each.name.slice(0, 20)) === segment.baseOffset)
    expect(stored).toHaveLength(4)
    for (const { name } of stored) {
      const found = parseSegmentPath(`raw/app/p=0/${name}`)
      const bytes = await readSmall(store, `raw/app/p=0/${name}`, 1 << 20)
      if (found?.kind === 'manifest.json') {
        const manifest = parseManifest(bytes, found.key)
        expect(manifest.baseOffset).toBe(expected)
        expected = manifest.nextOffset
        expect(decodeSourceHeader(Buffer.from(manifest.streams[0]?.header ?? '', 'base64')).streamId).toEqual(previous?.source.streamId)
      } else {
        const path = found?.kind === 'log' ? segment.files.log : found?.kind === 'index' ? segment.files.index : segment.files.timeIndex
        const file = await sim.fs.open(path, 'read')
        const bytesOnDisk = Buffer.alloc((await file.stat()).size)
        await file.read(bytesOnDisk, { offset: 0, length: bytesOnDisk.length, position: 0 })
        await file.close()
        expect(bytes.equals(bytesOnDisk)).toBe(true)
      }
    }
  }
  expect(expected).toBe(100)

  await sim.clock.advance(70_000)
  await log.maintain()
  expect(log.segments('app', 0)[0]?.baseOffset).toBeGreaterThan(0)
  await exporter.close()
  await log.close()
})

test('a quiet topic comes out by its age alone, and until then its age is told', async () => {
  const sim = simulate()
  const zstd = await loadZstd()
  const log = await openTopicStore(sim.system, {
    dataDir: '/data',
    zstd,
    batchContentBytesMax: wireLimits.batchContentBytesMax,
    defaults: { partitions: 1, segmentBytes: 1024 * 1024, segmentAgeMs: 60_000, retentionBytes: undefined, retentionAgeMs: undefined },
  })
  const exporter = createExporter(sim.system, { log, store: createFileStore(new SimFileSystem(), '/hdfs'), zstd, dataDir: '/data' })
  await exporter.start()
  const { topic, source, batch } = sealedBatch({ zstd, lines: ['one', 'two'] })
  await log.append({ topic, source, batch })
  await sim.clock.advance(10_000)
  const oldest = 'tailrace_collector_export_oldest_unexported_seconds'
  expect(exporter.status()[0]).toMatchObject({ exportedOffset: 0, lagSegments: 0, lagMs: 0 })
  expect(exporter.status()[0]?.oldestUnexportedMs).toBeGreaterThanOrEqual(10_000)
  expect(sim.metrics.value(oldest, { topic, partition: '0' })).toBeGreaterThan(8)
  await sim.clock.advance(60_000)
  await log.maintain()
  await sim.clock.advance(3_000)
  expect(exporter.status()[0]).toMatchObject({ exportedOffset: 2, lagSegments: 0, oldestUnexportedMs: 0 })
  expect(sim.metrics.value(oldest, { topic, partition: '0' })).toBe(0)
  await exporter.close()
  await log.close()
})
