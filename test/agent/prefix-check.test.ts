/** Adopted positions looked at once more: files that agree at both ends and differ in between. */
import { beforeAll, describe, expect, test } from 'vitest'
import { loadZstd, type Zstd } from '../../shared/zstd.ts'
import { AgentRig, type RigOptions } from './agent-rig.ts'
import type { FakeCollector } from './fake-collector.ts'

let zstd: Zstd
beforeAll(async () => {
  zstd = await loadZstd()
})

const head = `${'head '.repeat(300)}\n`
/** More than a tail hash covers. */
const constantTail = 'nothing to do\n'.repeat(8000)

function content(middle: string): string {
  return head + `${middle} ${'x'.repeat(50)}\n`.repeat(2000) + constantTail
}

interface Restart extends Partial<RigOptions> {
  readonly stored: string
  readonly now: string
  readonly prepare?: (collector: FakeCollector) => void
}

/** An agent shipped `stored`; then the file held `now`, of the same length, and another agent is there. */
async function restarted({ stored, now, prepare, ...options }: Restart): Promise<AgentRig> {
  const first = new AgentRig({ zstd, config: { isOnce: true } })
  await first.fs.makeDirectory('/log')
  first.fs.putFile('/log/a.log', Buffer.from(stored))
  await first.finish()
  first.fs.putFile('/log/a.log', Buffer.from(now))
  prepare?.(first.collector)
  return new AgentRig({ zstd, fs: first.fs, collector: first.collector, ...options }).start()
}

async function checks(rig: AgentRig): Promise<string> {
  const text = await rig.sim.system.metrics.render()
  return text.split('\n').filter((line) => line.startsWith('tailrace_agent_prefix_checks_total{')).join('\n')
}

function storedBytes(rig: AgentRig): (string | boolean)[][] {
  return [...rig.collector.streams.values()].map(({ bytes, isSuperseded }) => [bytes.toString(), isSuperseded])
}

test('a file whose middle differs behind a constant tail begins a generation that supersedes', async () => {
  const rig = await restarted({ stored: content('old'), now: content('new') })
  await rig.pass(30_000)
  expect(storedBytes(rig)).toEqual([[content('old'), true], [content('new'), false]])
  expect(await checks(rig)).toContain('result="different"} 1')
  const warning = rig.sim.log.lines.find(({ event }) => event.includes('not what was shipped'))
  expect(warning).toMatchObject({ level: 'warn', fields: { path: '/log/a.log', start: 0 } })
  await rig.append('/log/a.log', 'and on\n')
  await rig.pass(60_000)
  expect(rig.collector.bytesOf('/log/a.log').toString()).toBe(`${content('new')}and on\n`)
  expect(rig.collector.streams.size).toBe(2)
  await rig.stop()
})

test('hashes of another stream, answered by mistake, say nothing about this one', async () => {
  const other = { stream: 'f'.repeat(32), from: 0, ranges: [{ start: 0, end: 5, sourceHash: '0'.repeat(32) }], next: null, reachesBackTo: null }
  const rig = await restarted({ stored: content('same'), now: content('same'), prepare: (collector) => collector.crossedHashes.push(other) })
  await rig.pass(120_000)
  expect(rig.collector.crossedHashes).toEqual([])
  expect(storedBytes(rig)).toEqual([[content('same'), false]])
  expect(await checks(rig)).toContain('result="equal"} 1')
  await rig.stop()
})

test('what is written while the check runs is in the new generation and in it alone', async () => {
  const rig = await restarted({ stored: content('old'), now: content('new') })
  for (let count = 0; count < 20; count += 1) {
    await rig.append('/log/a.log', `line ${count}\n`)
    await rig.pass(1000)
  }
  await rig.pass(30_000)
  expect(rig.collector.bytesOf('/log/a.log').equals(rig.fs.getFile('/log/a.log') ?? Buffer.alloc(0))).toBe(true)
  expect(rig.collector.streams.size).toBe(2)
  await rig.stop()
})

test('the file is read slowly', async () => {
  const large = content('old') + 'x'.repeat(100).concat('\n').repeat(30_000)
  const checked = async (rig: AgentRig): Promise<number> => Number(/prefix_checked_bytes_total ([0-9]+)/.exec(await rig.sim.system.metrics.render())?.[1])
  const rig = await restarted({ stored: large, now: large })
  expect(await checked(rig)).toBeLessThanOrEqual(1024 * 1024)
  await rig.pass(5000)
  expect(await checked(rig)).toBe(large.length)
  await rig.stop()
})

test('an equal file passes', async () => {
  const rig = await restarted({ stored: content('old'), now: content('old') })
  await rig.pass(30_000)
  expect(await checks(rig)).toBe('tailrace_agent_prefix_checks_total{result="equal"} 1')
  expect(rig.collector.streams.size).toBe(1)
  await rig.stop()
})

test('ranges that the log has dropped are skipped, and the rest is compared', async () => {
  const rig = await restarted({ stored: content('old'), now: content('old'), prepare: (collector) => { collector.hashesFrom = 100_000 } })
  await rig.pass(30_000)
  expect(await checks(rig)).toBe('tailrace_agent_prefix_checks_total{result="not stored any more"} 1')
  expect(rig.collector.streams.size).toBe(1)
  await rig.stop()
})

describe('what can not be compared changes nothing', () => {
  test('a collector that tells no hashes is asked once', async () => {
    const rig = await restarted({ stored: content('old'), now: content('new'), prepare: (collector) => { collector.isWithoutHashes = true } })
    await rig.pass(60_000)
    await rig.append('/log/a.log', 'more\n')
    await rig.pass(5000)
    expect(rig.collector.requests.filter((path) => path.endsWith('/hashes'))).toHaveLength(1)
    expect(rig.collector.streams.size).toBe(1)
    await rig.stop()
  })

  test('a file that goes ends its check', async () => {
    const rig = await restarted({ stored: content('old'), now: content('old'), config: { rotateGraceMs: 100 } })
    await rig.remove('/log/a.log')
    await rig.pass(30_000)
    expect(rig.agent.registry.size).toBe(0)
    expect(rig.collector.streams.size).toBe(1)
    await rig.stop()
  })

  test('prefixCheck: false asks for no hashes', async () => {
    const rig = await restarted({ stored: content('old'), now: content('new'), config: { isPrefixChecked: false } })
    await rig.pass(30_000)
    expect(rig.collector.requests.filter((path) => path.endsWith('/hashes'))).toEqual([])
    expect(rig.collector.streams.size).toBe(1)
    await rig.stop()
  })
})
