import { createHash } from 'node:crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { patchBatch } from '../../../shared/record-batch.ts'
import { toOffset } from '../../../shared/types.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import type { ExportInfo } from '../../../shared/wire.ts'
import { plainBatch, sealedBatch, type SealedBatch } from '../../sealed-batch.ts'
import { simulate, type Simulation } from '../../sim-system.ts'
import { FakeCollector } from './fake-collector.ts'
import { cli } from './run-cli.ts'

let zstd: Zstd
beforeAll(async () => {
  zstd = await loadZstd()
})

const PATH = '/var/log/app.log'

interface World {
  readonly http: FakeCollector
  readonly simulation: Simulation
  readonly batches: readonly SealedBatch[]
}

/** A source on this machine, shipped in three batches. */
async function world(): Promise<World> {
  const simulation = simulate()
  const http = new FakeCollector(zstd)
  await simulation.fs.makeDirectory('/var/log')
  simulation.fs.putFile(PATH, Buffer.from('one\ntwo\nthree\nnot shipped yet'))
  const stat = await simulation.fs.stat(PATH)
  let previous: SealedBatch | undefined
  const batches: SealedBatch[] = []
  for (const line of ['one', 'two', 'three']) {
    previous = sealedBatch({
      zstd, lines: [line], host: 'this-machine', inode: stat?.inode ?? 0n, birthtimeNs: stat?.birthtimeNs ?? 0n,
      ...(previous === undefined ? {} : { previous }),
    })
    http.store(previous)
    batches.push(previous)
  }
  return { http, simulation, batches }
}

interface Row {
  readonly kind: string
  readonly verdict: string
  readonly sha256: string
  readonly source: string
  readonly position: number
  readonly problems: readonly string[]
  readonly notes: readonly string[]
}

async function rows({ http, simulation }: World, flags: readonly string[] = []): Promise<{ code: number; stream: Row | undefined; partition: Row | undefined }> {
  const run = await cli(['verify', '--json', ...flags], { http, simulation })
  const list = JSON.parse(run.stdout) as Row[]
  return { code: run.code, stream: list.find(({ kind }) => kind === 'stream'), partition: list.find(({ kind }) => kind === 'partition') }
}

function exported(over: Partial<ExportInfo['segments'][number]> = {}): ExportInfo {
  return {
    topic: 'app', partition: 0, exportedOffset: 3, logEndOffset: 3, lagSegments: 0, lagBytes: 0, lagMs: 0, oldestUnexportedMs: 0, state: 'idle', reason: null,
    segments: [{ baseOffset: 0, nextOffset: 3, state: 'recorded', sizeBytes: 10, sha256: 'ab', name: 'raw/app/p=0/x.log', check: 'ok', ...over }],
  }
}

test('source, log and export that agree are exit code 0, with the SHA-256 of the bytes', async () => {
  const it = await world()
  it.http.exports = [exported()]
  const { code, stream, partition } = await rows(it)
  expect(code).toBe(0)
  expect(stream).toMatchObject({
    verdict: 'ok', source: 'same', position: 14, sha256: createHash('sha256').update('one\ntwo\nthree\n').digest('hex'), problems: [], exported: true,
  })
  expect(partition).toMatchObject({ verdict: 'ok', exportedSegments: 1 })
  const text = await cli(['verify'], { http: it.http, simulation: it.simulation })
  expect(text.stdout).toMatch(/^ok .*this-machine:\/var\/log\/app.log .*position 14 .*sha256 [0-9a-f]{64} .*source same/)
  expect(text.stdout).toContain('1 streams in 1 partitions')
  expect(text.stdout).toContain('1 exported segments: no difference')
})

describe('each difference is exit code 1 and is named', () => {
  test('bytes of the source that changed', async () => {
    const it = await world()
    it.simulation.fs.putFile(PATH, Buffer.from('one\ntwX\nthree\n'))
    const { code, stream } = await rows(it)
    expect(code).toBe(1)
    expect(stream).toMatchObject({ verdict: 'differs', source: 'differs', problems: [`source: bytes 6 to 7 are others in ${PATH}`] })
  })

  test('a source that is shorter than what was shipped', async () => {
    const it = await world()
    it.simulation.fs.putFile(PATH, Buffer.from('one\ntwo\n'))
    const { code, stream } = await rows(it)
    expect(code).toBe(1)
    expect(stream?.problems.join()).toContain('source: bytes 8 to 14 are others')
  })

  test('a damaged batch', async () => {
    const it = await world()
    const batch = it.http.log('app')[1]
    batch?.bytes.writeUInt8((batch.bytes.at(-1) ?? 0) ^ 0x40, batch.bytes.length - 1)
    const { code, stream, partition } = await rows(it)
    expect(code).toBe(1)
    expect(stream?.problems).toEqual(['log: bytes 4 to 8 are missing (offset 2)'])
    expect(partition?.problems).toEqual(['log: batch at offset 1 is damaged: CRC-32C does not match (CORRUPT_MESSAGE)'])
  })

  test('a batch that vanished, in the middle and at the end', async () => {
    const middle = await world()
    middle.http.log('app').splice(1, 1)
    expect((await rows(middle)).partition?.problems).toEqual(['log: offsets 1 to 2 are missing'])
    const end = await world()
    end.http.log('app').splice(2, 1)
    const { code, stream } = await rows(end)
    expect(code).toBe(1)
    expect(stream?.problems).toEqual(['log: bytes 8 to 14 are missing, the collector answered for them'])
  })

  test('a log whose first batch is damaged is no log that retention shortened', async () => {
    const it = await world()
    it.http.log('app').splice(0, 1)
    const { code, stream, partition } = await rows(it)
    expect(code).toBe(1)
    expect(stream?.problems).toEqual(['log: bytes 0 to 4 are missing'])
    expect(partition?.problems).toEqual(['log: offsets 0 to 1 are missing'])
    it.http.log('app').splice(0)
    // The fake's ends are those of its batches, so an empty log ends at 0; the stream table still answers for 14 bytes.
    expect((await rows(it)).stream?.problems).toEqual(['log: bytes 0 to 14 are missing'])
  })

  test('a stream table that does not agree with the log', async () => {
    const it = await world()
    for (const stream of it.http.streams.values()) it.http.streams.set(stream.id, { ...stream, tailHash: '0'.repeat(32) })
    expect((await rows(it)).stream?.problems).toEqual(['stream table: tail hash at 14 is not that of the log'])
    it.http.streams.clear()
    const { code, partition } = await rows(it)
    expect(code).toBe(1)
    expect(partition?.problems[0]).toMatch(/^stream table: does not know stream [0-9a-f]{32}/)
  })

  test.each(['missing', 'length', 'checksum'] as const)('an exported segment whose check says %s', async (check) => {
    const it = await world()
    it.http.exports = [exported({ check })]
    const { code, partition } = await rows(it)
    expect(code).toBe(1)
    expect(partition?.problems).toEqual([`export: offsets 0 to 3: ${check} (raw/app/p=0/x.log)`])
  })

  test('offsets that are neither in the log nor exported', async () => {
    const it = await world()
    it.http.dropBelow(2, 'app')
    it.http.exports = [{ ...exported({ nextOffset: 1 }), exportedOffset: 1 }]
    const { code, partition } = await rows(it)
    expect(code).toBe(1)
    expect(partition?.problems).toEqual(['export: offsets 1 to 2 are neither exported nor in the log'])
  })
})

describe('what retention dropped', () => {
  test('is no difference when it was exported', async () => {
    const it = await world()
    it.http.dropBelow(2, 'app')
    it.http.exports = [exported()]
    const { code, stream } = await rows(it)
    expect(code).toBe(0)
    expect(stream).toMatchObject({ verdict: 'ok', start: 8, notes: ['log begins at byte 8, what was before it is exported'] })
  })

  test('is exit code 3 when it was not', async () => {
    const it = await world()
    it.http.dropBelow(2, 'app')
    const { code, stream } = await rows(it)
    expect(code).toBe(3)
    expect(stream).toMatchObject({ verdict: 'incomplete', source: 'same' })
  })
})

describe('the source', () => {
  test('of another machine is not looked for', async () => {
    const it = await world()
    const { code, stream } = await rows(it, ['--local-host', 'elsewhere'])
    expect(code).toBe(0)
    expect(stream?.source).toBe('elsewhere')
  })

  test('that was rotated away is found by its inode', async () => {
    const it = await world()
    await it.simulation.fs.rename(PATH, `${PATH}.1`)
    it.simulation.fs.putFile(PATH, Buffer.from('a new file under the old name\n'))
    expect((await rows(it)).stream?.source).toBe('same')
    it.simulation.fs.putFile(`${PATH}.1`, Buffer.from('Xne\ntwo\nthree\n'))
    expect((await rows(it)).stream?.problems).toEqual([`source: bytes 0 to 1 are others in ${PATH}.1`])
  })

  test('that is gone is no difference', async () => {
    const it = await world()
    await it.simulation.fs.remove(PATH)
    const { code, stream } = await rows(it)
    expect(code).toBe(0)
    expect(stream?.source).toBe('gone')
  })

  test('that was cut to nothing is no difference: what comes next is another generation', async () => {
    const it = await world()
    it.simulation.fs.putFile(PATH, Buffer.alloc(0))
    const { code, stream } = await rows(it)
    expect(code).toBe(0)
    expect(stream?.source).toBe('replaced')
  })

  test('of an older generation that nobody superseded is not compared either', async () => {
    const it = await world()
    it.simulation.fs.putFile(PATH, Buffer.from('other content altogether\n'))
    const [first] = it.http.streams.values()
    if (first === undefined) throw new Error('no stream')
    expect((await rows(it)).code).toBe(1)
    it.http.streams.set('next', { ...first, id: 'f'.repeat(32), generation: first.generation + 1, position: 0, records: 0 })
    const run = await cli(['verify', '--json', '--stream', first.id], it)
    expect(JSON.parse(run.stdout)).toContainEqual(expect.objectContaining({ kind: 'stream', source: 'replaced' }))
    expect(run.code).toBe(0)
  })

  test('of a superseded generation is not compared with what replaced it', async () => {
    const it = await world()
    for (const stream of it.http.streams.values()) it.http.streams.set(stream.id, { ...stream, superseded: true })
    it.simulation.fs.putFile(PATH, Buffer.from('other'))
    const { code, stream } = await rows(it)
    expect(code).toBe(0)
    expect(stream?.source).toBe('replaced')
  })
})

test('posted batches are opened as well', async () => {
  const http = new FakeCollector(zstd)
  http.storeRaw(plainBatch({ zstd, lines: ['posted'] }), { topic: 'web', partition: 0 })
  expect((await cli(['verify'], { http })).code).toBe(0)
  http.log('web')[0]?.bytes.writeUInt8(0xff, 70)
  expect((await cli(['verify'], { http })).code).toBe(1)
})

test('filters choose streams; damage elsewhere is not looked at, and no match is exit code 1', async () => {
  const it = await world()
  it.http.store(sealedBatch({ zstd, lines: ['x'], host: 'web-9', path: '/other.log', inode: 99n }))
  const other = it.http.log('app').at(-1)
  other?.bytes.writeUInt8(0, other.bytes.length - 1)
  expect((await rows(it)).code).toBe(1)
  const one = await rows(it, ['--path', '/var/**'])
  expect(one.code).toBe(0)
  const id = it.batches[0]?.source.streamId.toString('hex').slice(0, 10) ?? ''
  expect((await rows(it, ['--stream', id])).code).toBe(0)
  expect((await cli(['verify', '--host', 'nobody'], { http: it.http })).code).toBe(1)
})

test('damage of the collector\'s own disk is told although the bytes still come, with the stream that it touches', async () => {
  const it = await world()
  it.http.alarms = [{ code: 'DATA_DAMAGED', message: 'app-0: offsets 1 to 1: damaged', sinceMs: 1, range: { topic: 'app', partition: 0, fromOffset: 1, toOffset: 2 } }]
  const { code, stream } = await rows(it)
  expect(code).toBe(1)
  expect(stream?.problems).toEqual(['disk: app-0: offsets 1 to 1: damaged'])
  const posted = new FakeCollector(zstd)
  posted.storeRaw(plainBatch({ zstd, lines: ['posted'] }), { topic: 'web', partition: 0 })
  posted.alarms = [{ code: 'DATA_DAMAGED', message: 'web-0: offsets 0 to 0: damaged', sinceMs: 1, range: { topic: 'web', partition: 0, fromOffset: 0, toOffset: 1 } }]
  expect(await cli(['verify'], { http: posted })).toMatchObject({ code: 1, stdout: expect.stringContaining('web-0: offsets 0 to 0') })
})

test('a stream that began while it ran is not called lost', async () => {
  const it = await world()
  const late = sealedBatch({ zstd, lines: ['late'], host: 'web-2', inode: 5n })
  it.http.intercept = (_request, url) => {
    if (url.pathname === '/v1/topics' && !it.http.streams.has(late.source.streamId.toString('hex'))) it.http.store(late)
    return undefined
  }
  expect((await rows(it)).code).toBe(0)
})

test('an empty collector has no difference', async () => {
  expect(await cli(['verify'], { http: new FakeCollector(zstd) })).toMatchObject({ code: 0, stdout: expect.stringContaining('no difference') })
})

describe('a log that was set back', () => {
  const agentId = 'agent-1'
  const host = 'this-machine'

  async function goneWorld(setBack: (id: string) => Partial<FakeCollector['setBack']>): Promise<World> {
    const it = await world()
    await it.simulation.fs.remove(PATH)
    const [stream] = (await rows(it)).code === 0 ? it.batches : []
    const id = stream?.source.streamId.toString('hex') ?? ''
    it.http.setBack = { sinceMs: Date.UTC(2100, 0, 1), missing: [], confirmed: [], ...setBack(id) }
    return it
  }

  test('lacks the bytes that an agent had acknowledged, and verify names them', async () => {
    const it = await goneWorld((id) => ({ missing: [{ id, topic: 'app', path: PATH, position: 500, agentId, host, stored: 14 }] }))
    const { code, stream } = await rows(it)
    expect(code).toBe(1)
    expect(stream).toMatchObject({ verdict: 'differs', problems: ['log: bytes 14 to 500 are missing: they were acknowledged to agent agent-1 before the data folder was set back'] })
  })

  test('is unknown above the position of a stream that nobody speaks for', async () => {
    const it = await goneWorld(() => ({}))
    const { code, stream } = await rows(it)
    expect(code).toBe(1)
    expect(stream?.problems).toEqual(['log: unknown above 14: the data folder was set back or restored, and nobody has said how far this stream was'])
  })

  test('is known where an agent confirmed the position, or the source is here', async () => {
    expect((await rows(await goneWorld((id) => ({ confirmed: [id] })))).code).toBe(0)
    const there = await world()
    there.http.setBack = { sinceMs: Date.UTC(2100, 0, 1), missing: [], confirmed: [] }
    expect((await rows(there)).code).toBe(0)
  })

  test('has lost streams that began behind the older copy: each is named once', async () => {
    const it = await goneWorld((id) => ({ confirmed: [id], missing: [{ id: 'ab'.repeat(16), topic: 'app', path: '/var/log/new.log', position: 77, agentId, host, stored: 0 }] }))
    const run = await cli(['verify'], { http: it.http, simulation: it.simulation })
    expect(run.code).toBe(1)
    expect(run.stdout.match(/DIFFERS .*this-machine:\/var\/log\/new\.log/g)).toHaveLength(1)
    expect(run.stdout).toContain('bytes 0 to 77 are missing')
  })
})

test('offsets that a restore passed over are not missing, those of a skipped segment are', async () => {
  const it = await world()
  const last = it.http.log('app').at(-1)
  it.http.log('app').pop()
  if (last !== undefined) {
    patchBatch(last.bytes, { baseOffset: toOffset(7), leaderEpoch: 2 })
    it.http.log('app').push({ ...last, baseOffset: 7, lastOffset: 7 })
  }
  const gap = { baseOffset: 2, nextOffset: 7, sizeBytes: 0, sha256: null, name: null }
  it.http.exports = [{ ...exported(), exportedOffset: 8, logEndOffset: 8, segments: [{ ...gap, state: 'void' }] }]
  expect((await rows(it)).partition).toMatchObject({ verdict: 'ok', problems: [] })
  it.http.exports = [{ ...exported(), exportedOffset: 8, logEndOffset: 8, segments: [{ ...gap, state: 'skipped' }] }]
  const { code, partition } = await rows(it)
  expect(code).toBe(1)
  expect(partition?.problems).toEqual(['log: offsets 2 to 7 are missing'])
})
