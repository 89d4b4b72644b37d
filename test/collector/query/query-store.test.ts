import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { openRig } from '../storage/store-rig.ts'
import { ask, engineOn, fill, nameOf, naiveOrder, tinySizes, type TestBatch } from './query-fixture.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

/** Small segments, so that a query crosses several, with time and offset indexes that are not exact. */
const store = { defaults: { partitions: 4, segmentBytes: 2048, segmentAgeMs: 3_600_000, retentionBytes: undefined, retentionAgeMs: undefined } }

const anyBatches: fc.Arbitrary<TestBatch[]> = fc.array(
  fc.record({
    topic: fc.constant('app'),
    partition: fc.integer({ min: 0, max: 1 }),
    key: fc.constantFrom('web-1:/a.log', 'web-2:/b.log'),
    records: fc.array(fc.record({ line: fc.string({ minLength: 1, maxLength: 80 }), ts: fc.oneof({ weight: 5, arbitrary: fc.integer({ min: 1000, max: 1060 }) }, fc.integer({ min: 0, max: 9000 })) }), {
      minLength: 1, maxLength: 20,
    }),
  }),
  { minLength: 1, maxLength: 25 },
)

describe('a query over the embedded log', () => {
  test('gives what a naive filter and sort gives, across segments and in every direction', async () => {
    await fc.assert(
      fc.asyncProperty(anyBatches, fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 2000 }), async (batches, n, since) => {
        const rig = await openRig({ zstd, store })
        const records = await fill(rig.store, batches, zstd)
        const all = naiveOrder(records).map(nameOf)
        const late = naiveOrder(records.filter(({ arrivalMs }) => arrivalMs >= since)).map(nameOf)
        for (const sizes of [undefined, tinySizes]) {
          const engine = engineOn(rig.store, zstd, sizes)
          expect((await ask(engine, '')).rows.map(nameOf)).toEqual(all)
          expect((await ask(engine, 'reverse=1')).rows.map(nameOf)).toEqual(all.toReversed())
          expect((await ask(engine, `last=${n}`)).rows.map(nameOf)).toEqual(all.slice(-n))
          expect((await ask(engine, `since=${since}`)).rows.map(nameOf)).toEqual(late)
          expect((await ask(engine, `since=${since}&last=${n}`)).rows.map(nameOf)).toEqual(late.slice(-n))
        }
        await rig.store.close()
      }),
      { numRuns: 25 },
    )
  }, 60_000)

  test('names what retention dropped behind a cursor, and gives the rest', async () => {
    const rig = await openRig({ zstd, store: { defaults: { ...store.defaults, retentionBytes: 2048 } } })
    const batches = Array.from({ length: 40 }, (_, at) => ({ topic: 'app', partition: 0, key: '', records: [{ line: `${at} `.padEnd(120, String(Math.sin(at))), ts: at }] }))
    await fill(rig.store, batches, zstd)
    await rig.store.maintain()
    const { logStartOffset } = rig.store.watermarks('app', 0)
    expect(logStartOffset).toBeGreaterThan(0)
    const { rows, end } = await ask(engineOn(rig.store, zstd), 'from=app:0@0')
    expect(rows.map(({ offset }) => offset)).toEqual(Array.from({ length: 40 - logStartOffset }, (_, at) => logStartOffset + at))
    expect(end.missing).toMatchObject([{ topic: 'app', partition: 0, fromOffset: 0, toOffset: logStartOffset }])
    expect((await ask(engineOn(rig.store, zstd), '')).end.missing).toEqual([])
    await rig.store.close()
  })
})
