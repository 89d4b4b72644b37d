/** Makes a failing run smaller: kinds of faults off one by one, then less time, as long as something is still broken. */
import type { Kind } from './kinds.ts'
import { planOf, type PlanOptions } from './plan.ts'
import { runSeed, type SeedResult } from './run-seed.ts'

export interface Shrunk {
  readonly options: PlanOptions
  readonly result: SeedResult
}

const RUNS_MAX = 60

export async function shrink(options: PlanOptions): Promise<Shrunk> {
  let runs = 0
  let best: Shrunk = { options, result: await runSeed(options) }
  const wanted = kindOf(best.result)
  const attempt = async (smaller: PlanOptions): Promise<boolean> => {
    if (runs >= RUNS_MAX) return false
    runs += 1
    const result = await runSeed(smaller)
    if (kindOf(result) !== wanted) return false
    best = { options: smaller, result }
    return true
  }
  let kept: Kind[] = [...planOf(options).kinds]
  for (const kind of kept) {
    const fewer = kept.filter((other) => other !== kind)
    const { without: _without, ...rest } = best.options
    if (await attempt({ ...rest, only: fewer })) kept = fewer
  }
  for (let share = 0.5; share > 0.1; share /= 2) {
    const chaosMs = Math.round((best.options.chaosMs ?? planOf(best.options).chaosMs) * (1 - share))
    await attempt({ ...best.options, chaosMs })
  }
  return best
}

/** What is broken, in one word: a smaller run that breaks something else is another story. */
function kindOf(result: SeedResult): string | undefined {
  return result.violations[0]?.split(':')[0]
}
