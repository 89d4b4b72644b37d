/** A short share of the torture with real processes; `npm run torture` is the whole. */
import { expect, test } from 'vitest'
import { powerLoss } from '../torture/power-loss.ts'
import { explainTorture } from '../torture/report.ts'
import { torture } from '../torture/run.ts'

test('eight kills among many other faults lose, double and reorder nothing [long]', async () => {
  const said: string[] = []
  const result = await torture({ seed: 4, kills: 8, minutes: 1, linesPerSecond: 1500, say: (text) => said.push(text), chat: (text) => said.push(text) })
  expect(result.isClean, [...said, ...explainTorture(result)].join('\n')).toBe(true)
  expect(result.verdicts.map(({ lost, doubled, reordered }) => [lost, doubled, reordered])).toEqual([[0, 0, 0], [0, 0, 0]])
  expect(result.kills).toBeGreaterThanOrEqual(5)
}, 240_000)

test('a real power cut finds a disk that only says that it synced [long]', async ({ skip }) => {
  const said: string[] = []
  const result = await powerLoss({ seed: 3, cuts: 2, linesPerSecond: 2000, isLying: true, say: (text) => said.push(text) })
  if (result === 'skipped') skip(said.join('\n'))
  expect(result, said.join('\n')).toBe('wrong')
}, 180_000)
