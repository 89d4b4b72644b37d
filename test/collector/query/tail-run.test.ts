import { beforeAll, describe, expect, test } from 'vitest'
import { createInProcessExecutor } from '../../../collector/query/in-process-executor.ts'
import { parseTail } from '../../../collector/query/parse-query.ts'
import { QueryEngine } from '../../../collector/query/query-engine.ts'
import type { TailEvent } from '../../../collector/query/tail-run.ts'
import { toOffset } from '../../../shared/types.ts'
import type { QueryRecord } from '../../../shared/wire.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { MemoryTopicLog } from '../../memory-topic-log.ts'
import { overridden } from '../../overridden.ts'
import { settle, simulate, type SimClock } from '../../sim-system.ts'
import { encodeBatch, tinySizes } from './query-fixture.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

const START_MS = Date.UTC(2026, 0, 1)

class Tail {
  readonly events: TailEvent[] = []
  readonly done: Promise<void>
  private readonly stop = new AbortController()

  constructor(bursts: (signal: AbortSignal) => AsyncGenerator<readonly TailEvent[], void, void>) {
    this.done = this.collect(bursts(this.stop.signal))
  }

  get lines(): string[] {
    return this.events.flatMap((event) => (event.kind === 'record' ? [(JSON.parse(Buffer.from(event.row).toString()) as QueryRecord).line] : []))
  }

  get cursor(): string {
    const event = this.events.findLast(({ kind }) => kind !== 'missing')
    return event === undefined || event.kind === 'missing' ? '' : event.cursor
  }

  async end(): Promise<void> {
    this.stop.abort()
    await this.done
  }

  private async collect(bursts: AsyncGenerator<readonly TailEvent[], void, void>): Promise<void> {
    for await (const burst of bursts) this.events.push(...burst)
  }
}

interface Stage {
  readonly log: MemoryTopicLog
  readonly clock: SimClock
  readonly write: (partition: number, lines: readonly string[], ts?: number, topic?: string) => Promise<void>
  readonly tail: (parameters: string) => Promise<Tail>
}

async function stage(partitions: number): Promise<Stage> {
  const { clock } = simulate({ nowMs: START_MS })
  const log = new MemoryTopicLog({ zstd, nowMs: () => clock.nowMs() })
  await log.createTopic('app', { partitions })
  const engine = new QueryEngine({ log, clock, executor: createInProcessExecutor(zstd), sizes: tinySizes })
  return {
    log, clock,
    write: async (partition, lines, ts = clock.nowMs(), topic = 'app') => {
      await log.appendPlain({ topic, partition, batch: encodeBatch({ key: `web-${partition}:/a.log`, records: lines.map((line) => ({ line, ts })) }, zstd) })
      await settle(40)
    },
    tail: async (parameters) => {
      const prepared = await engine.prepareTail(parseTail(new URLSearchParams(parameters)))
      const tail = new Tail((signal) => engine.tail(prepared, signal))
      await settle(40)
      return tail
    },
  }
}

describe('a tail', () => {
  test('of one partition gives a new line at once, and nothing older', async () => {
    const { write, tail } = await stage(1)
    await write(0, ['old'])
    const follower = await tail('')
    await write(0, ['new'])
    expect(follower.lines).toEqual(['new'])
    expect(follower.cursor).toBe('app:0@2')
    await follower.end()
  })

  test('begins with the last lines when asked to', async () => {
    const { write, tail } = await stage(2)
    await write(0, ['a1', 'a2', 'a3'], START_MS - 3000)
    await write(1, ['b1', 'b2'], START_MS - 2000)
    const follower = await tail('last=3')
    expect(follower.lines).toEqual(['a3', 'b1', 'b2'])
    await write(0, ['a4'], START_MS - 1000)
    expect(follower.lines).toEqual(['a3', 'b1', 'b2', 'a4'])
    await follower.end()
  })

  test('holds a line back for older lines of other partitions, but not longer than holdMs', async () => {
    const { write, tail, clock } = await stage(2)
    const follower = await tail('holdMs=500')
    await write(0, ['newer'], START_MS + 10)
    expect(follower.lines).toEqual([])
    await clock.advance(200)
    await write(1, ['older'], START_MS)
    expect(follower.lines).toEqual(['older'])
    await clock.advance(600)
    await settle(40)
    expect(follower.lines).toEqual(['older', 'newer'])
    await write(1, ['late'], START_MS - 5000)
    expect(follower.lines).toEqual(['older', 'newer', 'late'])
    await follower.end()
  })

  test('resumes from any of its cursors without a gap or a repeat', async () => {
    const { write, tail } = await stage(2)
    const follower = await tail('')
    for (let at = 0; at < 12; at += 1) await write(at % 2, [`line ${at} a`, `line ${at} b`], START_MS - 60_000 + at)
    const all = follower.lines
    expect(all.length).toBe(24)
    const cursors = follower.events.flatMap((event) => (event.kind === 'record' ? [event.cursor] : []))
    await follower.end()
    for (const [at, cursor] of cursors.entries()) {
      const resumed = await tail(`from=${encodeURIComponent(cursor)}`)
      expect(resumed.lines).toEqual(all.slice(at + 1))
      await resumed.end()
    }
  })

  test('applies the filters, and moves its cursor over lines that do not match', async () => {
    const { write, tail, clock } = await stage(1)
    const follower = await tail('pattern=hit&host=web-*&before=1')
    await write(0, ['x', 'y', 'a hit', 'z'])
    expect(follower.lines).toEqual(['y', 'a hit'])
    await write(0, ['nothing', 'here'])
    await clock.advance(20_000)
    await settle(40)
    expect(follower.events.at(-1)).toEqual({ kind: 'position', cursor: 'app:0@6' })
    await follower.end()
  })

  test('takes up topics that appear later, from their first line', async () => {
    const { write, tail, clock, log } = await stage(1)
    const follower = await tail('')
    await log.createTopic('web', { partitions: 1 })
    await write(0, ['first'], START_MS, 'web')
    await clock.advance(1100)
    await settle(40)
    expect(follower.lines).toEqual(['first'])
    expect(follower.cursor).toBe('app:0@0,web:0@1')
    await follower.end()
  })

  test('of a topic that is deleted goes on with the others', async () => {
    const { write, tail, log } = await stage(1)
    await log.createTopic('web', { partitions: 1 })
    const follower = await tail('')
    await log.deleteTopic('web')
    await write(0, ['still here'], START_MS - 10_000)
    await write(0, ['and here'], START_MS - 10_000)
    expect(follower.lines).toContain('still here')
    await follower.end()
  })

  test('reads no further than one page while its reader is slow', async () => {
    const { log, write } = await stage(1)
    for (let at = 0; at < 50; at += 1) await write(0, [`line ${at}`.padEnd(200, String(at))])
    let reads = 0
    const counting = overridden(log, {
      read: (request: Parameters<MemoryTopicLog['read']>[0]) => {
        reads += 1
        return log.read(request)
      },
    })
    const { clock } = simulate({ nowMs: START_MS })
    const engine = new QueryEngine({ log: counting, clock, executor: createInProcessExecutor(zstd), sizes: tinySizes })
    const stop = new AbortController()
    const bursts = engine.tail(await engine.prepareTail({ ...parseTail(new URLSearchParams()), from: new Map([['app:0', toOffset(0)]]) }), stop.signal)
    const first = await bursts.next()
    await settle(100)
    expect(first.done).toBe(false)
    const given = first.done === true ? 0 : first.value.length
    expect(given).toBeLessThan(50)
    expect(reads).toBeLessThan(given + 8)
    stop.abort()
    await bursts.return()
  })
})
