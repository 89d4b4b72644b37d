/**
 * `--compare FILE`: holds the ratios of this run against those of an earlier one. Ratios of figures that were measured
 * in one run carry over between machines and days; absolute figures do not, so they are never compared.
 */
import type { Results } from './results.ts'

/** A ratio may be worse by this much before it counts as a regression. */
export const DROP_MAX = 0.15

export interface Comparison {
  readonly name: string
  readonly before: number
  readonly now: number
  /** Positive = better than before, as a share. */
  readonly change: number
  readonly isRegression: boolean
}

export interface Comparisons {
  readonly compared: readonly Comparison[]
  /** Ratios of the earlier run that this one did not measure, of the workloads that it ran. */
  readonly missing: readonly string[]
}

export function compareRatios(before: Results, now: Results): Comparisons {
  const compared: Comparison[] = []
  const missing: string[] = []
  for (const [name, { ratios }] of Object.entries(before.workloads)) {
    const measured = now.workloads[name]?.ratios
    if (measured === undefined) continue
    for (const [ratio, earlier] of Object.entries(ratios)) {
      const current = measured[ratio]
      if (current === undefined) missing.push(`${name} ${ratio}`)
      else compared.push(compareOne(`${name} ${ratio}`, { before: earlier.median, now: current.median, better: earlier.better }))
    }
  }
  return { compared, missing }
}

function compareOne(name: string, { before, now, better }: { before: number; now: number; better: 'higher' | 'lower' }): Comparison {
  const change = better === 'higher' ? now / before - 1 : before / now - 1
  return { name, before, now, change, isRegression: change < -DROP_MAX }
}
