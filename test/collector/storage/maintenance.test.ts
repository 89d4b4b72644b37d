/** What happens as time passes: rolling, retention and its guards, snapshots, closed streams, the wall clock. */
import { beforeAll, describe, expect, test } from 'vitest'
import type { TopicConfig } from '../../../collector/storage/topic-log.ts'
import { toOffset, toPosition } from '../../../shared/types.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import type { SealedBatch } from '../../sealed-batch.ts'
import { DATA, defaults, noise, openRig, readAll, type Rig } from './store-rig.ts'

const HOUR_MS = 3_600_000
let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

function rigWith(config: Partial<TopicConfig>): Promise<Rig> {
  return openRig({ zstd, store: { defaults: { ...defaults, segmentBytes: 4096, segmentAgeMs: HOUR_MS, ...config } } })
}

async function fill(rig: Rig, count: number, from?: SealedBatch): Promise<SealedBatch> {
  let last = from
  for (let done = 0; done < count; done += 1) {
    const lines = [noise(600, done + (last?.source.end ?? 0))]
    const next: SealedBatch = last === undefined ? rig.batch({ lines }) : rig.batch({ previous: last, lines })
    expect(await rig.store.append({ ...next, batch: Buffer.from(next.batch) })).toMatchObject({ kind: 'ok' })
    last = next
  }
  if (last === undefined) throw new Error('nothing was sent')
  return last
}

function segmentsOf(rig: Rig): [number, number, boolean][] {
  return rig.store.segments('app', 0).map(({ baseOffset, nextOffset, isSealed }) => [baseOffset, nextOffset, isSealed])
}

describe('rolling', () => {
  test('a quiet segment is sealed when it is over age, an empty one never', async () => {
    const rig = await rigWith({})
    await fill(rig, 2)
    await rig.sim.clock.advance(HOUR_MS - 1000)
    await rig.store.maintain()
    expect(segmentsOf(rig)).toEqual([[0, 2, false]])
    await rig.sim.clock.advance(1000)
    await rig.store.maintain()
    await rig.store.maintain()
    expect(segmentsOf(rig)).toEqual([[0, 2, true], [2, 2, false]])
    await rig.sim.clock.advance(5 * HOUR_MS)
    await rig.store.maintain()
    expect(segmentsOf(rig)).toEqual([[0, 2, true], [2, 2, false]])
  })

  test('a segment whose first append lies in the future is sealed, not held until the clock is there again', async () => {
    const rig = await rigWith({})
    await fill(rig, 2)
    rig.sim.clock.stepWall(-48 * HOUR_MS)
    await rig.store.maintain()
    expect(segmentsOf(rig)).toEqual([[0, 2, true], [2, 2, false]])
  })

  test('a segment keeps its age over a restart', async () => {
    const rig = await rigWith({})
    await fill(rig, 2)
    const times = rig.store.segments('app', 0).map(({ firstAppendMs, lastAppendMs }) => [firstAppendMs, lastAppendMs])
    await rig.sim.clock.advance(2000)
    await rig.store.close()
    await rig.sim.clock.advance(HOUR_MS / 2)
    const next = await rig.reopen()
    expect(next.store.segments('app', 0).map(({ firstAppendMs, lastAppendMs }) => [firstAppendMs, lastAppendMs])).toEqual(times)
    await rig.sim.clock.advance(HOUR_MS / 2)
    await next.store.maintain()
    expect(segmentsOf(next)).toEqual([[0, 2, true], [2, 2, false]])
  })

  test('roll on request seals what is there, and its files are on disk', async () => {
    const rig = await rigWith({})
    await fill(rig, 3)
    await rig.store.roll('app', 0)
    await rig.store.roll('app', 0)
    const [sealed, active] = rig.store.segments('app', 0)
    expect([sealed?.isSealed, sealed?.nextOffset, active?.isSealed, active?.baseOffset]).toEqual([true, 3, false, 3])
    rig.sim.fs.crash()
    for (const path of Object.values(sealed?.files ?? {})) expect(rig.sim.fs.getFile(path)).toBeDefined()
    const next = await rig.reopen()
    expect((await readAll(next.store)).batches).toHaveLength(3)
  })

  test('a full disk at the roll refuses appends, harms nothing, and rolls later', async () => {
    const rig = await rigWith({})
    let last = await fill(rig, 4)
    const known = new Set(rig.store.segments('app', 0).map(({ files }) => files.log))
    rig.sim.fs.inject = (call) => (call.kind === 'open' && call.path.endsWith('.log') && !known.has(call.path) ? { errno: 'ENOSPC' } : undefined)
    const outcomes: string[] = []
    // Large ones need a new segment, small ones still fit the old one behind a refused roll.
    for (const bytes of [4000, 50, 4000, 50]) {
      const next = rig.batch({ previous: last, lines: [noise(bytes, bytes)] })
      const result = await rig.store.append({ ...next, batch: Buffer.from(next.batch) }).catch((error: { code: string }) => ({ kind: error.code }))
      outcomes.push(result.kind)
      if (result.kind === 'ok') last = next
    }
    expect(outcomes).toEqual(['DISK_FULL', 'ok', 'DISK_FULL', 'ok'])
    rig.sim.fs.crash()
    const next = await rig.reopen()
    expect((await readAll(next.store)).batches).toHaveLength(6)
    rig.sim.fs.inject = undefined
    await fill(next, 8, last)
    expect(next.store.segments('app', 0).length).toBeGreaterThan(known.size)
    expect((await readAll(next.store)).missing).toEqual([])
    expect(rig.fatal).toEqual([])
  })

  test('an empty file that a refused roll left behind does not cut what the old segment took afterwards', async () => {
    const rig = await rigWith({})
    let last = await fill(rig, 4)
    const known = new Set(rig.store.segments('app', 0).map(({ files }) => files.log))
    // The file comes to be, and then its sync finds no room.
    rig.sim.fs.inject = (call) => (call.kind === 'syncDirectory' && call.path.endsWith('app-0') ? { errno: 'ENOSPC' } : undefined)
    const large = rig.batch({ previous: last, lines: [noise(4000, 1)] })
    await expect(rig.store.append({ ...large, batch: Buffer.from(large.batch) })).rejects.toMatchObject({ code: 'DISK_FULL' })
    last = await fill(rig, 1, last)
    rig.sim.fs.kill()
    rig.sim.fs.inject = undefined
    expect([...rig.sim.fs.files()].filter(([path, bytes]) => path.endsWith('.log') && !known.has(path) && bytes.length === 0)).toHaveLength(1)
    const next = await rig.reopen()
    expect(next.store.streams.get(last.source.streamId)?.position).toBe(last.source.end)
    expect((await readAll(next.store)).batches).toHaveLength(5)
    await fill(next, 8, last)
    expect((await readAll(next.store)).missing).toEqual([])
  })
})

describe('retention', () => {
  test('drops the oldest by size, never the active segment, and files go', async () => {
    const rig = await rigWith({ retentionBytes: 9000 })
    await fill(rig, 30)
    const sealedBefore = rig.store.segments('app', 0).length
    await rig.store.maintain()
    const info = rig.store.topic('app')?.partitions[0]
    expect(info?.segmentCount).toBeLessThan(sealedBefore)
    expect(info?.sizeBytes).toBeGreaterThanOrEqual(9000)
    expect((info?.sizeBytes ?? 0) - 4096).toBeLessThan(9000)
    const logs = [...rig.sim.fs.files().keys()].filter((path) => path.startsWith(`${DATA}/topics/app-0/`) && path.endsWith('.log'))
    expect(logs).toHaveLength(info?.segmentCount ?? 0)
    expect(rig.sim.metrics.value('tailrace_collector_segments_dropped_total', { topic: 'app' })).toBe(sealedBefore - (info?.segmentCount ?? 0))
  })

  test('drops by age of the last append, not by timestamps from outside', async () => {
    const rig = await rigWith({ retentionAgeMs: 10 * HOUR_MS })
    const old = rig.batch({ lines: ['old stamp'], timestampMs: 1000 })
    await rig.store.append(old)
    await rig.store.roll('app', 0)
    await rig.store.maintain()
    expect(rig.store.watermarks('app', 0).logStartOffset).toBe(0)
    await rig.sim.clock.advance(10 * HOUR_MS + 1000)
    await rig.store.maintain()
    expect(rig.store.watermarks('app', 0).logStartOffset).toBe(1)
  })

  test('never drops what is not exported while there is an export', async () => {
    const rig = await rigWith({ retentionBytes: 0 })
    await fill(rig, 30)
    const [first, second, third] = rig.store.segments('app', 0)
    let exported = toOffset(0)
    rig.store.setExportedOffset(() => exported)
    await rig.store.maintain()
    expect(rig.store.watermarks('app', 0).logStartOffset).toBe(0)
    exported = toOffset((second?.nextOffset ?? 1) + 1)
    await rig.store.maintain()
    expect(rig.store.watermarks('app', 0).logStartOffset).toBe(third?.baseOffset)
    expect(first?.baseOffset).toBe(0)
  })

  test('drops nothing while the snapshot that it needs can not be written', async () => {
    const rig = await rigWith({ retentionBytes: 0 })
    await fill(rig, 30)
    rig.sim.fs.inject = (call) => (call.path.includes('.snapshot') ? { errno: 'ENOSPC' } : undefined)
    await rig.store.maintain()
    expect(rig.store.watermarks('app', 0).logStartOffset).toBe(0)
    expect(rig.store.alarms().map((alarm) => alarm.code)).toEqual(['SNAPSHOT_NOT_WRITTEN'])
    rig.sim.fs.inject = undefined
    await rig.store.maintain()
    expect(rig.store.watermarks('app', 0).logStartOffset).toBeGreaterThan(0)
    expect(rig.store.alarms()).toEqual([])
  })

  test('a wall clock that steps by more than an hour parks age, not size, until someone confirms', async () => {
    const rig = await rigWith({ retentionAgeMs: 24 * HOUR_MS })
    await fill(rig, 3)
    await rig.store.roll('app', 0)
    rig.sim.clock.stepWall(400 * 24 * HOUR_MS)
    await rig.store.maintain()
    expect(rig.store.watermarks('app', 0).logStartOffset).toBe(0)
    expect(rig.store.alarms().map((alarm) => alarm.code)).toEqual(['CLOCK_STEPPED'])
    rig.store.confirmClock()
    await rig.store.maintain()
    expect(rig.store.watermarks('app', 0).logStartOffset).toBe(3)
    expect(rig.store.alarms()).toEqual([])
  })

  test('a clock that went back while the collector was down is noticed at the start', async () => {
    const rig = await rigWith({ retentionAgeMs: HOUR_MS })
    await fill(rig, 3)
    await rig.store.close()
    rig.sim.clock.stepWall(-5 * HOUR_MS)
    const next = await rig.reopen()
    expect(next.store.alarms().map((alarm) => alarm.code)).toEqual(['CLOCK_STEPPED'])
  })
})

describe('streams', () => {
  test('closing marks only, survives a restart, and an append opens again', async () => {
    const rig = await rigWith({})
    const last = await fill(rig, 2)
    const id = last.source.streamId
    expect(rig.store.streams.close(id, toPosition(1))).toBe(false)
    expect(rig.store.streams.close(id, last.source.end)).toBe(true)
    await rig.store.close()
    const next = await rig.reopen()
    expect(next.store.streams.get(id)).toMatchObject({ isOpen: false, position: last.source.end })
    await fill(next, 1, last)
    expect(next.store.streams.get(id)?.isOpen).toBe(true)
  })

  test('closed ones are forgotten after 30 days, open ones never', async () => {
    const rig = await rigWith({})
    const closed = await fill(rig, 1)
    const open = rig.batch({ inode: 77n })
    await rig.store.append(open)
    rig.store.streams.close(closed.source.streamId, closed.source.end)
    await rig.sim.clock.advance(29 * 24 * HOUR_MS)
    await rig.store.maintain()
    expect(rig.store.streams.size).toBe(2)
    await rig.sim.clock.advance(2 * 24 * HOUR_MS)
    await rig.store.maintain()
    expect([...rig.store.streams.list()].map((state) => state.source.inode)).toEqual([77n])
  })

  test('a snapshot is written each minute while something changes, and two are kept', async () => {
    const rig = await rigWith({})
    let last = await fill(rig, 1)
    const snapshots = (): string[] => [...rig.sim.fs.files().keys()].filter((path) => path.endsWith('.snapshot')).map((path) => path.slice(`${DATA}/streams/`.length))
    expect(snapshots()).toEqual([])
    for (let minute = 0; minute < 4; minute += 1) {
      await rig.sim.clock.advance(60_000)
      await rig.store.maintain()
      last = await fill(rig, 1, last)
    }
    expect(snapshots()).toEqual(['3.snapshot', '4.snapshot'])
    await rig.sim.clock.advance(60_000)
    await rig.store.maintain()
    await rig.sim.clock.advance(60_000)
    await rig.store.maintain()
    expect(snapshots()).toEqual(['4.snapshot', '5.snapshot'])
  })
})
