/** What agents tell about a log that was set back: kept over a restart, gone when it is stored again. */
import { beforeAll, expect, test } from 'vitest'
import { SetBackBook } from '../../../collector/http/set-back.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { startApi, type Api } from '../../collector-api.ts'
import { sealedBatch, type SealedBatch } from '../../sealed-batch.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

/** Two batches were acknowledged, the log holds the first; and a stream of which it holds nothing. */
function setBack(): { api: Api; first: SealedBatch; second: SealedBatch; whole: SealedBatch } {
  const first = sealedBatch({ zstd, lines: ['one'] })
  const whole = sealedBatch({ zstd, inode: 9n, path: '/var/log/whole.log', lines: ['all of it'] })
  return { api: startApi(zstd), first, second: sealedBatch({ zstd, previous: first, lines: ['two'] }), whole }
}

function told(...streams: readonly SealedBatch[]): { agentId: string; host: string; streams: { id: string; topic: string; path: string; position: number }[] } {
  return {
    agentId: 'agent-1', host: 'web-1',
    streams: streams.map(({ source, topic }) => ({ id: source.streamId.toString('hex'), topic, path: source.path, position: source.end })),
  }
}

test('what the log does not reach is listed and an alarm, what it reaches is confirmed, and what is stored again is gone', async () => {
  const { api, first, second, whole } = setBack()
  await api.send([first, whole])
  expect((await api.ask({ path: '/v1/streams/missing' })).json).toEqual({ sinceMs: null, missing: [], confirmed: [] })
  const answer = await api.ask({ method: 'POST', path: '/v1/streams/missing', headers: { 'content-type': 'application/json' }, body: JSON.stringify(told(whole, second)) })
  expect(answer.json).toEqual({ missing: 1 })
  expect((await api.ask({ path: '/v1/streams/missing' })).json).toMatchObject({
    sinceMs: api.sim.clock.nowMs(),
    missing: [{ path: '/var/log/app.log', position: 8, stored: 4, agentId: 'agent-1', host: 'web-1' }],
    confirmed: [whole.source.streamId.toString('hex')],
  })
  expect((await api.ask({ path: '/v1/status' })).json).toMatchObject({ alarms: [{ code: 'LOG_SET_BACK', message: expect.stringContaining('1 streams have 4 bytes less') }] })
  await api.send([second])
  expect((await api.ask({ path: '/v1/streams/missing' })).json).toMatchObject({ missing: [] })
  expect((await api.ask({ path: '/v1/status' })).json).toMatchObject({ alarms: [] })
})

test('a restart does not forget it, and an agent does not speak for the streams of another', async () => {
  const { api, first, second, whole } = setBack()
  await api.send([first])
  const book = new SetBackBook(api.sim.system, api.log, '/')
  expect(await book.tell({ ...told(second), agentId: 'other' })).toBe(0)
  expect(await book.tell(told(second, whole))).toBe(2)
  const again = await SetBackBook.open(api.sim.system, api.log, '/')
  expect(again.list()).toEqual(book.list())
  expect(again.list().missing.map(({ stored }) => stored)).toEqual([4, 0])
})
