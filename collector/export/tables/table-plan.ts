/**
 * What a partition's tables need next, decided from where they stand and what the raw export has recorded. Pure.
 *
 * A step publishes every row that is due and was not published before. Which rows were, two numbers say:
 * all below `floorOffset`, and of those from there up to `scannedOffset` the ones of hours before `hourLimit`. Both only
 * rise, so each row is due in exactly one step:
 *
 * - An hour is due when it ended `latenessMs` before the point in time up to which everything is exported. Its rows then
 *   go out together, from all segments that hold some: one file for a partition's hour, and nothing to compact later.
 * - Rows that come behind that are late: the next step publishes them, in one more file of their own hour.
 * - When much waits (`earlyBytes`), or an operator asks, a step publishes all there is, whatever its hour.
 */
import type { ExportedSegment } from '../journal-format.ts'
import { HOUR_MS, type TableFormat } from './table-layout.ts'
import type { Standing, TablePlan } from './table-state.ts'

export interface PlanFacts {
  /** The raw export has recorded everything below. */
  readonly recordedOffset: number
  /** Everything that was appended before this moment of the wall clock lies below `recordedOffset`. */
  readonly exportedUntilMs: number
  readonly latenessMs: number
  readonly format: TableFormat
  /** Of the raw segments from the floor to the recorded offset, oldest first. */
  readonly waiting: readonly { readonly nextOffset: number; readonly sizeBytes: number }[]
  readonly earlyBytes: number
  /** An operator asked for all there is. */
  readonly isHurried: boolean
}

/** Hours below this number have ended, lateness included, and are exported. */
export function hoursExported(facts: Pick<PlanFacts, 'exportedUntilMs' | 'latenessMs'>): number {
  return Math.max(0, Math.floor((facts.exportedUntilMs - facts.latenessMs) / HOUR_MS))
}

export function planStep(standing: Standing, facts: PlanFacts): TablePlan | undefined {
  if (facts.recordedOffset <= standing.floorOffset) return undefined
  const hourLimit = Math.max(standing.hourLimit, hoursExported(facts))
  const early = earlyEnd(facts)
  if (early !== undefined && early < facts.recordedOffset) return { toOffset: early, hourLimit: standing.hourLimit, isWhole: true, format: facts.format, encoded: null }
  const isWhole = early !== undefined || facts.isHurried
  if (!isWhole && hourLimit === standing.hourLimit) return undefined
  return { toOffset: facts.recordedOffset, hourLimit, isWhole, format: facts.format, encoded: null }
}

/** The segment end at which the waiting bytes reach the limit: steps over a long history are bounded. */
function earlyEnd({ waiting, earlyBytes }: PlanFacts): number | undefined {
  let bytes = 0
  for (const { nextOffset, sizeBytes } of waiting) {
    bytes += sizeBytes
    if (bytes >= earlyBytes) return nextOffset
  }
  return undefined
}

/** Hours below this number are complete in the tables, as far as this partition goes. */
export function hoursComplete(standing: Standing, facts: Pick<PlanFacts, 'recordedOffset' | 'exportedUntilMs' | 'latenessMs'>): number {
  return facts.recordedOffset <= standing.floorOffset ? Math.max(standing.hourLimit, hoursExported(facts)) : standing.hourLimit
}

/** Recorded segments that hold offsets from `fromOffset` up to `toOffset`, in order. */
export function segmentsBetween(exported: ReadonlyMap<number, ExportedSegment>, range: { fromOffset: number; toOffset: number }): ExportedSegment[] {
  const found: ExportedSegment[] = []
  for (const segment of exported.values()) {
    const { key, progress } = segment
    if (progress.kind === 'recorded' && key.nextOffset > range.fromOffset && key.nextOffset <= range.toOffset) found.push(segment)
  }
  return found.sort((a, b) => a.key.baseOffset - b.key.baseOffset)
}
