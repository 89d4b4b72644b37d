import { expect, test } from 'vitest'
import { createExporter } from '../../../collector/export/exporter.ts'
import { createFileStore } from '../../../collector/export/file-store.ts'
import type { RemoteStore } from '../../../collector/export/remote-store.ts'
import { loadZstd } from '../../../shared/zstd.ts'
import { SimFileSystem } from '../../sim-fs.ts'
import { simulate } from '../../sim-system.ts'
import { codeOf } from './remote-store-contract.ts'
import { SealedSegments } from './sealed-segments.ts'

test('a local file that rots between its check and its upload is damage, and is neither sent for ever nor renamed', async () => {
  const sim = simulate()
  const store = createFileStore(new SimFileSystem({ nowMs: () => sim.clock.nowMs() }), '/hdfs')
  const zstd = await loadZstd()
  const segments = new SealedSegments({ fs: sim.fs, zstd })
  const segment = await segments.add('app', 0)
  const rotten = Buffer.from(segments.contents.get(segment.files.log) ?? Buffer.alloc(0))
  rotten.writeUInt8(rotten.readUInt8(70) ^ 1, 70)
  let uploads = 0
  const late: RemoteStore = {
    ...store,
    put: async (path, source, options) => {
      if (path.startsWith('_tmp') && path.endsWith('.log')) {
        uploads += 1
        await segments.put(segment.files.log, rotten)
      }
      await store.put(path, source, options)
    },
  }
  const exporter = createExporter(sim.system, { log: segments.log, store: late, zstd, dataDir: '/data' })
  await exporter.start()
  expect(await codeOf(exporter.exportNow())).toBe('CORRUPT_DATA')
  expect(uploads).toBe(1)
  expect(await store.list('raw/app/p=0')).toEqual([])
  expect((await store.list('_tmp')).filter(({ name }) => name.endsWith('.log'))).toEqual([])
  expect(exporter.alarms()).toMatchObject([{ code: 'EXPORT_SEGMENT_DAMAGED' }])
  await exporter.close()
})
