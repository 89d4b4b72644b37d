/** The agent end to end on a simulated machine, with a collector in memory. */
import { beforeAll, describe, expect, test } from 'vitest'
import { loadZstd, type Zstd } from '../../shared/zstd.ts'
import type { FileHandle } from '../../shared/system.ts'
import { overridden } from '../overridden.ts'
import { AgentRig, testConfig, type RigOptions } from './agent-rig.ts'

let zstd: Zstd
beforeAll(async () => {
  zstd = await loadZstd()
})

async function rigWith(files: Readonly<Record<string, string | Buffer>>, options: Partial<RigOptions> = {}): Promise<AgentRig> {
  const rig = new AgentRig({ zstd, ...options })
  if (options.fs === undefined) await rig.fs.makeDirectory('/log')
  for (const [path, content] of Object.entries(files)) rig.fs.putFile(path, Buffer.from(content))
  return rig
}

/** Lines that are enough to be told apart: over 1 KiB. */
function lines(name: string, count = 40): string {
  return Array.from({ length: count }, (_, index) => `${name} line ${index} ${'x'.repeat(40)}\n`).join('')
}

const once = { config: { isOnce: true } } as const

describe('shipping what is there', () => {
  test('--once ships every file to its end and reports no problem', async () => {
    const rig = await rigWith({ '/log/a.log': 'one\ntwo\n', '/log/b.log': 'three\nfour' }, once)
    expect(await rig.finish()).toEqual({ problems: [] })
    expect(rig.collector.bytesOf('/log/a.log').toString()).toBe('one\ntwo\n')
    expect(rig.collector.streamAt('/log/b.log').records.map(({ mark }) => mark)).toEqual(['newline', 'eof'])
  })

  test('a file of many batches arrives byte for byte, in order', async () => {
    const content = lines('big', 20_000)
    const rig = await rigWith({ '/log/a.log': content }, once)
    await rig.finish()
    expect(rig.collector.bytesOf('/log/a.log').equals(Buffer.from(content))).toBe(true)
    expect(rig.collector.streamAt('/log/a.log').batches).toBeGreaterThan(10)
  })

  test('the record key is host and path', async () => {
    const rig = await rigWith({ '/log/a.log': 'one\n' }, once)
    await rig.finish()
    expect(rig.collector.streamAt('/log/a.log').records[0]?.key).toBe('host-1:/log/a.log')
  })

  test('labels stand on the first record of each batch, also of one that was split, and on no other', async () => {
    const noise = Buffer.alloc(3 * 1024 * 1024)
    for (let at = 0, seed = 7; at < noise.length; at += 1) noise[at] = (seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0) >>> 16
    const labels = Buffer.from('{"env":"prod"}')
    const rig = await rigWith({ '/log/a.log': noise }, { input: { labels }, config: { isOnce: true, batchBytesMax: 1024 * 1024, lineBytesMax: 512 * 1024, memoryBytes: 16 * 1024 * 1024 } })
    await rig.finish()
    const { records, batches } = rig.collector.streamAt('/log/a.log')
    expect(records[0]?.labels).toBe('{"env":"prod"}')
    expect(records.filter((record) => record.labels !== undefined)).toHaveLength(batches)
    expect(rig.collector.bytesOf('/log/a.log').equals(noise)).toBe(true)
  })

  test('inputs of several topics are shipped side by side, and a file that two topics name goes into both', async () => {
    const [base] = testConfig().inputs
    if (base === undefined) throw new Error('no input')
    const inputs = [{ ...base, topic: 'web', files: ['/log/web*.log'] }, { ...base, topic: 'all', files: ['/log/*.log'], labels: Buffer.from('{"env":"prod"}') }]
    const rig = await rigWith({ '/log/web.log': 'w\n', '/log/db.log': 'd\n' }, { config: { isOnce: true, inputs } })
    expect(await rig.finish()).toEqual({ problems: [] })
    const stored = [...rig.collector.streams.values()].map(({ topic, keyPath, bytes, records }) => [topic, keyPath, bytes.toString(), records[0]?.labels])
    expect(stored.toSorted((a, b) => (String(a) < String(b) ? -1 : 1))).toEqual([
      ['all', '/log/db.log', 'd\n', '{"env":"prod"}'],
      ['all', '/log/web.log', 'w\n', '{"env":"prod"}'],
      ['web', '/log/web.log', 'w\n', undefined],
    ])
  })

  test('an agent without any state goes on where the collector stands', async () => {
    const first = await rigWith({ '/log/a.log': 'one\n' }, once)
    await first.finish()
    await first.append('/log/a.log', 'two\n')
    const second = await rigWith({}, { ...once, fs: first.fs, collector: first.collector })
    await second.finish()
    expect(second.collector.bytesOf('/log/a.log').toString()).toBe('one\ntwo\n')
    expect(second.collector.streams.size).toBe(1)
  })

  test('--reship ships everything once more as a generation that supersedes the first', async () => {
    const first = await rigWith({ '/log/a.log': 'one\n' }, once)
    await first.finish()
    const second = await rigWith({}, { config: { isOnce: true, isReship: true }, fs: first.fs, collector: first.collector })
    await second.finish()
    expect([...second.collector.streams.values()].map(({ isSuperseded, bytes }) => [isSuperseded, bytes.toString()])).toEqual([[true, 'one\n'], [false, 'one\n']])
  })

  test('incompressible bytes are split into batches that a Kafka cluster takes', async () => {
    const noise = Buffer.alloc(3 * 1024 * 1024)
    for (let at = 0, seed = 7; at < noise.length; at += 1) noise[at] = (seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0) >>> 16
    const rig = await rigWith({ '/log/a.log': noise }, { config: { isOnce: true, batchBytesMax: 1024 * 1024, lineBytesMax: 512 * 1024, memoryBytes: 16 * 1024 * 1024 } })
    await rig.finish()
    expect(rig.collector.bytesOf('/log/a.log').equals(noise)).toBe(true)
  })

  test('a collector that is away ends --once with its address', async () => {
    const rig = await rigWith({ '/log/a.log': 'one\n' }, once)
    rig.collector.isDown = true
    const { problems } = await rig.finish()
    expect(problems).toEqual([expect.stringContaining('http://collector can not be reached')])
  })
})

describe('following', () => {
  test('a line after idle goes at once, without waiting for the linger', async () => {
    const rig = await (await rigWith({ '/log/a.log': 'one\n' })).start()
    await rig.pass(2000)
    await rig.append('/log/a.log', 'two\n')
    await rig.sim.clock.advance(1)
    expect(rig.collector.bytesOf('/log/a.log').toString()).toBe('one\ntwo\n')
    await rig.stop()
  })

  test('steady lines are gathered, so that batches do not stay small', async () => {
    const rig = await (await rigWith({ '/log/a.log': 'one\n' })).start()
    for (let count = 0; count < 1000; count += 1) {
      await rig.append('/log/a.log', `line ${count}\n`)
      await rig.sim.clock.advance(10)
    }
    await rig.pass(1000)
    const stream = rig.collector.streamAt('/log/a.log')
    expect(stream.records).toHaveLength(1001)
    expect(stream.batches).toBeLessThan(80)
    await rig.stop()
  })

  test('a directory that is too busy is not watched until it is quiet, and no line is missed', async () => {
    const rig = await (await rigWith({ '/log/a.log': 'one\n' })).start()
    for (let count = 0; count < 100; count += 1) {
      await rig.append('/log/a.log', `line ${count}\n`)
      await rig.sim.clock.advance(5)
    }
    expect(rig.watched).toEqual([])
    rig.isSilent = true
    await rig.append('/log/a.log', 'unannounced\n')
    await rig.append('/log/b.log', 'unannounced too\n')
    await rig.pass(1500)
    expect(rig.collector.streamAt('/log/a.log').records.at(-1)?.value.toString()).toBe('unannounced')
    expect(rig.collector.bytesOf('/log/b.log').toString()).toBe('unannounced too\n')
    await rig.pass(4000)
    expect(rig.watched).toEqual(['/log'])
    await rig.stop()
  })

  test('a file that nobody writes to is not gone through any more, and what nobody tells of is seen in the round', async () => {
    const rig = await (await rigWith({ '/log/a.log': 'one\n', '/log/b.log': lines('b'), '/log/c.log': 'half a line' })).start()
    await rig.pass(95_000)
    expect(rig.agent.registry.awake.size).toBe(0)
    rig.isSilent = true
    await rig.append('/log/a.log', 'two\n')
    await rig.truncate('/log/b.log')
    await rig.append('/log/b.log', lines('other'))
    await rig.pass(11_000)
    expect(rig.collector.bytesOf('/log/a.log').toString()).toBe('one\ntwo\n')
    expect(rig.collector.streamAt('/log/b.log').records.at(-1)?.value.toString()).toContain('other line 39')
    await rig.append('/log/c.log', ', and its end\n')
    await rig.pass(11_000)
    expect(rig.collector.streamAt('/log/c.log').records.map(({ value }) => value.toString())).toEqual(['half a line', ', and its end'])
    await rig.pass(95_000)
    expect(rig.agent.registry.awake.size).toBe(0)
    await rig.stop()
  })

  test('a file that rests is followed when it is rotated and removed', async () => {
    const rig = await (await rigWith({ '/log/a.log': 'one\n' })).start()
    await rig.pass(65_000)
    rig.isSilent = true
    await rig.append('/log/a.log', 'two\n')
    await rig.rename('/log/a.log', '/log/a.log.1')
    await rig.append('/log/a.log', 'new\n')
    await rig.pass(12_000)
    expect([...rig.collector.streams.values()].map(({ bytes }) => bytes.toString())).toEqual(['one\ntwo\n', 'new\n'])
    await rig.pass(80_000)
    expect(rig.agent.registry.size).toBe(1)
    await rig.remove('/log/a.log')
    await rig.pass(25_000)
    expect([rig.agent.registry.size, rig.agent.registry.awake.size]).toEqual([0, 0])
    await rig.stop()
  })

  test('a line without newline waits, and is shipped as it is after unterminatedAfter', async () => {
    const rig = await (await rigWith({ '/log/a.log': 'one\ntw' })).start()
    await rig.pass(5000)
    expect(rig.collector.bytesOf('/log/a.log').toString()).toBe('one\n')
    await rig.append('/log/a.log', 'o\nthr')
    await rig.pass(20_000)
    expect(rig.collector.bytesOf('/log/a.log').toString()).toBe('one\ntwo\n')
    await rig.pass(15_000)
    await rig.append('/log/a.log', 'ee\nfour\n')
    await rig.pass(2000)
    expect(rig.collector.streamAt('/log/a.log').records.map(({ value, mark }) => `${value.toString()} ${mark}`)).toEqual([
      'one newline', 'two newline', 'thr eof', 'ee newline', 'four newline',
    ])
    await rig.stop()
  })

  test('an unterminated line is shipped whole where the read for it comes back short', async () => {
    const rig = await rigWith({ '/log/a.log': `one\n${'x'.repeat(400)}` })
    const open = rig.fs.open.bind(rig.fs)
    let shortReads = 0
    rig.fs.open = async (path, mode) => {
      const handle = await open(path, mode)
      const read: FileHandle['read'] = (target, range) => {
        const [file] = rig.agent.registry.files
        if (file?.wantsFinal !== true || shortReads > 0) return handle.read(target, range)
        shortReads += 1
        return handle.read(target, { ...range, length: 200 })
      }
      return overridden<FileHandle>(handle, { read })
    }
    await rig.start()
    await rig.pass(35_000)
    expect(shortReads).toBe(1)
    expect(rig.collector.streamAt('/log/a.log').records.map(({ value }) => value.length)).toEqual([3, 400])
    await rig.stop()
  })

  test('a directory and a file that appear later are found', async () => {
    const rig = new AgentRig({ zstd, input: { files: ['/log/app/**/*.log'] } })
    await rig.start()
    await rig.fs.makeDirectory('/log/app/deep/er')
    await rig.append('/log/app/deep/er/a.log', 'one\n')
    await rig.pass(12_000)
    expect(rig.collector.bytesOf('/log/app/deep/er/a.log').toString()).toBe('one\n')
    expect(rig.watched).toContain('/log/app/deep/er')
    await rig.stop()
  })

  test('an empty file makes no stream until it has a line', async () => {
    const rig = await (await rigWith({ '/log/a.log': '' })).start()
    await rig.pass(3000)
    expect(rig.collector.streams.size).toBe(0)
    await rig.append('/log/a.log', 'one\n')
    await rig.pass(3000)
    expect(rig.collector.bytesOf('/log/a.log').toString()).toBe('one\n')
    await rig.stop()
  })

  test('empty files that rest are shipped at once when they get their first lines, not in their turn', async () => {
    const paths = Array.from({ length: 15 }, (_, at) => `/log/${at}.log`)
    const rig = await (await rigWith(Object.fromEntries(paths.map((path) => [path, ''])))).start()
    await rig.pass(65_000)
    expect(rig.agent.registry.awake.size).toBe(0)
    for (const path of paths) await rig.append(path, 'one\n')
    await rig.pass(300)
    expect([...rig.collector.streams.values()].map(({ source }) => source.path).sort()).toEqual([...paths].sort())
    await rig.stop()
  })

  test('startAt: end leaves out what was there at the start, and nothing of what comes', async () => {
    const rig = await (await rigWith({ '/log/a.log': 'old\nolder\nhalf' }, { input: { startAt: 'end' } })).start()
    await rig.pass(1000)
    expect(rig.collector.streams.size).toBe(0)
    await rig.append('/log/a.log', ' line\nnew\n')
    await rig.append('/log/later.log', 'whole\n')
    await rig.pass(3000)
    expect(rig.collector.streamAt('/log/a.log').records.map(({ value }) => value.toString())).toEqual(['half line', 'new'])
    expect(rig.collector.bytesOf('/log/later.log').toString()).toBe('whole\n')
    await rig.stop()
  })

  test('startAt: end at a collector that does not know it ships the whole file rather than nothing', async () => {
    const rig = await rigWith({ '/log/a.log': 'old\nhalf' }, { input: { startAt: 'end' } })
    rig.collector.isOld = true
    await rig.start()
    await rig.append('/log/a.log', ' line\n')
    await rig.pass(10_000)
    expect(rig.collector.bytesOf('/log/a.log').toString()).toBe('old\nhalf line\n')
    expect(rig.collector.streams.size).toBe(1)
    await rig.stop()
  })

  test('ignoreOlder leaves an unknown old file alone and says so', async () => {
    const rig = await rigWith({ '/log/a.log': 'old\n' }, { input: { ignoreOlderMs: 3_600_000 } })
    rig.sim.clock.stepWall(7_200_000)
    await rig.start()
    await rig.pass(3000)
    const [file] = rig.agent.registry.files
    expect(file?.state).toEqual({ kind: 'ignored', reason: 'not written for longer than ignoreOlder' })
    expect(file?.lagBytes).toBe(0)
    expect(rig.collector.streams.size).toBe(0)
    await rig.stop()
  })

  test('excluded names and names outside the glob are left alone', async () => {
    const rig = await rigWith({ '/log/a.log': 'one\n', '/log/b.log.gz': 'x\n', '/log/other.txt': 'x\n' }, { ...once, input: { files: ['/log/*.log', '/log/*.gz'] } })
    await rig.finish()
    expect([...rig.collector.streams.values()].map(({ source }) => source.path)).toEqual(['/log/a.log'])
  })
})

describe('rotation', () => {
  test('a file renamed out of the glob is read to its end, and its stream is closed after the grace', async () => {
    const rig = await (await rigWith({ '/log/a.log': lines('first') })).start()
    await rig.pass(1000)
    await rig.rename('/log/a.log', '/log/a.log.1')
    await rig.pass(1500)
    await rig.append('/log/a.log.1', 'late\n')
    await rig.append('/log/a.log', 'new file\n')
    await rig.pass(5000)
    expect(rig.collector.bytesOf('/log/a.log.1').toString()).toBe(`${lines('first')}late\n`)
    expect(rig.collector.bytesOf('/log/a.log').toString()).toBe('new file\n')
    await rig.pass(15_000)
    expect(rig.collector.streamAt('/log/a.log.1').isOpen).toBe(false)
    expect(rig.collector.streamAt('/log/a.log').isOpen).toBe(true)
    await rig.stop()
  })

  test('a file renamed inside the glob keeps its stream and is not shipped again', async () => {
    const rig = await (await rigWith({ '/log/a.log': lines('first') }, { input: { files: ['/log/*'] } })).start()
    await rig.pass(1000)
    await rig.rename('/log/a.log', '/log/a.log.1')
    await rig.append('/log/a.log', 'new file\n')
    await rig.pass(40_000)
    await rig.append('/log/a.log.1', 'late\n')
    await rig.pass(3000)
    expect(rig.collector.streams.size).toBe(2)
    expect(rig.collector.bytesOf('/log/a.log.1').toString()).toBe(`${lines('first')}late\n`)
    await rig.stop()
  })

  test('a deleted file is read to its end through its descriptor, an unterminated line included', async () => {
    const rig = await (await rigWith({ '/log/a.log': 'one\n' })).start()
    rig.collector.isDown = true
    await rig.append('/log/a.log', 'two\nthree')
    await rig.remove('/log/a.log')
    await rig.pass(30_000)
    rig.collector.isDown = false
    await rig.pass(60_000)
    const stream = rig.collector.streamAt('/log/a.log')
    expect(stream.bytes.toString()).toBe('one\ntwo\nthree')
    expect(stream.isOpen).toBe(false)
    expect([...rig.agent.registry.files]).toEqual([])
    await rig.stop()
  })

  test('copytruncate: the copied tail continues the stream and the rest is a new generation', async () => {
    const rig = await (await rigWith({ '/log/a.log': lines('first') })).start()
    await rig.pass(1000)
    rig.collector.isDown = true
    await rig.append('/log/a.log', lines('tail'))
    await rig.pass(100)
    await rig.copy('/log/a.log', '/log/a.log.1')
    await rig.truncate('/log/a.log')
    await rig.append('/log/a.log', 'after\n')
    await rig.pass(5000)
    rig.collector.isDown = false
    await rig.pass(90_000)
    const streams = [...rig.collector.streams.values()]
    expect(streams.map(({ bytes }) => bytes.toString())).toEqual([lines('first') + lines('tail'), 'after\n'])
    expect(streams.map(({ source }) => [source.generation, source.supersedes])).toEqual([[1, undefined], [2, 1]])
    await rig.stop()
  })

  test('copytruncate inside the glob ships no line twice', async () => {
    const rig = await (await rigWith({ '/log/a.log': lines('first') }, { input: { files: ['/log/*'] } })).start()
    await rig.pass(1000)
    await rig.copy('/log/a.log', '/log/a.log.1')
    await rig.pass(3000)
    await rig.truncate('/log/a.log')
    await rig.append('/log/a.log', 'after\n')
    await rig.pass(60_000)
    expect([...rig.collector.streams.values()].map(({ bytes }) => bytes.toString())).toEqual([lines('first'), 'after\n'])
    await rig.stop()
  })

  test.each([['inside', '/log/*'], ['outside', '/log/*.log']])('copies %s the glob are not shipped again after restarts, however many there are', async (_where, glob) => {
    const input = { files: [glob] }
    let rig = await rigWith({ '/log/a.log': lines('gen 0') }, { input })
    const expected: string[] = []
    for (let rotation = 0; rotation < 12; rotation += 1) {
      await rig.start()
      await rig.pass(3000)
      expected.push(`${rig.fs.getFile('/log/a.log')?.toString() ?? ''}late in ${rotation}\n`)
      if (rotation % 2 === 0) await rig.stop()
      await rig.append('/log/a.log', `late in ${rotation}\n`)
      for (let number = rotation; number >= 1; number -= 1) await rig.rename(`/log/a.log.${number}`, `/log/a.log.${number + 1}`)
      rig.sim.clock.stepWall(1000)
      await rig.copy('/log/a.log', '/log/a.log.1')
      await rig.truncate('/log/a.log')
      await rig.append('/log/a.log', lines(`gen ${rotation + 1}`))
      if (rotation % 2 !== 0) {
        await rig.pass(3000)
        await rig.stop()
      }
      rig = await rigWith({}, { input, fs: rig.fs, collector: rig.collector })
    }
    await rig.start()
    await rig.pass(60_000)
    await rig.stop()
    const stored = [...rig.collector.streams.values()].map(({ bytes }) => bytes.toString())
    expect(new Set(stored)).toEqual(new Set([...expected, lines('gen 12')]))
    expect(stored).toHaveLength(13)
  })

  test('the tail of a copy is not lost when the agent dies after the next generation has begun', async () => {
    const rig = await (await rigWith({ '/log/a.log': lines('first') })).start()
    await rig.pass(1000)
    rig.collector.judgeFrame = (source) =>
      source.generation === 1 ? { status: 'error', code: 'UNAVAILABLE', message: 'later', retryable: true } : undefined
    await rig.append('/log/a.log', lines('tail'))
    await rig.copy('/log/a.log', '/log/a.log.1')
    await rig.truncate('/log/a.log')
    await rig.append('/log/a.log', 'after\n')
    await rig.pass(5000)
    expect([...rig.collector.streams.values()].map(({ isSuperseded }) => isSuperseded)).toEqual([true, false])
    await rig.stop()
    rig.collector.judgeFrame = undefined
    const next = await (await rigWith({}, { fs: rig.fs, collector: rig.collector })).start()
    await next.pass(60_000)
    await next.stop()
    expect([...next.collector.streams.values()].map(({ bytes }) => bytes.toString())).toEqual([lines('first') + lines('tail'), 'after\n'])
  })

  test('a file truncated and grown past its old position between two looks is seen', async () => {
    const rig = await (await rigWith({ '/log/a.log': lines('first') })).start()
    await rig.pass(1000)
    rig.fs.putFile('/log/a.log', Buffer.from(lines('second', 100)))
    await rig.pass(15_000)
    const streams = [...rig.collector.streams.values()]
    expect(streams.map(({ bytes }) => bytes.toString())).toEqual([lines('first'), lines('second', 100)])
    await rig.stop()
  })

  test('a rotated file outside the glob is completed after a restart, and the one between is found', async () => {
    const first = await (await rigWith({ '/log/a.log': lines('first') })).start()
    await first.pass(1000)
    await first.stop()
    await first.append('/log/a.log', 'late\n')
    await first.rename('/log/a.log', '/log/a.log.2')
    first.sim.clock.stepWall(1000)
    await first.append('/log/a.log.1', lines('between'))
    first.sim.clock.stepWall(1000)
    await first.append('/log/a.log', 'newest\n')
    const second = await (await rigWith({}, { fs: first.fs, collector: first.collector })).start()
    await second.pass(30_000)
    expect(second.collector.bytesOf('/log/a.log.2').toString()).toBe(`${lines('first')}late\n`)
    const atBase = [...second.collector.streams.values()].filter(({ keyPath }) => keyPath === '/log/a.log').map(({ bytes }) => bytes.toString())
    expect(new Set(atBase)).toEqual(new Set([`${lines('first')}late\n`, lines('between'), 'newest\n']))
    await second.stop()
  })
})
