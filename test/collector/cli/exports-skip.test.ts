import { beforeAll, expect, test } from 'vitest'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { error, FakeCollector, json } from './fake-collector.ts'
import { cli } from './run-cli.ts'

let zstd: Zstd
beforeAll(async () => {
  zstd = await loadZstd()
})

function collector(range: { fromOffset: number; toOffset: number } | null): { http: FakeCollector; bodies: unknown[] } {
  const http = new FakeCollector(zstd)
  const bodies: unknown[] = []
  http.intercept = ({ body }, url) => {
    if (url.pathname !== '/v1/exports/skip') return undefined
    const [piece] = body === undefined || 'stream' in body ? [] : body
    const asked = JSON.parse(Buffer.from(piece ?? []).toString()) as { range?: unknown }
    bodies.push(asked)
    return json({ range, isSkipped: asked.range !== undefined })
  }
  return { http, bodies }
}

test('exports skip only tells what would be given up, until it is told to', async () => {
  const { http, bodies } = collector({ fromOffset: 12, toOffset: 22 })
  expect(await cli(['exports', 'skip', 'my-app-3'], { http })).toMatchObject({ code: 0, stdout: 'my-app-3: offsets 12 to 21 (10) would be given up; --execute does it\n' })
  expect(bodies).toEqual([{ topic: 'my-app', partition: 3 }])
  expect(await cli(['exports', 'skip', 'my-app-3', '--execute'], { http })).toMatchObject({ code: 0, stdout: 'my-app-3: offsets 12 to 21 (10) are given up\n' })
  expect(bodies.at(-1)).toEqual({ topic: 'my-app', partition: 3, range: { fromOffset: 12, toOffset: 22 } })
})

test('exports skip is exit code 1 where nothing is in the way, and 2 for what is no partition', async () => {
  expect(await cli(['exports', 'skip', 'app-0', '--execute'], collector(null))).toMatchObject({ code: 1, stdout: '' })
  expect(await cli(['exports', 'skip', 'app'], collector(null))).toMatchObject({ code: 2 })
})

test('a range that changed meanwhile is told by the collector', async () => {
  const http = new FakeCollector(zstd)
  http.intercept = () => error(409, 'CONFLICT', 'offsets 1 to 2 do not hold the export up (any more)')
  expect(await cli(['exports', 'skip', 'app-0', '--execute'], { http })).toMatchObject({ code: 1 })
})
