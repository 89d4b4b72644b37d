import fc from 'fast-check'
import { expect, test } from 'vitest'
import { formatBytes, formatDuration, parseBytes, parseDuration } from '../../shared/units.ts'

test('sizes take B KiB MiB GiB, fractions that are whole bytes, and plain bytes', () => {
  expect(['0', '12', '1B', '64KiB', '1.5 MiB', '2GiB'].map(parseBytes)).toEqual([0, 12, 1, 65_536, 1_572_864, 2 * 1024 ** 3])
})

test('what is not a size is not guessed', () => {
  expect(['', '64MB', '64mib', '-1', '1.3B', '1e6', '9999999999GiB', 'MiB'].map(parseBytes)).toEqual(Array(8).fill(undefined))
})

test('durations need a unit, but for zero', () => {
  expect(['250ms', '1.5s', '10m', '2h', '7d', '0'].map(parseDuration)).toEqual([250, 1500, 600_000, 7_200_000, 604_800_000, 0])
  expect(['7', '7 days', '1w', '-1s', ''].map(parseDuration)).toEqual(Array(5).fill(undefined))
})

test('what is formatted parses back to the same value', () => {
  fc.assert(
    fc.property(fc.nat(), (value) => {
      expect(parseBytes(formatBytes(value))).toBe(value)
      expect(parseDuration(formatDuration(value))).toBe(value)
    }),
  )
})
