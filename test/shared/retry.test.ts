import { expect, test } from 'vitest'
import { backoffMs, retryDelayMs } from '../../shared/retry.ts'

const limits = { baseMs: 100, maxMs: 15_000 }

test('the wait is uniform below a ceiling that doubles up to the maximum', () => {
  expect([0, 1, 2, 7, 8, 1000].map((attempt) => backoffMs(attempt, limits, 0.999_999))).toEqual([99, 199, 399, 12_799, 14_999, 14_999])
  expect(backoffMs(5, limits, 0)).toBe(0)
})

test('what the server asks for is the least, but a hostile server is not obeyed for ever', () => {
  expect(retryDelayMs({ attempt: 0, retryAfterMs: 2000, random: 0.5 }, limits)).toBe(2000)
  expect(retryDelayMs({ attempt: 0, retryAfterMs: 1e12, random: 0.5 }, limits)).toBe(60_000)
  expect(retryDelayMs({ attempt: 0, retryAfterMs: undefined, random: 0.5 }, limits)).toBe(50)
})
