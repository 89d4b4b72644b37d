import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { TimeCounts } from '../../../collector/query/time-counts.ts'
import { parseJson } from '../../../shared/wire.ts'
import { timeCountSchema, type TimeCount } from '../../../shared/time-count.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { ask, engineOn, fillLog, tinySizes, type NaiveRecord, type TestBatch } from './query-fixture.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

const anyBatch: fc.Arbitrary<TestBatch> = fc.record({
  topic: fc.constantFrom('app', 'web'),
  partition: fc.integer({ min: 0, max: 2 }),
  key: fc.constantFrom('web-1:/var/log/a.log', 'db-1:/srv/a.log', ''),
  records: fc.array(fc.record({ line: fc.string({ unit: fc.constantFrom('a', 'b', ' '), maxLength: 6 }), ts: fc.integer({ min: -3000, max: 6000 }) }), { minLength: 1, maxLength: 12 }),
})

function naive(records: readonly NaiveRecord[], pattern: string): TimeCount[] {
  const counts = new Map<number, number>()
  for (const { line, arrivalMs } of records) {
    if (!line.includes(pattern)) continue
    const second = Math.floor(arrivalMs / 1000) * 1000
    counts.set(second, (counts.get(second) ?? 0) + 1)
  }
  return [...counts].map(([ts, count]) => ({ ts, count })).toSorted((a, b) => a.ts - b.ts)
}

describe('countBy', () => {
  test.each([{ sizes: undefined }, { sizes: tinySizes }])('counts what a naive model counts, with or without a pattern (sizes $sizes)', async ({ sizes }) => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyBatch, { maxLength: 14 }), fc.constantFrom('', 'a', 'ab', 'zz'), async (batches, pattern) => {
        const { log, records } = await fillLog(batches, zstd)
        const { rows, end } = await ask(engineOn(log, zstd, sizes), `countBy=second&pattern=${pattern}`)
        const wanted = naive(records, pattern)
        expect(rows.map((row) => parseJson(timeCountSchema, JSON.stringify(row), 'row'))).toEqual(wanted)
        expect(end).toMatchObject({ matched: wanted.reduce((sum, { count }) => sum + count, 0), truncated: false, missing: [] })
      }),
      { numRuns: 150 },
    )
  })

  test('counts a batch by its header when all of it falls into one minute, and looks into those that cross one', async () => {
    const whole = Array.from({ length: 20 }, (_, at): TestBatch => ({ topic: 'app', partition: 0, key: 'a:/x', records: [{ line: 'x', ts: at * 60_000 }, { line: 'y', ts: at * 60_000 + 59_999 }] }))
    const across: TestBatch = { topic: 'app', partition: 0, key: 'a:/x', records: [{ line: 'x', ts: 1_259_999 }, { line: 'y', ts: 1_260_000 }] }
    const { log } = await fillLog([...whole, across], zstd)
    const { rows, end } = await ask(engineOn(log, zstd), 'countBy=minute')
    expect(rows).toEqual([...whole.map((_, at) => ({ ts: at * 60_000, count: 2 })), { ts: 1_200_000, count: 1 }, { ts: 1_260_000, count: 1 }])
    expect(end.batchesRead).toBe(1)
  })

  test.each(['countBy=fortnight', 'countBy=minute&limit=3', 'countBy=minute&last=3', 'countBy=minute&reverse=1', 'countBy=minute&count=1', 'countBy=minute&before=1'])('%s is refused', async (parameters) => {
    const { log } = await fillLog([{ topic: 'app', partition: 0, key: 'a:/x', records: [{ line: 'x', ts: 1 }] }], zstd)
    await expect(ask(engineOn(log, zstd), parameters)).rejects.toMatchObject({ code: 'INVALID_QUERY' })
  })
})

test('of too many stretches the oldest are kept, with exact counts, in whatever order they come', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 200 }), fc.integer({ min: 1, max: 6 }), (times, most) => {
      const counts = new TimeCounts(1, most)
      for (const time of times) counts.add(time, 1)
      const all = new Map<number, number>()
      for (const time of times) all.set(time, (all.get(time) ?? 0) + 1)
      const sorted = [...all].toSorted(([a], [b]) => a - b)
      expect(counts.pairs()).toEqual(sorted.slice(0, most))
      expect(counts.isTruncated).toBe(sorted.length > most)
    }),
  )
})
