/** The network and the collector at their worst: nothing is lost, nothing is stored twice. */
import { beforeAll, describe, expect, test } from 'vitest'
import { connection } from '../../agent/status.ts'
import { paths } from '../../shared/wire.ts'
import { loadZstd, type Zstd } from '../../shared/zstd.ts'
import { AgentRig, type RigOptions } from './agent-rig.ts'
import type { Fault } from './fake-collector.ts'

let zstd: Zstd
beforeAll(async () => {
  zstd = await loadZstd()
})

async function rigWith(files: Readonly<Record<string, string>>, options: Partial<RigOptions> = {}): Promise<AgentRig> {
  const rig = new AgentRig({ zstd, ...options })
  if (options.fs === undefined) await rig.fs.makeDirectory('/log')
  for (const [path, content] of Object.entries(files)) rig.fs.putFile(path, Buffer.from(content))
  return rig
}

function lines(name: string, count = 3000): string {
  return Array.from({ length: count }, (_, index) => `${name} line ${index} ${'x'.repeat(60)}\n`).join('')
}

const once = { config: { isOnce: true } } as const

describe('faults of single requests', () => {
  const faults: readonly Fault[] = ['refuse connection', 'lose answer', 'process twice', 503, 429]
  test.each(faults.map((fault) => [fault]))('after "%s" every byte is stored once', async (fault) => {
    const rig = await rigWith({ '/log/a.log': lines('a'), '/log/b.log': lines('b') }, once)
    rig.collector.faults.push(fault, fault, fault)
    expect(await rig.finish()).toEqual({ problems: [] })
    expect(rig.collector.bytesOf('/log/a.log').toString()).toBe(lines('a'))
    expect(rig.collector.bytesOf('/log/b.log').toString()).toBe(lines('b'))
    expect(rig.collector.streams.size).toBe(2)
  })

  test('any order of faults ends with every byte stored once', async () => {
    const kinds: readonly Fault[] = ['refuse connection', 'lose answer', 'process twice', 503]
    for (let seed = 1; seed <= 15; seed += 1) {
      const rig = await rigWith({ '/log/a.log': lines('a'), '/log/b.log': lines('b', 50) }, { ...once, seed })
      for (let count = 0; count < 12; count += 1) rig.collector.faults.push(kinds[Math.floor(rig.sim.system.random.next() * kinds.length)] ?? 503)
      await rig.finish()
      expect(rig.collector.bytesOf('/log/a.log').toString(), `seed ${seed}`).toBe(lines('a'))
      expect(rig.collector.streams.size, `seed ${seed}`).toBe(2)
    }
  })

  test('Retry-After is honoured', async () => {
    const rig = await rigWith({ '/log/a.log': 'one\n' }, once)
    rig.collector.faults.push(503)
    const startMs = rig.sim.clock.monotonicMs()
    await rig.finish()
    expect(rig.sim.clock.monotonicMs() - startMs).toBeGreaterThanOrEqual(2000)
  })
})

describe('refusals for good', () => {
  const unknown = { status: 401, code: 'UNAUTHENTICATED', message: 'this token is not known', hint: 'make one with token create' }
  const foreign = { status: 403, code: 'HOST_MISMATCH', message: 'the token is for agent-2' }

  test.each([[paths.hello, unknown], [paths.lookup, foreign], [paths.batches, foreign]] as const)('of %s end --once at once, with code and hint', async (path, refusal) => {
    const rig = await rigWith({ '/log/a.log': 'one\n' }, once)
    rig.collector.refusals.set(path, refusal)
    const { problems } = await rig.finish()
    expect(problems[0]).toContain(`refuses: ${refusal.code}: ${refusal.message}`)
    if ('hint' in refusal) expect(problems[0]).toContain(refusal.hint)
    expect(rig.sim.clock.monotonicMs()).toBeLessThan(5000)
  })

  test.each([[paths.hello, unknown], [paths.lookup, foreign], [paths.batches, foreign]] as const)('of %s are asked again, seldom, and told till they are taken back', async (path, refusal) => {
    const rig = await rigWith({ '/log/a.log': 'one\n' })
    rig.collector.refusals.set(path, refusal)
    await rig.start()
    await rig.pass(120_000)
    const asked = rig.collector.requests.filter((each) => each === path).length
    expect(asked).toBeGreaterThan(3)
    expect(asked).toBeLessThan(40)
    expect(connection(rig.agent)).toMatchObject({ state: 'refused', reason: expect.stringContaining(refusal.message) as string })
    rig.collector.refusals.clear()
    await rig.pass(60_000)
    expect(connection(rig.agent)).toMatchObject({ state: 'connected', reason: null })
    expect(rig.collector.bytesOf('/log/a.log').toString()).toBe('one\n')
    await rig.stop()
  })

  test('of a topic that is not made by itself park its files with code and hint', async () => {
    const rig = await (await rigWith({ '/log/a.log': 'one\n' })).start()
    rig.collector.judgeFrame = () => ({ status: 'error', code: 'UNKNOWN_TOPIC', message: 'there is no topic app', hint: 'tailrace topics create app', retryable: false })
    await rig.append('/log/a.log', 'two\n')
    await rig.pass(5000)
    expect([...rig.agent.registry.files][0]?.state).toMatchObject({ kind: 'parked', reason: expect.stringMatching(/UNKNOWN_TOPIC: there is no topic app; tailrace topics create app/) as string })
    expect(connection(rig.agent).state).toBe('connected')
    await rig.stop()
  })
})

describe('answers about frames', () => {
  test('a retryable error of one frame is retried, and its neighbours are stored', async () => {
    const rig = await rigWith({ '/log/a.log': 'one\n', '/log/b.log': 'two\n' }, once)
    let refusals = 3
    rig.collector.judgeFrame = (source) => {
      if (source.path !== '/log/a.log' || refusals === 0) return undefined
      refusals -= 1
      return { status: 'error', code: 'DISK_FULL', message: 'full', retryable: true }
    }
    expect(await rig.finish()).toEqual({ problems: [] })
    expect(rig.collector.bytesOf('/log/a.log').toString()).toBe('one\n')
  })

  test('a frame refused for good parks its file with the reason, and the others go on', async () => {
    const rig = await rigWith({ '/log/a.log': 'one\n', '/log/b.log': 'two\n' }, once)
    rig.collector.judgeFrame = (source) =>
      source.path === '/log/a.log' ? { status: 'error', code: 'FORBIDDEN', message: 'not your topic', retryable: false } : undefined
    const { problems } = await rig.finish()
    expect(problems).toEqual([expect.stringMatching(/^\/log\/a\.log: .*FORBIDDEN: not your topic/)])
    expect(rig.collector.bytesOf('/log/b.log').toString()).toBe('two\n')
  })

  test('an ack that does not echo what was sent is not used', async () => {
    const rig = await rigWith({ '/log/a.log': 'one\n' }, once)
    let lies = 2
    rig.collector.judgeFrame = (source) => {
      if (lies === 0) return undefined
      lies -= 1
      return { status: 'ok', stream: source.streamId.toString('hex'), start: source.start, end: source.end, crc: 1, partition: 0, offset: 0 }
    }
    await rig.finish()
    expect(rig.collector.bytesOf('/log/a.log').toString()).toBe('one\n')
  })

  test('"have" with foreign bytes is not believed: the file begins a generation of its own and closes nothing', async () => {
    const clone = await rigWith({ '/log/a.log': 'ours\n' }, once)
    const origin = await rigWith({ '/log/a.log': 'theirs, and longer\n' }, { ...once, collector: clone.collector })
    await clone.agent.session.ready(new AbortController().signal)
    await origin.finish()
    await clone.finish()
    const stored = [...clone.collector.streams.values()].map(({ bytes, isSuperseded }) => [bytes.toString(), isSuperseded])
    expect(new Set(stored.map(([bytes]) => bytes))).toEqual(new Set(['ours\n', 'theirs, and longer\n']))
  })

  test('a clone that weaves into our stream makes us begin a new generation instead of losing lines', async () => {
    const rig = await (await rigWith({ '/log/a.log': 'one\n' })).start()
    await rig.pass(1000)
    const [stream] = rig.collector.streams.values()
    if (stream === undefined) throw new Error('nothing was stored')
    stream.bytes = Buffer.concat([stream.bytes, Buffer.from('the clone was here\n')])
    await rig.append('/log/a.log', 'two\n')
    await rig.pass(20_000)
    expect([...rig.collector.streams.values()].map(({ bytes, isSuperseded }) => [bytes.toString(), isSuperseded])).toEqual([
      ['one\nthe clone was here\n', false],
      ['one\ntwo\n', false],
    ])
    await rig.stop()
  })
})

describe('a collector that comes and goes', () => {
  test('while it is away only little is buffered, and everything arrives when it is back', async () => {
    const rig = await (await rigWith({ '/log/a.log': 'one\n' })).start()
    await rig.pass(1000)
    rig.collector.isDown = true
    for (let count = 0; count < 200; count += 1) {
      await rig.append('/log/a.log', lines(`outage ${count}`, 10))
      await rig.pass(300)
    }
    expect(rig.agent.bufferedBytes).toBeLessThan(64 * 1024)
    rig.collector.isDown = false
    await rig.pass(60_000)
    expect(rig.collector.bytesOf('/log/a.log').equals(rig.fs.getFile('/log/a.log') ?? Buffer.alloc(0))).toBe(true)
    await rig.stop()
  })

  test('after a restore of an older log the missing bytes are read and sent again', async () => {
    const rig = await (await rigWith({ '/log/a.log': lines('a', 100) })).start()
    await rig.pass(2000)
    const stream = rig.collector.streamAt('/log/a.log')
    stream.bytes = Buffer.from(lines('a', 40))
    stream.records.length = 40
    rig.collector.logEpoch = 2
    await rig.append('/log/a.log', lines('b', 10))
    await rig.pass(60_000)
    expect(rig.collector.bytesOf('/log/a.log').toString()).toBe(lines('a', 100) + lines('b', 10))
    expect(rig.collector.streams.size).toBe(1)
    await rig.stop()
  })

  test.each([['after a reconnect', 1000], ['when nobody noticed the restart', 1001], ['while nothing is sent', 700_000]])('an older copy of the log, the epoch unchanged, is filled up %s, also from files that were rotated and let go', async (_when, waitMs) => {
    const rig = await (await rigWith({ '/log/a.log': lines('a', 100) })).start()
    await rig.pass(2000)
    await rig.rename('/log/a.log', '/log/a.log.1')
    await rig.append('/log/a.log', lines('b', 50))
    await rig.pass(20_000)
    const [first, second] = [...rig.collector.streams.values()]
    if (first === undefined || second === undefined) throw new Error('two streams are due')
    expect([...rig.agent.registry.files]).toHaveLength(1)
    first.bytes = Buffer.from(lines('a', 40))
    first.records.length = 40
    rig.collector.streams.delete(second.id)
    await rig.pass(waitMs)
    const isWritten = waitMs < 2000
    rig.collector.isDown = waitMs === 1000
    // A new file then, whose start says nothing about the others.
    if (waitMs === 1001) rig.collector.instance = '0000000000000002'
    if (isWritten) await rig.append(waitMs === 1000 ? '/log/a.log' : '/log/new.log', 'more\n')
    await rig.pass(3000)
    rig.collector.isDown = false
    await rig.pass(60_000)
    const expected = waitMs === 1001 ? [lines('a', 100), 'more\n', lines('b', 50)] : [lines('a', 100), lines('b', 50) + (waitMs === 1000 ? 'more\n' : '')]
    expect([...rig.collector.streams.values()].map(({ bytes }) => bytes.toString())).toEqual(expected)
    await rig.stop()
  })

  test('a file at rest whose stream was given to another one meanwhile is shipped anew', async () => {
    const rig = await (await rigWith({ '/log/a.log': lines('a', 10) })).start()
    await rig.pass(2000)
    // Set back, and filled by a clone that has the same inode and birth time, before this agent said hello again.
    const stream = rig.collector.streamAt('/log/a.log')
    stream.bytes = Buffer.from(lines('clone', 30))
    stream.records.length = 0
    rig.collector.instance = '0000000000000002'
    await rig.append('/log/new.log', 'one\n')
    await rig.pass(60_000)
    const stored = [...rig.collector.streams.values()].map(({ bytes }) => bytes.toString())
    expect(stored.toSorted()).toEqual([lines('a', 10), lines('clone', 30), 'one\n'].toSorted())
    await rig.stop()
  })

  test('another cluster is refused, since its positions are not ours', async () => {
    const rig = await (await rigWith({ '/log/a.log': 'one\n' })).start()
    await rig.pass(1000)
    rig.collector.isDown = true
    await rig.append('/log/a.log', 'two\n')
    await rig.pass(5000)
    rig.collector.isDown = false
    rig.collector.clusterId = 'cluster-b'
    await rig.pass(30_000)
    expect(rig.agent.session.state).toMatchObject({ kind: 'lost', reason: { code: 'WRONG_CLUSTER' } })
    expect(rig.collector.bytesOf('/log/a.log').toString()).toBe('one\n')
    await rig.stop()
  })

  test('hello in many pages is read to its end', async () => {
    const files = Object.fromEntries(Array.from({ length: 7 }, (_, index) => [`/log/f${index}.log`, `line of ${index}\n`]))
    const first = await rigWith(files, once)
    await first.finish()
    first.collector.pageSize = 2
    const second = await rigWith({}, { ...once, fs: first.fs, collector: first.collector })
    await second.finish()
    expect(second.collector.streams.size).toBe(7)
    expect(second.collector.requests.filter((path) => path === '/v1/streams/lookup')).toHaveLength(1)
  })
})

describe('the disk', () => {
  test.each(['EIO', 'EACCES', 'EMFILE'])('%s on a file is told, the position is kept, and it is read when it works again', async (errno) => {
    const rig = await (await rigWith({ '/log/a.log': 'one\n' })).start()
    await rig.pass(1000)
    rig.fs.inject = (call) => (call.path === '/log/a.log' && (call.kind === 'read' || call.kind === 'open') ? { errno } : undefined)
    rig.fs.putFile('/log/a.log', Buffer.from('one\ntwo\n'))
    await rig.pass(20_000)
    expect([...rig.agent.registry.files][0]?.state).toMatchObject({ kind: 'failing' })
    rig.fs.inject = undefined
    await rig.pass(120_000)
    expect(rig.collector.bytesOf('/log/a.log').toString()).toBe('one\ntwo\n')
    expect(rig.collector.streams.size).toBe(1)
    await rig.stop()
  })

  test('more files than descriptors are all shipped', async () => {
    const files = Object.fromEntries(Array.from({ length: 60 }, (_, index) => [`/log/f${index}.log`, `line of ${index}\n`]))
    const rig = await rigWith(files, { config: { isOnce: true, openFilesMax: 16 } })
    expect(await rig.finish()).toEqual({ problems: [] })
    expect(rig.collector.streams.size).toBe(60)
  })
})

test('a stop while the collector is away ends at once and loses nothing', async () => {
  const rig = await (await rigWith({ '/log/a.log': 'one\n' })).start()
  rig.collector.isDown = true
  await rig.append('/log/a.log', 'two\n')
  await rig.pass(3000)
  await rig.stop()
  rig.collector.isDown = false
  const next = await rigWith({}, { ...once, fs: rig.fs, collector: rig.collector })
  await next.finish()
  expect(next.collector.bytesOf('/log/a.log').toString()).toBe('one\ntwo\n')
})
