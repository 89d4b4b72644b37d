import { describe, expect, test } from 'vitest'
import { parseTimeArgument } from '../../../collector/cli/time-argument.ts'
import { humanTime } from '../../../collector/cli/human.ts'
import { AppError } from '../../../shared/errors.ts'

const nowMs = Date.UTC(2026, 2, 10, 15, 30, 0, 250)

describe('a time in UTC', () => {
  const table: ReadonlyArray<readonly [string, string]> = [
    ['now', '2026-03-10T15:30:00.250Z'],
    ['10m', '2026-03-10T15:20:00.250Z'],
    ['2h', '2026-03-10T13:30:00.250Z'],
    ['-2h', '2026-03-10T13:30:00.250Z'],
    ['1h30m', '2026-03-10T14:00:00.250Z'],
    ['500ms', '2026-03-10T15:29:59.750Z'],
    ['3d', '2026-03-07T15:30:00.250Z'],
    ['1w', '2026-03-03T15:30:00.250Z'],
    ['today', '2026-03-10T00:00:00.000Z'],
    ['yesterday', '2026-03-09T00:00:00.000Z'],
    ['yesterday 14:30', '2026-03-09T14:30:00.000Z'],
    ['14:30', '2026-03-10T14:30:00.000Z'],
    ['9:05:07', '2026-03-10T09:05:07.000Z'],
    ['2026-03-01', '2026-03-01T00:00:00.000Z'],
    ['2026-03-01T14:30', '2026-03-01T14:30:00.000Z'],
    ['2026-03-01 14:30:05', '2026-03-01T14:30:05.000Z'],
    ['2026-03-01T14:30:05.123', '2026-03-01T14:30:05.123Z'],
    ['2026-03-01T14:30:05.123456Z', '2026-03-01T14:30:05.123Z'],
    ['2026-03-01T14:30+02:00', '2026-03-01T12:30:00.000Z'],
    ['2026-03-01T14:30:05-0530', '2026-03-01T20:00:05.000Z'],
    ['@1700000000', '2023-11-14T22:13:20.000Z'],
    ['@1700000000.5', '2023-11-14T22:13:20.500Z'],
    ['@1700000000123', '2023-11-14T22:13:20.123Z'],
    [' 10m ', '2026-03-10T15:20:00.250Z'],
  ]
  test.each(table)('%s is %s', (text, expected) => {
    expect(new Date(parseTimeArgument(text, { nowMs, utc: true })).toISOString()).toBe(expected)
  })
})

test.each([
  '', 'soon', '10', '10x', '10m ago', '--2h', '25:00', '14:60', '2026-02-30', '2026-13-01', '2026-3-1', '2026-03-01T14', '14:30Z',
  '2026-03-01T14:30+25:00', '@', '@x', '@1700000000123.5', 'tomorrow2', '1h 30m',
])('%j is refused as a usage error that names the forms', (text) => {
  try {
    parseTimeArgument(text, { nowMs, utc: true })
    expect.unreachable()
  } catch (error) {
    expect(error).toBeInstanceOf(AppError)
    expect(error).toMatchObject({ code: 'BAD_REQUEST', exitCode: 2 })
  }
})

test('without --utc a time without a zone is local: it means what Date means by it', () => {
  expect(parseTimeArgument('2026-03-01T14:30', { nowMs, utc: false })).toBe(new Date(2026, 2, 1, 14, 30).getTime())
  expect(parseTimeArgument('today', { nowMs, utc: false })).toBe(new Date(new Date(nowMs).setHours(0, 0, 0, 0)).getTime())
})

test('a printed time can be given back and is the same instant', () => {
  for (const utc of [true, false]) expect(parseTimeArgument(humanTime(nowMs, { utc }), { nowMs: 0, utc: !utc })).toBe(nowMs)
})

test('a timestamp out of range is printed as a number, not thrown', () => {
  expect(humanTime(Number.NaN, { utc: true })).toBe('NaN')
  expect(humanTime(9e15, { utc: false })).toBe('9000000000000000')
})
