import { expect, test } from 'vitest'
import { afterRead, dueMs, initialPace } from '../../agent/pace.ts'

const limits = { lingerMs: 20, lingerMsMax: 250 }

test('the first line after idle is due at once', () => {
  expect(dueMs(initialPace(limits), 1000, limits)).toBe(1000)
  expect(dueMs({ lingerMs: 250, lastReadMs: 1000 }, 1500, limits)).toBe(1500)
})

test('under steady load the gap grows to lingerMsMax and no further', () => {
  let pace = initialPace(limits)
  let nowMs = 1000
  for (let count = 0; count < 20; count += 1) {
    pace = afterRead(pace, nowMs, limits)
    nowMs = dueMs(pace, nowMs + 1, limits)
  }
  expect(pace.lingerMs).toBe(250)
})

test('files that are written steadily are due at the same moments, about lingerMsMax apart', () => {
  const dueOf = (firstMs: number, workMs: number): number[] => {
    let pace = { lingerMs: 250, lastReadMs: firstMs }
    return Array.from({ length: 8 }, () => {
      const due = dueMs(pace, pace.lastReadMs + 1, limits)
      expect(due - pace.lastReadMs).toBeGreaterThanOrEqual(125 - workMs)
      expect(due - pace.lastReadMs).toBeLessThanOrEqual(375)
      // Read a little later than it was due: others came first.
      pace = afterRead(pace, due + workMs, limits)
      return due
    })
  }
  expect(dueOf(10_003, 0)).toEqual([10_250, 10_500, 10_750, 11_000, 11_250, 11_500, 11_750, 12_000])
  expect(dueOf(10_240, 20)).toEqual([10_500, 10_750, 11_000, 11_250, 11_500, 11_750, 12_000, 12_250])
})

test('after a rest the gap is short again', () => {
  expect(afterRead({ lingerMs: 250, lastReadMs: 0 }, 10_000, limits)).toEqual({ lingerMs: 20, lastReadMs: 10_000 })
})

test('a linger of 0 sends everything at once', () => {
  const none = { lingerMs: 0, lingerMsMax: 0 }
  const pace = afterRead(afterRead(initialPace(none), 5, none), 5, none)
  expect(dueMs(pace, 5, none)).toBe(5)
})
