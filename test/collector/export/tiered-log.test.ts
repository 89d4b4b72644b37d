import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { AppError } from '../../../shared/errors.ts'
import { toOffset } from '../../../shared/types.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { ask, engineOn, fill, nameOf, naiveOrder, tinySizes, type TestBatch } from '../query/query-fixture.ts'
import { noise, type StoredBatch } from '../storage/store-rig.ts'
import { openTieredRig, readBack, type TieredRig } from './tiered-rig.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

/** One batch of about 200 bytes for each number; timestamps are the numbers. */
function batches(count: number, options: { from?: number; topic?: string } = {}): TestBatch[] {
  const { from = 0, topic = 'app' } = options
  return Array.from({ length: count }, (_each, at) => ({ topic, partition: 0, key: '', records: [{ line: `${from + at} ${noise(120, from + at + 1)}`, ts: from + at }] }))
}

function bytesOf(stored: readonly StoredBatch[]): string {
  return Buffer.concat(stored.map(({ batch }) => batch)).toString('base64')
}

/** Sixty records; those from 40 on are on this disk, since retention leaves the newest sealed segment alone. */
async function dropped(): Promise<TieredRig & { readonly before: readonly StoredBatch[] }> {
  const rig = await openTieredRig({ zstd })
  await fill(rig.store, batches(50), zstd)
  await rig.exportAndDrop()
  await fill(rig.store, batches(10, { from: 50 }), zstd)
  rig.reads.length = 0
  const before = (await readBack(rig.tiered)).batches
  return { ...rig, before }
}

async function flip(rig: TieredRig, path: string, at: number): Promise<void> {
  const file = await rig.sim.fs.open(path, 'readWrite')
  const byte = Buffer.alloc(1)
  await file.read(byte, { offset: 0, length: 1, position: at })
  await file.write([Buffer.from([(byte[0] ?? 0) ^ 0xff])], at)
  await file.close()
}

describe('reading back', () => {
  test('gives the same batches as before retention dropped them, byte for byte', async () => {
    const rig = await openTieredRig({ zstd })
    await fill(rig.store, batches(60), zstd)
    const before = await readBack(rig.store)
    await rig.exportAndDrop()
    expect(rig.store.watermarks('app', 0).logStartOffset).toBe(50)
    const after = await readBack(rig.tiered)
    expect(after.missing).toEqual([])
    expect(bytesOf(after.batches)).toBe(bytesOf(before.batches))
    await rig.close()
  })

  test('tells where this disk begins and where reading can begin', async () => {
    const rig = await dropped()
    expect(rig.tiered.watermarks('app', 0)).toEqual({ logStartOffset: 0, localLogStartOffset: 40, highWatermark: 60, logEndOffset: 60 })
    expect(rig.tiered.topic('app')?.partitions[0]).toMatchObject({ logStartOffset: 0, localLogStartOffset: 40 })
    expect(rig.store.topic('app')?.partitions[0]).toMatchObject({ logStartOffset: 40, localLogStartOffset: 40 })
    const segments = rig.tiered.segments('app', 0)
    let expected = 0
    for (const { baseOffset, nextOffset } of segments) {
      expect(baseOffset).toBe(expected)
      expected = nextOffset
    }
    expect(expected).toBe(60)
    await rig.close()
  })

  test('a query over both gives what a naive filter and sort gives, in every direction', async () => {
    const anyBatches: fc.Arbitrary<TestBatch[]> = fc.array(
      fc.record({
        topic: fc.constant('app'),
        partition: fc.integer({ min: 0, max: 1 }),
        key: fc.constantFrom('web-1:/a.log', 'web-2:/b.log'),
        records: fc.array(fc.record({ line: fc.string({ minLength: 1, maxLength: 80 }), ts: fc.oneof({ weight: 5, arbitrary: fc.integer({ min: 1000, max: 1060 }) }, fc.integer({ min: 0, max: 9000 })) }), { minLength: 1, maxLength: 20 }),
      }),
      { minLength: 1, maxLength: 25 },
    )
    await fc.assert(
      fc.asyncProperty(anyBatches, anyBatches, fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 2000 }), async (old, fresh, n, since) => {
        const rig = await openTieredRig({ zstd })
        const records = [...(await fill(rig.store, old, zstd))]
        await rig.exportAndDrop()
        const maxima = new Map<number, number>()
        for (const { partition, ts } of records) maxima.set(partition, Math.max(ts, maxima.get(partition) ?? -Infinity))
        for (const record of await fill(rig.store, fresh, zstd)) records.push({ ...record, key: Math.max(record.key, maxima.get(record.partition) ?? -Infinity) })
        const all = naiveOrder(records).map(nameOf)
        const late = naiveOrder(records.filter(({ arrivalMs }) => arrivalMs >= since)).map(nameOf)
        for (const sizes of [undefined, tinySizes]) {
          const engine = engineOn(rig.tiered, zstd, sizes)
          expect((await ask(engine, '')).rows.map(nameOf)).toEqual(all)
          expect((await ask(engine, 'reverse=1')).rows.map(nameOf)).toEqual(all.toReversed())
          expect((await ask(engine, `last=${n}`)).rows.map(nameOf)).toEqual(all.slice(-n))
          expect((await ask(engine, `since=${since}&last=${n}`)).rows.map(nameOf)).toEqual(late.slice(-n))
          expect((await ask(engine, `since=${since}`)).end.missing).toEqual([])
        }
        await rig.close()
      }),
      { numRuns: 12 },
    )
  }, 60_000)

  test('looks only into the segments that reach the time asked for', async () => {
    const rig = await dropped()
    rig.reads.length = 0
    expect(await rig.tiered.offsetForTimestamp('app', 0, 25)).toBe(25)
    expect(new Set(rig.reads.map((path) => path.replace(/\.[a-z]+$/, ''))).size).toBeLessThanOrEqual(1)
    expect(await rig.tiered.offsetForTimestamp('app', 0, 55)).toBe(55)
    await rig.close()
  })

  test('a store that does not answer is asked once, what it holds is missing with the reason, and the rest is given', async () => {
    const rig = await openTieredRig({ zstd, cacheBytesMax: 0 })
    await fill(rig.store, batches(50), zstd)
    await rig.exportAndDrop()
    await fill(rig.store, batches(10, { from: 50 }), zstd)
    rig.failure.now = new AppError('CANNOT_CONNECT', 'nobody is there')
    const { rows, end } = await ask(engineOn(rig.tiered, zstd), '')
    expect(rows.map(({ offset }) => offset)).toEqual(Array.from({ length: 20 }, (_each, at) => 40 + at))
    expect(end.missing).toEqual([{ topic: 'app', partition: 0, fromOffset: 0, toOffset: 40, reason: expect.stringContaining('nobody is there') as string }])
    rig.failure.now = undefined
    expect((await readBack(rig.tiered)).missing).not.toEqual([])
    await rig.sim.clock.advance(31_000)
    expect((await readBack(rig.tiered)).missing).toEqual([])
    await rig.close()
  })

  test('a segment that is gone from the store is missing, and those around it are read', async () => {
    const rig = await openTieredRig({ zstd, cacheBytesMax: 0 })
    await fill(rig.store, batches(60), zstd)
    await rig.exportAndDrop()
    const second = [...rig.exporter.segments('app', 0).values()][1]?.key
    await rig.remoteDisk.remove(`/hdfs/raw/app/p=0/${String(second?.baseOffset).padStart(20, '0')}-${String(second?.nextOffset).padStart(20, '0')}-1.log`)
    const { batches: read, missing } = await readBack(rig.tiered)
    expect(missing).toEqual([{ fromOffset: second?.baseOffset, toOffset: second?.nextOffset, reason: expect.stringContaining('can not be read back') as string }])
    expect(read.length).toBe(60 - ((second?.nextOffset ?? 0) - (second?.baseOffset ?? 0)))
    await rig.close()
  })

  test('damage on the store is named, never given', async () => {
    const rig = await openTieredRig({ zstd, cacheBytesMax: 0 })
    await fill(rig.store, batches(60), zstd)
    await rig.exportAndDrop()
    const path = '/hdfs/raw/app/p=0/'
    const name = (await rig.remoteDisk.list(path)).map((each) => each.name).sort().find((each) => each.endsWith('.log')) ?? ''
    const file = await rig.remoteDisk.open(path + name, 'readWrite')
    await file.write([Buffer.from('rotten')], 300)
    await file.close()
    const { batches: read, missing } = await readBack(rig.tiered)
    expect(missing.reduce((sum, { fromOffset, toOffset }) => sum + toOffset - fromOffset, 0)).toBe(60 - read.length)
    expect(read.length).toBeGreaterThan(50)
    expect(read.length).toBeLessThan(60)
    await rig.close()
  })

  test('a block that rots in the cache is fetched again', async () => {
    const rig = await dropped()
    const asked = rig.reads.length
    expect(bytesOf((await readBack(rig.reopened())).batches)).toBe(bytesOf(rig.before))
    expect(rig.reads.length).toBe(asked)
    const blocks = await rig.sim.fs.list('/data/cache')
    expect(blocks.length).toBe(asked)
    for (const { name } of blocks) await flip(rig, `/data/cache/${name}`, 3)
    expect(bytesOf((await readBack(rig.reopened())).batches)).toBe(bytesOf(rig.before))
    expect(rig.reads.length).toBe(2 * asked)
    await rig.close()
  })

  test('damage in a local segment is filled from its export', async () => {
    const rig = await openTieredRig({ zstd })
    await fill(rig.store, batches(60), zstd)
    const before = await readBack(rig.store)
    await rig.exporter.exportNow()
    const segment = rig.store.segments('app', 0)[1]
    expect(segment?.isSealed).toBe(true)
    await flip(rig, segment?.files.log ?? '', Math.floor((segment?.sizeBytes ?? 0) / 2))
    expect((await readBack(rig.store)).missing.length).toBe(1)
    const after = await readBack(rig.tiered)
    expect(after.missing).toEqual([])
    expect(bytesOf(after.batches)).toBe(bytesOf(before.batches))
    await rig.close()
  })

  test('nothing of a deleted topic comes back when its name is used again', async () => {
    const rig = await dropped()
    await rig.store.deleteTopic('app')
    await rig.store.createTopic('app', {})
    await fill(rig.store, batches(3, { from: 100 }), zstd)
    expect(rig.tiered.watermarks('app', 0)).toEqual({ logStartOffset: 60, localLogStartOffset: 60, highWatermark: 63, logEndOffset: 63 })
    const { batches: read, missing } = await readBack(rig.tiered)
    expect(read.map(({ baseOffset }) => baseOffset)).toEqual([60, 61, 62])
    expect(missing).toEqual([{ fromOffset: 0, toOffset: 60, reason: expect.stringContaining('retention') as string }])
    await rig.close()
  })

  test('reads up to an end that is asked for, on either side of where this disk begins', async () => {
    const rig = await dropped()
    const read = async (offset: number, endOffset: number): Promise<number> => (await rig.tiered.read({ topic: 'app', partition: 0, offset: toOffset(offset), endOffset: toOffset(endOffset), bytesMax: 1 << 20 })).nextOffset
    expect(await read(3, 5)).toBe(5)
    expect(await read(52, 55)).toBe(55)
    expect(await read(10, 10)).toBe(10)
    await expect(rig.tiered.read({ topic: 'app', partition: 0, offset: toOffset(61), bytesMax: 1 })).rejects.toMatchObject({ code: 'OFFSET_OUT_OF_RANGE' })
    await rig.close()
  })
})
