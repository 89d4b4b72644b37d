import { expect, test } from 'vitest'
import { parseArguments } from './arguments.ts'

test('three minutes of faults when nothing is asked for', () => {
  expect(parseArguments([])).toMatchObject({ kind: 'faults', minutes: 3, kills: undefined, seed: undefined, rate: 2000 })
})

test('kills alone have no limit of minutes', () => {
  expect(parseArguments(['--kills', '200', '--seed', '7'])).toMatchObject({ kind: 'faults', kills: 200, minutes: undefined, seed: 7 })
})

test.each([
  [['--peers-table', '--only', 'rename'], { kind: 'peers-table', only: 'rename' }],
  [['--scenarios'], { kind: 'scenarios' }],
  [['--power-cuts', '10', '--lying-disk'], { kind: 'power-cuts', cuts: 10, isLying: true }],
  [['-h'], { kind: 'help' }],
])('%j is understood', (args, wanted) => {
  expect(parseArguments(args)).toMatchObject(wanted)
})

test.each([
  [['--kils', '3'], '--kils'],
  [['--kills'], '--kills'],
  [['--kills', 'many'], 'a whole number'],
  [['--kills', '1.5'], 'a whole number'],
  [['--kills', ''], 'a whole number'],
  [['--minutes', '-1'], '--minutes'],
  [['--minutes', '0'], 'above 0'],
  [['--rate', '1e9'], 'up to'],
  [['soon'], 'soon'],
  [['--scenarios', '--peers-table'], 'alone'],
  [['--power-cuts', '3', '--kills', '2'], '--kills'],
  [['--only', 'clone'], '--scenarios'],
  [['--lying-disk'], '--power-cuts'],
  [['--scenarios', '--json', 'figures.json'], '--json'],
])('%j is refused in one line that names it', (args, named) => {
  const parsed = parseArguments(args)
  expect(parsed).toMatchObject({ kind: 'wrong', message: expect.stringContaining(named) })
  expect('message' in parsed && parsed.message).not.toContain('\n')
})
