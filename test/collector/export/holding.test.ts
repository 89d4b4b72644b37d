/** Who holds the store, while nothing is exported: noticed in a minute, and asked before a new folder takes lines. */
import { beforeAll, expect, test } from 'vitest'
import { createExporter } from '../../../collector/export/exporter.ts'
import { createFileStore } from '../../../collector/export/file-store.ts'
import { Owner, readOwner } from '../../../collector/export/owner.ts'
import type { RemoteStore } from '../../../collector/export/remote-store.ts'
import { AppError } from '../../../shared/errors.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { SimFileSystem } from '../../sim-fs.ts'
import { openRig } from '../storage/store-rig.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

test('of two collectors on one folder the older one stops within a minute, though neither exports anything', async () => {
  const { sim, store: log } = await openRig({ zstd })
  const store = createFileStore(new SimFileSystem({ nowMs: () => sim.clock.nowMs() }), '/hdfs')
  const exporter = createExporter(sim.system, { log, store, zstd, dataDir: '/data' })
  await exporter.start()
  await sim.clock.advance(65_000)
  const { owner, ownerName } = await readOwner(store)
  expect(ownerName?.sequence, 'a sign of life each minute').toBe(2)
  expect(exporter.refusal()).toBeUndefined()
  const other = new Owner(store, sim.log, { identity: { clusterId: log.clusterId, logEpoch: 1, boot: (owner?.boot ?? 0) + 1, nonce: 'other' }, next: new Map() })
  await other.take()
  await sim.clock.advance(62_000)
  expect(exporter.refusal()).toMatchObject({ code: 'RESTORE_REQUIRED' })
  await exporter.close()
  await log.close()
})

test('a new folder takes no lines until its store has said that it is nobody else\'s', async () => {
  const { sim, store: log } = await openRig({ zstd })
  const real = createFileStore(new SimFileSystem(), '/hdfs')
  let isAway = true
  const store: RemoteStore = { ...real, makeDirectories: (path) => (isAway ? Promise.reject(new AppError('CANNOT_CONNECT', 'nobody there')) : real.makeDirectories(path)) }
  const exporter = createExporter(sim.system, { log, store, zstd, dataDir: '/data' })
  await exporter.start()
  expect(exporter.refusal()).toMatchObject({ code: 'UNAVAILABLE', retryable: true })
  isAway = false
  await sim.clock.advance(40_000)
  expect(exporter.refusal()).toBeUndefined()
  await exporter.close()
  await log.close()
})
