import { expect, test } from 'vitest'
import { SweepPace } from '../../agent/sweep-pace.ts'

type Look = Parameters<SweepPace['isLookDue']>[0]

const writtenAt = (atMs: number): Look => ({ cursor: undefined, lastGrowthMs: atMs, lastWriteMs: atMs })
const filesOf = (count: number): Look[] => Array.from({ length: count }, () => writtenAt(0))

function looksOf(pace: SweepPace, files: readonly Look[], nowMs: number): boolean[] {
  pace.beginTick()
  return files.map((file) => pace.isLookDue(file, nowMs))
}

test('a sweep of everything comes every ten ticks, seldomer where it takes long, and every five minutes at least', () => {
  const pace = new SweepPace(1000)
  expect(pace.isFullSweepDue(0)).toBe(true)
  const nextAfter = (tookMs: number): number => {
    pace.noteSweep({ fromMs: 0, toMs: tookMs })
    for (let nowMs = tookMs; ; nowMs += 500) if (pace.isFullSweepDue(nowMs)) return nowMs - tookMs
  }
  expect(nextAfter(0)).toBe(10_000)
  expect(nextAfter(100)).toBe(100_000)
  expect(nextAfter(5_000)).toBe(300_000)
})

test('all files are looked at in ten ticks, of many so many in each, and in a minute at least', () => {
  const ticks = (fileCount: number, tickMs: number): number => Math.ceil(fileCount / new SweepPace(tickMs).roundLooks(fileCount))
  expect(ticks(7, 1000)).toBe(7)
  expect(ticks(1000, 1000)).toBe(10)
  expect(ticks(6000, 1000)).toBe(40)
  expect(ticks(200_000, 1000)).toBe(60)
  expect(ticks(10_000, 10_000)).toBe(10)
})

test('files that grew in the last minute are looked at in each tick, no others', () => {
  const pace = new SweepPace(1000)
  const files = [writtenAt(0), writtenAt(50_000)]
  for (let tick = 0; tick < 3; tick += 1) expect(looksOf(pace, files, 60_000)).toEqual([false, true])
})

test('of many such files a part is looked at in each tick, and every one in turn', () => {
  const pace = new SweepPace(1000)
  const files = filesOf(500)
  looksOf(pace, files, 1)
  const seen = new Set<number>()
  for (let tick = 0; tick < 3; tick += 1) {
    const looks = looksOf(pace, files, 1)
    expect(looks.filter(Boolean).length).toBeLessThanOrEqual(200)
    for (const [at, look] of looks.entries()) if (look) seen.add(at)
  }
  expect(seen.size).toBe(500)
})

test('a file that was old when it was found is looked at while it is not tied to a stream, then no more', () => {
  const pace = new SweepPace(1000)
  const file = { ...writtenAt(0), lastWriteMs: -3_600_000 }
  expect(looksOf(pace, [file], 1)).toEqual([true])
  const tied = { ...file, cursor: {} as NonNullable<Look['cursor']> }
  expect(looksOf(pace, [tied], 1)).toEqual([false])
  expect(looksOf(pace, [{ ...tied, lastWriteMs: 1 }], 1)).toEqual([true])
})
