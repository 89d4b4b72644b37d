/**
 * A bounded share of the simulation for `npm test`; `npm run sim -- --seeds 1000` runs the rest. A seed that fails is
 * replayed by `npm run sim -- --seed N`.
 */
import { expect, test } from 'vitest'
import { runSeed } from './run-seed.ts'

const SEEDS = Array.from({ length: 30 }, (_none, index) => index + 1)

test.each(SEEDS)('seed %i: nothing lost, doubled or reordered, and every invariant holds', async (seed) => {
  const result = await runSeed({ seed })
  const story = result.violations.length === 0 ? [] : [...result.violations, ...result.lastEvents(60)]
  expect(story).toEqual([])
}, 60_000)

test('the same seed is the same run, event by event', async () => {
  const [first, second] = [await runSeed({ seed: 4 }), await runSeed({ seed: 4 })]
  expect(second.lastEvents(10_000)).toEqual(first.lastEvents(10_000))
  expect(second.judgement?.storedBytes).toBe(first.judgement?.storedBytes)
}, 60_000)
