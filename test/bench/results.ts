/**
 * What a benchmark run leaves: figures by workload and contestant, one for each round, and the ratios of each round.
 * The JSON file and the comparison of two of them are read from this.
 */
import * as v from 'valibot'
import { median } from './statistics.ts'
import type { Figures, RatioSpec } from './workload.ts'

const figures = v.record(v.string(), v.nullable(v.number()))
const ratio = v.object({ better: v.picklist(['higher', 'lower']), median: v.number(), rounds: v.array(v.number()) })
const workload = v.object({
  title: v.string(),
  notes: v.array(v.string()),
  contestants: v.record(v.string(), v.object({ medians: figures, rounds: v.array(figures) })),
  ratios: v.record(v.string(), ratio),
})
export const resultsSchema = v.object({
  node: v.string(),
  cpu: v.string(),
  cores: v.number(),
  /** One minute's load average when it began. */
  loadBefore: v.number(),
  options: v.record(v.string(), v.unknown()),
  workloads: v.record(v.string(), workload),
})
export type Results = v.InferOutput<typeof resultsSchema>
export type WorkloadResults = Results['workloads'][string]
export type RatioResults = WorkloadResults['ratios'][string]

/** Figures of each contestant, in the order of the rounds. */
export type Rounds = ReadonlyMap<string, readonly Figures[]>

export function summarize(rounds: Rounds): WorkloadResults['contestants'] {
  return Object.fromEntries([...rounds].map(([name, all]) => [name, { medians: medians(all), rounds: all.map((each) => ({ ...each })) }]))
}

function medians(rounds: readonly Figures[]): Record<string, number> {
  return Object.fromEntries(Object.keys(rounds[0] ?? {}).map((figure) => [figure, median(rounds.map((each) => each[figure] ?? Number.NaN))]))
}

/** NaN where a side was too small to be measured, such as a program that ended within one tick of the clock. */
function quotient(of: number | undefined, to: number | undefined): number {
  return of !== undefined && to !== undefined && Number.isFinite(of) && Number.isFinite(to) && to !== 0 ? of / to : Number.NaN
}

/** Ratios whose two sides were both measured; each of figures of the same round. */
export function ratiosOf(specs: readonly RatioSpec[], rounds: Rounds): WorkloadResults['ratios'] {
  const found: WorkloadResults['ratios'] = {}
  for (const { name, of, to, better } of specs) {
    const above = rounds.get(of.contestant)
    const below = rounds.get(to.contestant)
    if (above === undefined || below === undefined) continue
    const values = above.map((each, at) => quotient(each[of.figure], below[at]?.[to.figure])).filter(Number.isFinite)
    if (values.length > 0) found[name] = { better, median: median(values), rounds: values }
  }
  return found
}
