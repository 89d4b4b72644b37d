/** Bytes that went bad, files that went missing: what is told apart, what is kept, what is said. */
import { beforeAll, describe, expect, test } from 'vitest'
import { toOffset } from '../../../shared/types.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import type { SealedBatch } from '../../sealed-batch.ts'
import { SimFileSystem } from '../../sim-fs.ts'
import { bodyOf, DATA, noise, noiseBytes, openRig, readAll, type Rig } from './store-rig.ts'

const FIRST_LOG = `${DATA}/topics/app-0/00000000000000000000.log`
let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

/** `count` batches of one record each, of one stream or of as many as there are. */
async function fill(rig: Rig, options: { count: number; streams?: number; bytes?: number }): Promise<SealedBatch[]> {
  const sent: SealedBatch[] = []
  const streams = options.streams ?? 1
  for (let count = 0; count < options.count; count += 1) {
    const previous = sent[count - streams]
    const lines = [options.bytes === undefined ? noise(500, count) : noiseBytes(options.bytes, count)]
    const input = previous === undefined ? rig.batch({ inode: BigInt(count + 1), lines }) : rig.batch({ previous, lines })
    expect(await rig.store.append({ ...input, batch: Buffer.from(input.batch) })).toMatchObject({ kind: 'ok', baseOffset: count })
    sent.push(input)
  }
  return sent
}

function flip(rig: Rig, path: string, at: number): void {
  const bytes = rig.sim.fs.getFile(path)
  if (bytes === undefined) throw new Error(`${path} is not there`)
  bytes.writeUInt8(bytes.readUInt8(at) ^ 0xff, at)
  rig.sim.fs.putFile(path, bytes)
}

/** Start of the batch with this number, all being there. */
function startOf(sent: readonly SealedBatch[], index: number): number {
  return sent.slice(0, index).reduce((sum, input) => sum + input.batch.length, 0)
}

async function offsetsOf(rig: Rig): Promise<number[]> {
  return (await readAll(rig.store)).batches.map((stored) => stored.baseOffset)
}

function asideFiles(rig: Rig, kind: string): Buffer[] {
  return [...rig.sim.fs.files()].filter(([path]) => path.endsWith(kind)).map(([, bytes]) => bytes)
}

describe('above the recovery point', () => {
  test('a torn tail is dropped, kept aside, and sent again by its agent', async () => {
    const rig = await openRig({ zstd })
    const sent = await fill(rig, { count: 5 })
    rig.sim.fs.kill()
    const whole = rig.sim.fs.getFile(FIRST_LOG) ?? Buffer.alloc(0)
    rig.sim.fs.putFile(FIRST_LOG, whole.subarray(0, whole.length - 100))
    const next = await rig.reopen()
    expect(await offsetsOf(next)).toEqual([0, 1, 2, 3])
    expect(asideFiles(next, '.torn')).toEqual([whole.subarray(startOf(sent, 4), whole.length - 100)])
    expect(next.store.alarms()).toEqual([])
    const last = sent[4]
    if (last !== undefined) expect(await next.store.append(last)).toMatchObject({ kind: 'ok', baseOffset: 4 })
  })

  test('zeros at the end are a torn tail too', async () => {
    const rig = await openRig({ zstd })
    await fill(rig, { count: 3 })
    rig.sim.fs.kill()
    rig.sim.fs.putFile(FIRST_LOG, Buffer.concat([rig.sim.fs.getFile(FIRST_LOG) ?? Buffer.alloc(0), Buffer.alloc(5000)]))
    const next = await rig.reopen()
    expect(await offsetsOf(next)).toEqual([0, 1, 2])
  })

  test('a bad batch with batches of other streams behind it is damage: they are kept, the hole is named', async () => {
    const rig = await openRig({ zstd })
    const sent = await fill(rig, { count: 6, streams: 6 })
    rig.sim.fs.kill()
    flip(rig, FIRST_LOG, startOf(sent, 2) + 80)
    const next = await rig.reopen()
    expect(await offsetsOf(next)).toEqual([0, 1, 3, 4, 5])
    expect((await readAll(next.store)).missing).toEqual([{ fromOffset: 2, toOffset: 3, reason: 'damaged or removed' }])
    expect(asideFiles(next, '.damaged')).toHaveLength(1)
    expect(next.store.alarms().map((alarm) => alarm.code)).toContain('DATA_DAMAGED')
    expect(next.store.topic('app')?.partitions[0]?.state).toBe('damaged')
    const lost = sent[2]
    if (lost !== undefined) expect(await next.store.append(lost)).toMatchObject({ kind: 'ok', baseOffset: 6 })
  })

  test('what stood behind a bad batch in the same stream goes with it: the agent sends both again', async () => {
    const rig = await openRig({ zstd })
    const sent = await fill(rig, { count: 4 })
    rig.sim.fs.kill()
    flip(rig, FIRST_LOG, startOf(sent, 2) + 80)
    const next = await rig.reopen()
    expect(await offsetsOf(next)).toEqual([0, 1])
    for (const input of sent.slice(2)) expect(await next.store.append(input)).toMatchObject({ kind: 'ok' })
    expect((await readAll(next.store)).batches.map((stored) => stored.body)).toEqual(sent.map((input) => bodyOf(input.batch)))
  })

  test('a large segment is cut at the recovery point, what survives above it becomes the next one, and a crash in between changes nothing', async () => {
    const store = { defaults: { partitions: 1, segmentBytes: 64 * 1024 * 1024, segmentAgeMs: 1e9, retentionBytes: undefined, retentionAgeMs: undefined } }
    const rig = await openRig({ zstd, store })
    const sent = await fill(rig, { count: 22, bytes: 800_000 })
    await rig.sim.clock.advance(1000)
    await rig.store.maintain()
    const more = rig.batch({ previous: sent[21] ?? rig.batch(), lines: ['behind the recovery point'] })
    expect(await rig.store.append({ ...more, batch: Buffer.from(more.batch) })).toMatchObject({ kind: 'ok', baseOffset: 22 })
    rig.sim.fs.kill()
    const before = rig.sim.fs.operations.length
    const check = async (next: Rig): Promise<void> => {
      expect(next.store.segments('app', 0).map(({ baseOffset, nextOffset, isSealed }) => [baseOffset, nextOffset, isSealed])).toEqual([[0, 22, true], [22, 23, false]])
      expect((await readAll(next.store, 'app', 0, 4_000_000)).batches.map((stored) => stored.baseOffset)).toEqual(Array.from({ length: 23 }, (_none, index) => index))
      expect(next.store.streams.get(more.source.streamId)?.position).toBe(more.source.end)
      expect(next.store.alarms()).toEqual([])
    }
    await check(await rig.reopen())
    const { operations } = rig.sim.fs
    expect(operations.length - before).toBeGreaterThan(10)
    for (let count = before; count <= operations.length; count += 1) {
      const fs = SimFileSystem.after(operations, count)
      fs.crash()
      await check(await openRig({ zstd, fs, store }))
    }
  }, 90_000)
})

describe('below the recovery point', () => {
  test('a flipped byte is rot: its range is named, the rest is served, and nothing is cut', async () => {
    const rig = await openRig({ zstd })
    const sent = await fill(rig, { count: 6 })
    await rig.store.close()
    flip(rig, FIRST_LOG, startOf(sent, 3) + 100)
    const bytes = rig.sim.fs.getFile(FIRST_LOG)
    const next = await rig.reopen()
    expect((await readAll(next.store)).missing).toEqual([{ fromOffset: 3, toOffset: 4, reason: 'damaged or removed' }])
    expect(await offsetsOf(next)).toEqual([0, 1, 2, 4, 5])
    expect(next.store.alarms().map((alarm) => alarm.code)).toEqual(['DATA_DAMAGED'])
    expect(rig.sim.fs.getFile(FIRST_LOG)).toEqual(bytes)
    expect(next.store.streams.get(sent[0]?.source.streamId ?? Buffer.alloc(16))?.position).toBe(sent[5]?.source.end)
  })

  test('also in the length field, and in a sealed segment', async () => {
    const rig = await openRig({ zstd, store: { defaults: { partitions: 1, segmentBytes: 4096, segmentAgeMs: 1e9, retentionBytes: undefined, retentionAgeMs: undefined } } })
    const sent = await fill(rig, { count: 12 })
    flip(rig, FIRST_LOG, startOf(sent, 1) + 9)
    expect(await offsetsOf(rig)).toEqual([0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
    await rig.store.close()
    const next = await rig.reopen()
    expect(await offsetsOf(next)).toEqual([0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
  })

  test('a synced tail that is gone leaves its offsets unused and its positions lower, so that agents send again', async () => {
    const rig = await openRig({ zstd })
    const sent = await fill(rig, { count: 4 })
    await rig.sim.clock.advance(61_000)
    await rig.store.maintain()
    const more = rig.batch({ previous: sent[3] ?? rig.batch(), lines: ['five'] })
    await rig.store.append({ ...more, batch: Buffer.from(more.batch) })
    await rig.store.close()
    rig.sim.fs.putFile(FIRST_LOG, (rig.sim.fs.getFile(FIRST_LOG) ?? Buffer.alloc(0)).subarray(0, startOf(sent, 4)))
    const next = await rig.reopen()
    expect(next.store.logEpoch).toBe(2)
    expect(next.store.watermarks('app', 0).highWatermark).toBe(5)
    expect(next.store.alarms().map((alarm) => alarm.code)).toEqual(['DATA_DAMAGED'])
    expect(await next.store.append(more)).toMatchObject({ kind: 'ok', baseOffset: 5 })
  })

  test('a missing segment is noticed at the start and by readers', async () => {
    const rig = await openRig({ zstd, store: { defaults: { partitions: 1, segmentBytes: 4096, segmentAgeMs: 1e9, retentionBytes: undefined, retentionAgeMs: undefined } } })
    await fill(rig, { count: 20 })
    const [, second, third] = rig.store.segments('app', 0)
    await rig.store.close()
    if (second === undefined || third === undefined) throw new Error('too few segments')
    await rig.sim.fs.remove(second.files.log)
    const next = await rig.reopen()
    const { missing } = await readAll(next.store)
    expect(missing).toEqual([{ fromOffset: second.baseOffset, toOffset: third.baseOffset, reason: 'damaged or removed' }])
    expect(next.store.alarms().map((alarm) => alarm.code)).toEqual(['DATA_DAMAGED'])
  })

  test('a segment that goes missing under a running store is named, and the others are read', async () => {
    const rig = await openRig({ zstd, store: { defaults: { partitions: 1, segmentBytes: 4096, segmentAgeMs: 1e9, retentionBytes: undefined, retentionAgeMs: undefined } } })
    await fill(rig, { count: 20 })
    const [, second] = rig.store.segments('app', 0)
    if (second === undefined) throw new Error('too few segments')
    await rig.sim.fs.remove(second.files.log)
    const { missing } = await readAll(rig.store)
    expect(missing).toEqual([{ fromOffset: second.baseOffset, toOffset: second.nextOffset, reason: 'its file is missing' }])
    expect(rig.store.topic('app')?.partitions[0]?.state).toBe('damaged')
  })

  test('a bad index or meta file is made again, byte for byte', async () => {
    const rig = await openRig({ zstd, store: { defaults: { partitions: 1, segmentBytes: 32_768, segmentAgeMs: 1e9, retentionBytes: undefined, retentionAgeMs: undefined } } })
    await fill(rig, { count: 150 })
    const [first] = rig.store.segments('app', 0)
    if (first === undefined) throw new Error('no segment')
    const before = [first.files.index, first.files.timeIndex].map((path) => rig.sim.fs.getFile(path))
    await rig.store.close()
    rig.sim.fs.putFile(first.files.index, Buffer.alloc(8, 1))
    await rig.sim.fs.remove(first.files.timeIndex)
    flip(rig, first.files.meta, 20)
    const next = await rig.reopen()
    expect((await readAll(next.store)).missing).toEqual([])
    expect([first.files.index, first.files.timeIndex].map((path) => next.sim.fs.getFile(path))).toEqual(before)
    next.sim.fs.putFile(first.files.index, Buffer.alloc(8, 1))
    await next.store.close()
    const third = await rig.reopen()
    expect((await readAll(third.store)).missing).toEqual([])
    expect(third.sim.fs.getFile(first.files.index)).toEqual(before[0])
  })

  test('a lost recovery point costs a longer look, nothing else', async () => {
    const rig = await openRig({ zstd })
    await fill(rig, { count: 6 })
    await rig.store.close()
    rig.sim.fs.putFile(`${DATA}/topics/app-0/recovery-point`, Buffer.alloc(5000))
    const next = await rig.reopen()
    expect(await offsetsOf(next)).toEqual([0, 1, 2, 3, 4, 5])
    expect(next.store.alarms()).toEqual([])
  })
})

describe('snapshots', () => {
  const retained = { partitions: 1, segmentBytes: 4096, segmentAgeMs: 1e9, retentionBytes: 4096, retentionAgeMs: undefined }

  async function retainedRig(): Promise<{ rig: Rig; sent: SealedBatch[] }> {
    const rig = await openRig({ zstd, store: { defaults: retained } })
    const sent = await fill(rig, { count: 30, streams: 30 })
    await rig.store.maintain()
    expect(rig.store.watermarks('app', 0).logStartOffset).toBeGreaterThan(0)
    return { rig, sent }
  }

  function spoilSnapshots(rig: Rig): void {
    for (const path of rig.sim.fs.files().keys()) if (path.endsWith('.snapshot')) flip(rig, path, 30)
  }

  test('positions of streams whose last batch was dropped come from them', async () => {
    const { rig, sent } = await retainedRig()
    rig.sim.fs.crash()
    const next = await rig.reopen()
    for (const input of sent) expect(next.store.streams.get(input.source.streamId)?.position).toBe(input.source.end)
  })

  test('all bad and a log that does not reach back: no start, unless duplicates are accepted', async () => {
    const { rig, sent } = await retainedRig()
    await rig.store.close()
    spoilSnapshots(rig)
    await expect(rig.reopen()).rejects.toMatchObject({ code: 'RESTORE_REQUIRED' })
    const next = await rig.reopen({ acceptDuplicates: true })
    expect(next.store.logEpoch).toBe(2)
    expect(next.store.alarms().map((alarm) => alarm.code)).toContain('SNAPSHOT_BAD')
    expect(next.store.streams.get(sent[29]?.source.streamId ?? Buffer.alloc(16))?.position).toBe(sent[29]?.source.end)
    expect(next.store.streams.get(sent[0]?.source.streamId ?? Buffer.alloc(16))).toBeUndefined()
    await next.store.close()
    const third = await rig.reopen()
    expect(third.store.logEpoch).toBe(2)
  })

  test('all bad and a log that reaches back to 0: the fold is the same', async () => {
    const rig = await openRig({ zstd })
    await fill(rig, { count: 8, streams: 3 })
    const states = [...rig.store.streams.list()]
    await rig.store.close()
    spoilSnapshots(rig)
    const next = await rig.reopen()
    expect([...next.store.streams.list()]).toEqual(states)
  })

  test('the newest bad: the older one and the log give the same', async () => {
    const { rig } = await retainedRig()
    await rig.sim.clock.advance(61_000)
    const extra = rig.batch({ inode: 999n, lines: ['extra'] })
    await rig.store.append(extra)
    const states = [...rig.store.streams.list()]
    await rig.store.close()
    const names = [...rig.sim.fs.files().keys()].filter((path) => path.endsWith('.snapshot'))
    expect(names).toHaveLength(2)
    const newest = names.sort((a, b) => Number(/(\d+)\.snapshot/.exec(b)?.[1]) - Number(/(\d+)\.snapshot/.exec(a)?.[1]))[0] ?? ''
    flip(rig, newest, 30)
    const next = await rig.reopen()
    expect([...next.store.streams.list()].map((state) => state.position)).toEqual(states.map((state) => state.position))
    expect(next.store.alarms().map((alarm) => alarm.code)).toEqual(['SNAPSHOT_BAD'])
  })
})

describe('settings files', () => {
  test('a bad topic file is reported, and the data served all the same', async () => {
    const rig = await openRig({ zstd })
    const sent = await fill(rig, { count: 3 })
    await rig.store.close()
    rig.sim.fs.putFile(`${DATA}/topics/app.json`, Buffer.from('{'))
    const next = await rig.reopen()
    expect(await offsetsOf(next)).toEqual([0, 1, 2])
    expect(next.store.alarms().map((alarm) => alarm.code)).toContain('TOPIC_FILE_BAD')
    expect(await next.store.append(rig.batch({ previous: sent[2] ?? rig.batch() }))).toMatchObject({ kind: 'ok', baseOffset: 3 })
  })

  test('topics without collector.json are not taken over under a new cluster id', async () => {
    const rig = await openRig({ zstd })
    await fill(rig, { count: 1 })
    await rig.store.close()
    await rig.sim.fs.remove(`${DATA}/collector.json`)
    await expect(rig.reopen()).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
  })
})

test('an offset that is behind the log is refused, one before its start begins at the start and says so', async () => {
  const rig = await openRig({ zstd, store: { defaults: { partitions: 1, segmentBytes: 4096, segmentAgeMs: 1e9, retentionBytes: 4096, retentionAgeMs: undefined } } })
  await fill(rig, { count: 20 })
  await rig.store.maintain()
  const { logStartOffset } = rig.store.watermarks('app', 0)
  const result = await rig.store.read({ topic: 'app', partition: 0, offset: toOffset(0), bytesMax: 1 })
  expect(result.missing).toEqual([{ fromOffset: 0, toOffset: logStartOffset, reason: 'dropped by retention' }])
  expect(result.nextOffset).toBe(logStartOffset + 1)
  expect(rig.store.alarms()).toEqual([])
})
