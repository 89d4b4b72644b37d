import { expect, test } from 'vitest'
import { runSeed } from './run-seed.ts'

test.each([1,2,3,4,5])('seed %d', async (seed) => {
  const t = performance.now()
  const r = await runSeed({ seed })
  console.log(seed, r.kinds.join(','), 'ms', Math.round(performance.now()-t), 'virt', r.virtualMs, 'steps', r.steps, r.judgement?.writtenBytes, r.judgement?.storedBytes, r.judgement?.namedCopies, JSON.stringify([...(r.judgement?.explained ?? [])]), 'starts', r.starts)
  if (r.violations.length) console.log(r.lastEvents(60).join('\n'))
  expect(r.violations).toEqual([])
}, 120000)
