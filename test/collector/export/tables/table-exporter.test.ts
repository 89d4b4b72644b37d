import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { readSmall, type RemoteStore } from '../../../../collector/export/remote-store.ts'
import { AppError } from '../../../../shared/errors.ts'
import { loadZstd, type Zstd } from '../../../../shared/zstd.ts'
import { seededRandom } from '../../../sim-fs.ts'
import { HOUR, MINUTE, START_MS, TableRig, wrongRows } from './table-rig.ts'

let zstd: Zstd
let rig: TableRig

beforeAll(async () => {
  zstd = await loadZstd()
})

beforeEach(() => {
  rig = new TableRig(zstd)
})

/** A segment whose lines were read, and appended, in this stretch of time. */
async function segmentAt(fromMs: number, toMs: number, options: { partition?: number; timestampsMs?: readonly number[] } = {}): Promise<void> {
  const timestampsMs = options.timestampsMs ?? [fromMs, (fromMs + toMs) / 2, toMs]
  await rig.segments.add('app', options.partition ?? 0, { timestampsMs, linesEach: 2, appendMs: { first: fromMs, last: toMs } })
}

/** The wall clock goes on; the process sees enough of it to do what is due. */
async function pass(ms: number): Promise<void> {
  rig.sim.clock.stepWall(ms - 20_000)
  await rig.sim.clock.advance(20_000)
}

/** As `pass`, for somebody who waits after failures. */
async function passSlowly(ms: number): Promise<void> {
  await rig.sim.clock.advance(ms)
}

async function pathsOf(suffix: string): Promise<string[]> {
  return (await rig.files()).filter((path) => path.endsWith(suffix))
}

describe('an exporter with tables', () => {
  test('publishes an hour as one file when it is over, from all segments that hold some of it', async () => {
    await segmentAt(START_MS, START_MS + 20 * MINUTE)
    await segmentAt(START_MS + 21 * MINUTE, START_MS + 50 * MINUTE)
    await segmentAt(START_MS + 55 * MINUTE, START_MS + 65 * MINUTE)
    const exporter = await rig.started()
    await pass(HOUR + 9 * MINUTE)
    expect(await rig.tableFiles()).toEqual([])
    await pass(2 * MINUTE)
    // The third segment's middle batch is of the full hour.
    expect((await rig.files()).filter((path) => path.includes('dt=2026'))).toEqual([
      'tables/app/dt=2026-01-01/hour=00/_SUCCESS',
      'tables/app/dt=2026-01-01/hour=00/app-0-00000000000000000000-00000000000000000014.jsonl.gz',
    ])
    expect(exporter.status()[0]?.tables).toMatchObject({ format: 'jsonl', publishedOffset: 12, completeUntilMs: START_MS + HOUR, state: 'idle', reason: null })
    await pass(HOUR)
    const rows = await rig.rows()
    expect(wrongRows(rows)).toEqual([])
    expect(rows.map(({ offset }) => offset)).toEqual(Array.from({ length: 18 }, (_, offset) => offset))
    expect(rows[0]).toMatchObject({ ts: '2026-01-01T00:00:00.000Z', partition: 0, host: 'web-1', path: '/var/log/app-0.log', message: 'app-0 line 0' })
    expect((await pathsOf('_SUCCESS')).map((path) => path.slice(14, 32))).toEqual(['2025-12-31/hour=23', '2026-01-01/hour=00', '2026-01-01/hour=01'])
    await exporter.close()
  })

  test('waits for every partition before it calls an hour complete', async () => {
    await segmentAt(START_MS, START_MS + MINUTE, { partition: 0 })
    await segmentAt(START_MS, START_MS + MINUTE, { partition: 1 })
    const store: RemoteStore = {
      ...rig.store,
      rename: (from, to) => (to.startsWith('raw/app/p=1/') && isHeld ? Promise.reject(new AppError('REMOTE_REFUSED', 'not here')) : rig.store.rename(from, to)),
    }
    let isHeld = true
    const exporter = await rig.started({ store })
    await pass(2 * HOUR)
    expect(await rig.tableFiles()).toHaveLength(1)
    expect(await pathsOf('hour=00/_SUCCESS')).toEqual([])
    isHeld = false
    await passSlowly(5 * MINUTE)
    expect(await rig.tableFiles()).toHaveLength(2)
    expect(await pathsOf('hour=00/_SUCCESS')).toHaveLength(1)
    await exporter.close()
  })

  test('puts late lines into their own hour and says in the manifest that they are late', async () => {
    const exporter = await rig.started()
    await segmentAt(START_MS, START_MS + 5 * MINUTE)
    await pass(HOUR + 15 * MINUTE)
    const before = await rig.tableFiles()
    await segmentAt(START_MS + HOUR + 16 * MINUTE, START_MS + HOUR + 17 * MINUTE, { timestampsMs: [START_MS + 30 * MINUTE, START_MS + HOUR + 16 * MINUTE] })
    await pass(HOUR)
    const added = (await rig.tableFiles()).filter((path) => !before.includes(path))
    expect(added).toEqual([
      'tables/app/dt=2026-01-01/hour=00/app-0-00000000000000000006-00000000000000000008.jsonl.gz',
      'tables/app/dt=2026-01-01/hour=01/app-0-00000000000000000008-00000000000000000010.jsonl.gz',
    ])
    expect(wrongRows(await rig.rows())).toEqual([])
    const manifest: unknown = JSON.parse((await readSmall(rig.store, '_manifest/app/p=0/00000000000000000001.json', 1 << 20)).toString())
    expect(manifest).toMatchObject({ step: 1, files: [{ path: added[0], rows: 2, isLate: true }, { path: added[1], rows: 2, isLate: false }] })
    await exporter.close()
  })

  test('does not wait for an hour that only a wrong clock has seen', async () => {
    await segmentAt(START_MS, START_MS + MINUTE, { timestampsMs: [START_MS, START_MS + 9_000 * HOUR] })
    const exporter = await rig.started()
    await pass(HOUR + 11 * MINUTE)
    const rows = await rig.rows()
    expect(rows).toHaveLength(4)
    expect(wrongRows(rows)).toEqual([])
    expect(exporter.status()[0]?.tables?.publishedOffset).toBe(4)
    await exporter.close()
  })

  test('keeps timestamps from outside in the years that folders have', async () => {
    await segmentAt(START_MS, START_MS + MINUTE, { timestampsMs: [-5_000, 8.64e15 + 1, START_MS] })
    const exporter = await rig.started()
    await exporter.exportNow()
    expect((await rig.tableFiles()).map((path) => path.slice(11, 33))).toEqual(['dt=1970-01-01/hour=00/', 'dt=2026-01-01/hour=00/', 'dt=9999-12-31/hour=23/'])
    expect(wrongRows(await rig.rows())).toEqual([])
    await exporter.close()
  })

  test('publishes all there is when somebody asks, and goes on from there', async () => {
    await segmentAt(START_MS, START_MS + MINUTE)
    const exporter = await rig.started()
    await exporter.exportNow()
    expect(await rig.rows()).toHaveLength(6)
    await segmentAt(START_MS + 2 * MINUTE, START_MS + 3 * MINUTE)
    await exporter.exportNow()
    await exporter.exportNow()
    expect(await rig.tableFiles()).toHaveLength(2)
    const rows = await rig.rows()
    expect(rows).toHaveLength(12)
    expect(wrongRows(rows)).toEqual([])
    await exporter.close()
  })

  test('publishes a long history in steps of bounded size, read back from the store where this disk has dropped it', async () => {
    const first = await rig.startedWithoutTables()
    for (let day = 0; day < 8; day += 1) await segmentAt(START_MS + day * 24 * HOUR, START_MS + day * 24 * HOUR + MINUTE)
    await pass(10 * 24 * HOUR)
    await first.exportNow()
    await first.close()
    const all = rig.segments.log.segments('app', 0)
    for (const segment of all.slice(0, 6)) {
      await rig.sim.fs.remove(segment.files.log)
      rig.segments.drop(segment)
    }
    const second = await rig.started({}, { earlyBytes: (all[0]?.sizeBytes ?? 0) * 2 })
    await pass(MINUTE)
    const rows = await rig.rows()
    expect(rows).toHaveLength(48)
    expect(wrongRows(rows)).toEqual([])
    expect((await rig.store.list('_manifest/app/p=0')).length).toBeGreaterThanOrEqual(4)
    // Hours of the past owe a marker too.
    await pass(10 * MINUTE)
    expect(await rig.store.stat('tables/app/dt=2026-01-01/hour=00/_SUCCESS')).toBeDefined()
    await second.close()
  })

  test('a store that refuses parks the tables with a reason, while the raw export goes on', async () => {
    await segmentAt(START_MS, START_MS + MINUTE)
    let isRefusing = true
    const store: RemoteStore = {
      ...rig.store,
      rename: (from, to) => (to.startsWith('tables/') && isRefusing ? Promise.reject(new AppError('REMOTE_REFUSED', 'The DiskSpace quota is exceeded')) : rig.store.rename(from, to)),
    }
    const exporter = await rig.started({ store })
    await pass(HOUR + 15 * MINUTE)
    expect(exporter.status()[0]).toMatchObject({ state: 'idle', exportedOffset: 6, tables: { state: 'parked', reason: 'The DiskSpace quota is exceeded', publishedOffset: 0 } })
    expect(exporter.alarms()).toMatchObject([{ code: 'TABLES_PARKED' }])
    expect(await rig.store.list('_tmp')).toEqual([])
    isRefusing = false
    await passSlowly(6 * MINUTE)
    expect(await rig.rows()).toHaveLength(6)
    expect(exporter.alarms()).toEqual([])
    await exporter.close()
  })

  test('moves a file that is not ours aside, and never removes it', async () => {
    await segmentAt(START_MS, START_MS + MINUTE)
    const path = 'tables/app/dt=2026-01-01/hour=00/app-0-00000000000000000000-00000000000000000006.jsonl.gz'
    await rig.store.makeDirectories('tables/app/dt=2026-01-01/hour=00')
    await rig.store.put(path, { lengthBytes: 3, open: async function* () { yield Buffer.from('abc') } })
    const exporter = await rig.started()
    await exporter.exportNow()
    expect(await rig.rows()).toHaveLength(6)
    const [aside] = await rig.store.list('_quarantine/app/tables')
    expect(aside?.lengthBytes).toBe(3)
    expect(exporter.alarms()).toMatchObject([{ code: 'EXPORT_QUARANTINED' }])
    await exporter.close()
  })

  test('goes on from the manifests on the store when its own state is lost or older than they are', async () => {
    const exporter = await rig.started()
    await segmentAt(START_MS, START_MS + 30 * MINUTE)
    await exporter.exportNow()
    const older = await readState()
    await segmentAt(START_MS + 31 * MINUTE, START_MS + 70 * MINUTE)
    await pass(2 * HOUR)
    await exporter.close()
    for (const state of [undefined, older, Buffer.from('{"damaged')]) {
      if (state === undefined) await rig.sim.fs.remove(STATE)
      else rig.sim.fs.putFile(STATE, state)
      const again = await rig.started()
      await again.exportNow()
      await again.close()
      const rows = await rig.rows()
      expect(rows).toHaveLength(12)
      expect(wrongRows(rows)).toEqual([])
    }
  })

  test('a local copy that rots between two attempts is made again', async () => {
    await segmentAt(START_MS, START_MS + MINUTE)
    let isRefusing = true
    const store: RemoteStore = {
      ...rig.store,
      rename: (from, to) => (to.startsWith('tables/') && isRefusing ? Promise.reject(new AppError('REMOTE_ERROR', 'later')) : rig.store.rename(from, to)),
    }
    const exporter = await rig.started({ store })
    await pass(HOUR + 11 * MINUTE)
    const spool = '/data/export/tables/spool-app-0-0'
    const bytes = Buffer.from(rig.sim.fs.getFile(spool) ?? Buffer.alloc(0))
    bytes.writeUInt8(bytes.readUInt8(20) ^ 1, 20)
    rig.sim.fs.putFile(spool, bytes)
    isRefusing = false
    await passSlowly(10 * MINUTE)
    expect(await rig.rows()).toHaveLength(6)
    expect(rig.sim.fs.getFile(spool)).toBeUndefined()
    await exporter.close()
  })
})

const STATE = '/data/export/tables/app-0.json'

async function readState(): Promise<Buffer> {
  const bytes = rig.sim.fs.getFile(STATE)
  expect(bytes).toBeDefined()
  return Buffer.from(bytes ?? Buffer.alloc(0))
}

/** Segments of two partitions with clocks that are right, late, or wrong; time passes, somebody asks, the process restarts. */
test.each([1, 2, 3, 4, 5, 6, 7, 8])('whatever the clocks do, each row is published once and in its own hour (seed %i)', async (seed) => {
  const random = seededRandom(seed)
  const below = (limit: number): number => Math.floor(random() * limit)
  let exporter = await rig.started()
  for (let round = 0; round < 14; round += 1) {
    const nowMs = rig.sim.clock.nowMs()
    const timestampsMs = Array.from({ length: 1 + below(4) }, () => nowMs - below(30) * MINUTE + (below(6) === 0 ? (below(9) - 6) * HOUR : 0))
    await segmentAt(nowMs - 30 * MINUTE, nowMs, { partition: below(2), timestampsMs })
    await pass((1 + below(90)) * MINUTE)
    if (below(5) === 0) await exporter.exportNow()
    if (below(5) === 0) {
      await exporter.close()
      exporter = await rig.started()
    }
    expect(wrongRows(await rig.rows())).toEqual([])
  }
  await exporter.exportNow()
  await exporter.close()
  const rows = await rig.rows()
  expect(wrongRows(rows)).toEqual([])
  const ends = [0, 1].map((partition) => rig.segments.log.watermarks('app', partition).logEndOffset)
  expect(rows).toHaveLength(ends.reduce((sum, end) => sum + end, 0))
})
