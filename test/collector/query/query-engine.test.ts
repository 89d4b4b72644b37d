import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { overridden } from '../../overridden.ts'
import { ask, engineOn, fillLog, nameOf, naiveOrder, tinySizes, type NaiveRecord, type TestBatch } from './query-fixture.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

const keys = ['web-1:/var/log/a.log', 'web-2:/var/log/b.log', 'db-1:/srv/a.log', '']

const anyBatch: fc.Arbitrary<TestBatch> = fc.record({
  topic: fc.constantFrom('app', 'web'),
  partition: fc.integer({ min: 0, max: 2 }),
  key: fc.constantFrom(...keys),
  records: fc.array(
    fc.record({ line: fc.string({ unit: fc.constantFrom('a', 'b', 'A', ' ', '_', '"', '\\', '\t', 'é'), maxLength: 12 }), ts: fc.integer({ min: 0, max: 60 }) }),
    { minLength: 1, maxLength: 12 },
  ),
})

interface Filters {
  readonly pattern: string
  readonly invert: boolean
  readonly since: number | undefined
  readonly until: number | undefined
  readonly host: string | undefined
  readonly topic: string | undefined
}

const anyFilters: fc.Arbitrary<Filters> = fc.record({
  pattern: fc.constantFrom('', 'a', 'ab', 'é', '"', 'zz'),
  invert: fc.boolean(),
  since: fc.option(fc.integer({ min: 0, max: 60 }), { nil: undefined }),
  until: fc.option(fc.integer({ min: 0, max: 60 }), { nil: undefined }),
  host: fc.option(fc.constantFrom('web-*', 'db-1'), { nil: undefined }),
  topic: fc.option(fc.constantFrom('a*', '*'), { nil: undefined }),
})

function parametersOf({ since, until, ...filters }: Filters): string {
  const parameters = new URLSearchParams({ pattern: filters.pattern, invert: filters.invert ? '1' : '0' })
  const [from, to] = since !== undefined && until !== undefined && since > until ? [until, since] : [since, until]
  if (from !== undefined) parameters.set('since', String(from))
  if (to !== undefined) parameters.set('until', String(to))
  if (filters.host !== undefined) parameters.set('host', filters.host)
  if (filters.topic !== undefined) parameters.set('topic', filters.topic)
  return parameters.toString()
}

/** The naive model: every filter on every record, then one big sort. */
function expected(records: readonly NaiveRecord[], filters: Filters): NaiveRecord[] {
  const { since, until } = filters
  const [from, to] = since !== undefined && until !== undefined && since > until ? [until, since] : [since, until]
  return naiveOrder(
    records.filter(
      (record) =>
        record.line.includes(filters.pattern) !== filters.invert &&
        record.arrivalMs >= (from ?? -Infinity) &&
        record.arrivalMs < (to ?? Infinity) &&
        (filters.host === undefined || (filters.host === 'db-1' ? record.host === 'db-1' : record.host.startsWith('web-'))) &&
        (filters.topic !== 'a*' || record.topic === 'app'),
    ),
  )
}

describe('a query', () => {
  test.each([{ sizes: undefined }, { sizes: tinySizes }])('gives what a naive filter and sort gives, in every direction (sizes $sizes)', async ({ sizes }) => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyBatch, { maxLength: 14 }), anyFilters, fc.integer({ min: 1, max: 30 }), async (batches, filters, n) => {
        const { log, records } = await fillLog(batches, zstd)
        const engine = engineOn(log, zstd, sizes)
        const wanted = expected(records, filters).map(nameOf)
        const parameters = parametersOf(filters)

        const all = await ask(engine, parameters)
        expect(all.rows.map(nameOf)).toEqual(wanted)
        expect(all.end).toMatchObject({ matched: wanted.length, truncated: false, missing: [] })

        expect((await ask(engine, `${parameters}&reverse=1`)).rows.map(nameOf)).toEqual(wanted.toReversed())
        expect((await ask(engine, `${parameters}&limit=${n}`)).rows.map(nameOf)).toEqual(wanted.slice(0, n))
        expect((await ask(engine, `${parameters}&last=${n}`)).rows.map(nameOf)).toEqual(wanted.slice(-n))
        expect((await ask(engine, `${parameters}&reverse=1&limit=${n}`)).rows.map(nameOf)).toEqual(wanted.toReversed().slice(0, n))
        expect((await ask(engine, `${parameters}&count=1`)).end.matched).toBe(wanted.length)
      }),
      { numRuns: 150 },
    )
  })

  test('goes on from the cursor of a limited answer without a gap or a repeat', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyBatch, { maxLength: 12 }), fc.integer({ min: 1, max: 7 }), async (batches, n) => {
        const { log, records } = await fillLog(batches, zstd)
        const engine = engineOn(log, zstd, tinySizes)
        const got: string[] = []
        let cursor = ''
        for (let page = 0; page <= records.length; page += 1) {
          const answer = await ask(engine, `limit=${n}${cursor === '' ? '' : `&from=${encodeURIComponent(cursor)}`}`)
          got.push(...answer.rows.map(nameOf))
          cursor = answer.end.cursor
          if (!answer.end.truncated) break
        }
        expect(got).toEqual(naiveOrder(records).map(nameOf))
      }),
      { numRuns: 60 },
    )
  })

  test('shows the neighbours of a match as grep does, across batches and pages', async () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 3 })
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(text, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 8 }), fc.integer({ min: 0, max: 4 }), fc.integer({ min: 0, max: 4 }),
        async (groups, before, after) => {
          let ts = 0
          const batches = groups.map((lines) => ({ topic: 'app', partition: 0, key: 'web-1:/a.log', records: lines.map((line) => ({ line, ts: (ts += 1) })) }))
          const { log, records } = await fillLog(batches, zstd)
          const isMatch = records.map(({ line }) => line.includes('a'))
          const shown = records.filter((_, at) => isMatch.some((match, other) => match && at - other <= after && other - at <= before))
          for (const sizes of [tinySizes, undefined]) {
            const answer = await ask(engineOn(log, zstd, sizes), `pattern=a&before=${before}&after=${after}`)
            expect(answer.rows.map(nameOf)).toEqual(shown.map(nameOf))
            expect(answer.rows.map((row) => row.context === true)).toEqual(shown.map(({ line }) => !line.includes('a')))
            expect(answer.end.matched).toBe(isMatch.filter(Boolean).length)
            const reverse = await ask(engineOn(log, zstd, sizes), `pattern=a&before=${before}&after=${after}&reverse=1`)
            expect(reverse.rows.map(nameOf)).toEqual(shown.toReversed().map(nameOf))
            const last = await ask(engineOn(log, zstd, sizes), `pattern=a&before=${before}&after=${after}&last=1`)
            const newest = isMatch.lastIndexOf(true)
            expect(last.rows.map(nameOf)).toEqual(newest < 0 ? [] : records.slice(Math.max(0, newest - before), newest + after + 1).map(nameOf))
          }
        },
      ),
      { numRuns: 60 },
    )
  })

  test('keeps the neighbours of two sources apart', async () => {
    const line = (key: string, at: number, text: string): TestBatch => ({ topic: 'app', partition: 0, key, records: [{ line: text, ts: at }] })
    const { log } = await fillLog(
      [line('a:/x', 1, 'one'), line('b:/y', 2, 'two'), line('a:/x', 3, 'hit'), line('b:/y', 4, 'three'), line('a:/x', 5, 'four')], zstd,
    )
    const { rows } = await ask(engineOn(log, zstd), 'pattern=hit&before=1&after=1')
    expect(rows.map((row) => row.line)).toEqual(['one', 'hit', 'four'])
  })

  test('gives trailing context after the limit is reached', async () => {
    const records = ['hit', 'x', 'hit', 'y'].map((line, at) => ({ line, ts: at }))
    const { log } = await fillLog([{ topic: 'app', partition: 0, key: 'a:/x', records }], zstd)
    const { rows, end } = await ask(engineOn(log, zstd), 'pattern=hit&after=2&limit=1')
    expect(rows.map((row) => row.line)).toEqual(['hit', 'x', 'hit'])
    expect(end).toMatchObject({ matched: 1, truncated: true })
  })

  test('ends at the offsets of its beginning, however much comes meanwhile', async () => {
    const batch = { topic: 'app', partition: 0, key: 'a:/x', records: [{ line: 'old', ts: 1 }] }
    const { log } = await fillLog([batch], zstd)
    const engine = engineOn(log, zstd)
    const { parseQuery } = await import('../../../collector/query/parse-query.ts')
    const prepared = await engine.prepare(parseQuery(new URLSearchParams()))
    const { encodeBatch, parseAnswer } = await import('./query-fixture.ts')
    await log.appendPlain({ topic: 'app', partition: 0, batch: encodeBatch({ key: 'a:/x', records: [{ line: 'new', ts: 2 }] }, zstd) })
    const pieces: Uint8Array[] = []
    for await (const piece of engine.answer(prepared, new AbortController().signal)) pieces.push(piece)
    const answer = parseAnswer(Buffer.concat(pieces))
    expect(answer.rows.map(({ line }) => line)).toEqual(['old'])
    expect(answer.end.cursor).toBe('app:0@1,app:1@0,app:2@0,app:3@0')
  })

  test('gives lines that are not UTF-8 with their bytes', async () => {
    const bytes = Buffer.from([0x61, 0xff, 0x00, 0x22, 0x62])
    const { log } = await fillLog([{ topic: 'app', partition: 0, key: 'a:/x', records: [{ line: bytes, ts: 1 }] }], zstd)
    const { rows } = await ask(engineOn(log, zstd), '')
    expect(rows).toEqual([{ topic: 'app', partition: 0, offset: 0, ts: 1, host: 'a', path: '/x', line: 'a\ufffd\0"b', b64: bytes.toString('base64') }])
  })

  test('goes on behind a batch that does not decompress, and names it as missing', async () => {
    const key = 'a:/x'
    const { log } = await fillLog([{ topic: 'app', partition: 0, key, records: [{ line: 'before', ts: 1 }] }], zstd)
    const { encodeBatch } = await import('./query-fixture.ts')
    const broken = encodeBatch({ key, records: [{ line: 'lost', ts: 2 }, { line: 'lost', ts: 2 }] }, zstd)
    broken.fill(0xff, 70)
    await log.appendPlain({ topic: 'app', partition: 0, batch: broken })
    await log.appendPlain({ topic: 'app', partition: 0, batch: encodeBatch({ key, records: [{ line: 'after', ts: 3 }] }, zstd) })
    for (const parameters of ['', 'reverse=1', 'last=10']) {
      const { rows, end } = await ask(engineOn(log, zstd), parameters)
      expect(rows.map(({ line }) => line).toSorted()).toEqual(['after', 'before'])
      expect(end.missing).toMatchObject([{ topic: 'app', partition: 0, fromOffset: 1, toOffset: 3 }])
    }
  })

  test('stops reading when its consumer leaves', async () => {
    const batches = Array.from({ length: 200 }, (_, at) => ({ topic: 'app', partition: 0, key: 'a:/x', records: [{ line: `line ${at}`.padEnd(300), ts: at }] }))
    const { log } = await fillLog(batches, zstd)
    let reads = 0
    const counting = overridden(log, {
      read: (request: Parameters<typeof log.read>[0]) => {
        reads += 1
        return log.read(request)
      },
    })
    const engine = engineOn(counting, zstd, tinySizes)
    const { parseQuery } = await import('../../../collector/query/parse-query.ts')
    for await (const piece of engine.answer(await engine.prepare(parseQuery(new URLSearchParams())), new AbortController().signal)) {
      expect(piece.length).toBeGreaterThan(0)
      break
    }
    expect(reads).toBeLessThan(20)
  })

  test('finds the last lines by a few small reads', async () => {
    const batches = Array.from({ length: 300 }, (_, at) => ({ topic: 'app', partition: 0, key: 'a:/x', records: Array.from({ length: 50 }, (_row, row) => ({ line: `line ${at} ${row} ${Math.sin(at * row)}`, ts: at })) }))
    const { log } = await fillLog(batches, zstd)
    const sizes = { ...tinySizes, unitBytesFirst: 4000, unitBytesMax: 16_000, pageBytesMax: 100_000, memoryBytes: 1_000_000 }
    const { rows, end } = await ask(engineOn(log, zstd, sizes), 'last=20&topic=app')
    expect(rows.map(({ line }) => line)).toEqual(batches.at(-1)?.records.slice(-20).map(({ line }) => line))
    expect(end.batchesRead).toBeLessThan(30)
    expect(end.truncated).toBe(true)
  })
})

describe('a query is refused', () => {
  const refusals: readonly (readonly [string, string, RegExp])[] = [
    ['pattern=a(b&mode=regex', 'INVALID_QUERY', /missing closing \)/],
    ['pattern=(?=x)&mode=regex', 'INVALID_QUERY', /column 1/],
    ['pattern=%5C1&mode=regex', 'INVALID_QUERY', /./],
    ['hots=web-1', 'INVALID_QUERY', /there is no parameter "hots"/],
    ['limit=-1', 'INVALID_QUERY', /not a count/],
    ['limit=1&last=1', 'INVALID_QUERY', /exclude/],
    ['since=yesterday', 'INVALID_QUERY', /milliseconds/],
    ['from=app:0', 'INVALID_QUERY', /topic:partition@offset/],
    ['from=other:0@1', 'INVALID_QUERY', /none of the partitions/],
    ['from=app:0@99', 'OFFSET_OUT_OF_RANGE', /the cursor says 99/],
    ['topic=nothing', 'UNKNOWN_TOPIC', /"nothing"/],
    ['host=%7Bweb', 'INVALID_QUERY', /without its }/],
    ['path=%5Bweb', 'INVALID_QUERY', /without its ]/],
    ['before=100000', 'INVALID_QUERY', /over 1000/],
    ['partition=0-99999', 'INVALID_QUERY', /over/],
    [`pattern=${'x'.repeat(5000)}`, 'INVALID_QUERY', /5000 bytes/],
    [Array.from({ length: 65 }, () => 'pattern=x').join('&'), 'INVALID_QUERY', /65 patterns/],
  ]
  test.each(refusals)('for %s with %s', async (parameters, code, message) => {
    const { log } = await fillLog([{ topic: 'app', partition: 0, key: 'a:/x', records: [{ line: 'x', ts: 1 }] }], zstd)
    const error = await ask(engineOn(log, zstd), parameters).then(
      () => undefined,
      (reason: unknown) => reason,
    )
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) as string })
  })
})
