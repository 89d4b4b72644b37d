/** Labels in rows and as a filter, over batches that came through ingest. */
import { beforeAll, expect, test } from 'vitest'
import { createInProcessExecutor } from '../../../collector/query/in-process-executor.ts'
import { parseQuery } from '../../../collector/query/parse-query.ts'
import { QueryEngine } from '../../../collector/query/query-engine.ts'
import { encodeLabels } from '../../../shared/labels.ts'
import { queryEndSchema, queryRecordSchema, parseJson, type QueryRecord } from '../../../shared/wire.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { startApi } from '../../collector-api.ts'
import { sealedBatch, type SealedBatchOptions } from '../../sealed-batch.ts'

let zstd: Zstd
let ask: (parameters: string) => Promise<{ rows: QueryRecord[]; matched: number }>

beforeAll(async () => {
  zstd = await loadZstd()
  const api = startApi(zstd)
  const labelled = (labels: Record<string, string>, lines: readonly string[]): SealedBatchOptions => ({ zstd, lines, labels: encodeLabels(labels) ?? Buffer.alloc(0) })
  const first = sealedBatch(labelled({ env: 'prod', rack: 'r7' }, ['one', 'two']))
  const sent = await api.send([
    first,
    // The same stream after its labels were changed.
    sealedBatch({ ...labelled({ env: 'test' }, ['three']), previous: first }),
    sealedBatch({ zstd, inode: 9n, path: '/var/log/bare.log', lines: ['four'] }),
  ])
  expect(sent.status).toBe(200)
  await api.ask({ method: 'POST', path: '/v1/topics/app/lines', headers: { 'content-type': 'text/plain' }, body: 'five\n' })
  const engine = new QueryEngine({ log: api.log, clock: api.sim.clock, executor: createInProcessExecutor(zstd) })
  ask = async (parameters) => {
    const prepared = await engine.prepare(parseQuery(new URLSearchParams(parameters)))
    let text = ''
    for await (const piece of engine.answer(prepared, new AbortController().signal)) text += Buffer.from(piece).toString()
    const lines = text.trimEnd().split('\n')
    const { end } = parseJson(queryEndSchema, lines.pop() ?? '', 'end')
    return { rows: lines.map((line) => parseJson(queryRecordSchema, line, 'row')), matched: end.matched }
  }
})

async function linesOf(parameters: string): Promise<string[]> {
  return (await ask(parameters)).rows.map(({ line }) => line).toSorted((a, b) => (a < b ? -1 : 1))
}

test('rows carry the labels of their batch, and none where there are none', async () => {
  const { rows } = await ask('')
  const byLine = Object.fromEntries(rows.map(({ line, labels }) => [line, labels]))
  expect(byLine).toEqual({ one: { env: 'prod', rack: 'r7' }, two: { env: 'prod', rack: 'r7' }, three: { env: 'test' }, four: undefined, five: undefined })
})

test('a label asks for batches that have it, with that very value', async () => {
  expect(await linesOf('label=env%3Dprod')).toEqual(['one', 'two'])
  expect(await linesOf('label=env%3Dpro')).toEqual([])
  expect(await linesOf('label=env%3Dprod&label=rack%3Dr7')).toEqual(['one', 'two'])
  expect(await linesOf('label=env%3Dtest&label=rack%3Dr7')).toEqual([])
  expect(await linesOf('label=constructor%3D')).toEqual([])
})

test('a count looks at labels too', async () => {
  expect((await ask('count=1&label=env%3Dtest')).matched).toBe(1)
  expect((await ask('count=1')).matched).toBe(5)
})

test('what is no label is refused', () => {
  expect(() => parseQuery(new URLSearchParams('label=env'))).toThrow(/name=value/)
  expect(() => parseQuery(new URLSearchParams('label=%3Dx'))).toThrow(/name=value/)
})
