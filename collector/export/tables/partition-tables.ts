/**
 * The tables of one partition: where they stand, which step is next, how long to wait after a failure. Table-exporter.ts
 * calls `work` of one partition at a time.
 */
import { BugError, toAppError, type AppError } from '../../../shared/errors.ts'
import { backoffMs, type BackoffLimits } from '../../../shared/retry.ts'
import type { Clock, Random } from '../../../shared/system.ts'
import type { SegmentInfo } from '../../storage/topic-log.ts'
import type { Alarms } from '../alarms.ts'
import { partitionName } from '../journal-format.ts'
import { ensureDirectory } from '../local-file.ts'
import { hoursComplete, planStep, segmentsBetween } from './table-plan.ts'
import type { TableFormat } from './table-layout.ts'
import type { TableMetrics } from './table-metrics.ts'
import { isStoreAhead, recoverState, TableStateFile, type EncodedStep, type TablePartition, type TableState } from './table-state.ts'
import { runStep, savePlan, type StepJob, type TableStepContext } from './table-step.ts'

export interface PartitionTablesDeps {
  readonly context: TableStepContext
  readonly clock: Clock
  readonly random: Random
  readonly alarms: Alarms
  readonly metrics: TableMetrics
  readonly format: TableFormat
  readonly latenessMs: number
  readonly earlyBytes: number
  /** Everything below is recorded by the raw export; undefined = nothing yet. */
  readonly recordedOffset: (topic: string, partition: number) => number | undefined
  /** Before files are placed in these hours. */
  readonly onHours: (hours: readonly number[]) => Promise<void>
}

export type TablesState = { readonly kind: 'idle' } | { readonly kind: 'publishing' } | { readonly kind: 'waiting' | 'parked'; readonly error: AppError }

const WAITING: BackoffLimits = { baseMs: 5_000, maxMs: 300_000 }
/** Steps over a long history, one behind the other; others then have their turn. */
const STEPS_PER_TURN_MAX = 8
const parkingCodes: ReadonlySet<string> = new Set(['REMOTE_REFUSED', 'DISK_FULL', 'STORAGE_ERROR', 'CORRUPT_DATA', 'RESTORE_REQUIRED', 'UNAUTHENTICATED', 'FORBIDDEN', 'INTERNAL'])

export class PartitionTables {
  readonly at: TablePartition
  state: TablesState = { kind: 'idle' }
  isHurried = false
  private readonly deps: PartitionTablesDeps
  private readonly stateFile: TableStateFile
  private standing: TableState | undefined
  private failuresInRow = 0
  private dueMs = 0

  constructor(at: TablePartition, deps: PartitionTablesDeps) {
    this.at = at
    this.deps = deps
    this.stateFile = new TableStateFile(deps.context.fs, deps.context.directory, at)
  }

  get floorOffset(): number {
    return this.standing?.floorOffset ?? 0
  }

  get hasPublished(): boolean {
    return this.standing !== undefined && this.standing.step > 0
  }

  /** Hours below this number are complete here; undefined while nobody knows. */
  hoursComplete(): number | undefined {
    return this.standing === undefined ? undefined : hoursComplete(this.standing, this.facts(this.standing))
  }

  hurry(): void {
    this.isHurried = true
    this.dueMs = 0
  }

  /** Rejects only for a bug: failures become the state. */
  async work(): Promise<void> {
    if (this.deps.clock.monotonicMs() < this.dueMs) return
    try {
      this.standing ??= await this.loadStanding()
      for (let steps = 0; steps < STEPS_PER_TURN_MAX || this.isHurried; steps += 1) {
        if (this.deps.context.signal.aborted || !(await this.step(this.standing))) break
      }
      this.isHurried = false
      this.failuresInRow = 0
      this.state = { kind: 'idle' }
      this.deps.alarms.clear(`tables ${partitionName(this.at)}`)
    } catch (error) {
      if (error instanceof BugError) throw error
      this.fail(toAppError(error))
    }
  }

  private async loadStanding(): Promise<TableState> {
    const { context } = this.deps
    await ensureDirectory(context.fs, context.directory)
    const known = await this.stateFile.load(context.log)
    if (known !== undefined && !(await isStoreAhead(context.store, this.at, known))) return known
    const recovered = await recoverState(context.store, this.at)
    await this.stateFile.save(recovered)
    return recovered
  }

  /** False when nothing is due. */
  private async step(standing: TableState): Promise<boolean> {
    const job: StepJob = { at: this.at, stateFile: this.stateFile, onState: (state) => (this.standing = state), onHours: this.deps.onHours }
    if (standing.plan === null) {
      const facts = this.facts(standing)
      const waiting = segmentsBetween(this.deps.context.exported(this.at.topic, this.at.partition), { fromOffset: standing.floorOffset, toOffset: facts.recordedOffset })
      const plan = planStep(standing, {
        ...facts,
        format: this.deps.format,
        earlyBytes: this.deps.earlyBytes,
        isHurried: this.isHurried,
        waiting: waiting.map(({ key, progress }) => ({ nextOffset: key.nextOffset, sizeBytes: progress.kind === 'recorded' ? (progress.files[0]?.lengthBytes ?? 0) : 0 })),
      })
      if (plan === undefined) return false
      await savePlan(job, standing, plan)
    }
    this.state = { kind: 'publishing' }
    this.report(await runStep(this.deps.context, job, this.standing ?? standing))
    return true
  }

  /** The log and the export as they are now: sampled in one turn, so that the two fit together. */
  private facts(standing: TableState): { recordedOffset: number; exportedUntilMs: number; latenessMs: number } {
    const { clock, context, latenessMs, recordedOffset } = this.deps
    const { topic, partition } = this.at
    const recorded = recordedOffset(topic, partition)
    const segments = context.topicLog.segments(topic, partition)
    return { recordedOffset: recorded ?? standing.floorOffset, exportedUntilMs: exportedUntil(segments, recorded, clock.nowMs()), latenessMs }
  }

  private report({ files, unreadable }: EncodedStep): void {
    const { metrics, alarms, context } = this.deps
    const { topic, partition } = this.at
    const labels = { topic }
    const late = files.filter(({ isLate }) => isLate).length
    const rows = files.reduce((sum, file) => sum + file.rows, 0)
    metrics.files.add(files.length, labels)
    metrics.lateFiles.add(late, labels)
    metrics.rows.add(rows, labels)
    metrics.unreadable.add(unreadable, labels)
    if (files.length > 0) context.log.info('table files published', { topic, partition, files: files.length, rows, late })
    if (unreadable === 0) return
    context.log.error('batches can not be decompressed and are in no table', { topic, partition, records: unreadable })
    alarms.raise(`unreadable ${partitionName(this.at)}`, { code: 'TABLES_UNREADABLE', message: `${partitionName(this.at)}: ${unreadable} records are in batches that can't be decompressed; the raw export has them as they are` })
  }

  private fail(error: AppError): void {
    if (error.code === 'ABORTED') {
      this.state = { kind: 'idle' }
      return
    }
    const { alarms, clock, context, metrics, random } = this.deps
    const isParked = parkingCodes.has(error.code)
    const delayMs = backoffMs(this.failuresInRow, WAITING, random.next())
    this.failuresInRow += 1
    this.dueMs = clock.monotonicMs() + delayMs
    this.isHurried = false
    this.state = { kind: isParked ? 'parked' : 'waiting', error }
    metrics.failures.add(1, { code: error.code })
    context.log.warn('tables of a partition wait', { ...this.at, code: error.code, error: error.message, hint: error.hint, retryInMs: delayMs })
    if (isParked) alarms.raise(`tables ${partitionName(this.at)}`, { code: 'TABLES_PARKED', message: `${partitionName(this.at)}: ${error.message}` })
  }
}

/** Everything appended before this moment is exported: the first append of what is not, or now. */
function exportedUntil(segments: readonly SegmentInfo[], recordedOffset: number | undefined, nowMs: number): number {
  const first = segments.find((each) => each.nextOffset > each.baseOffset && each.nextOffset > (recordedOffset ?? 0))
  if (first === undefined) return nowMs
  // A hole in between may hold anything.
  if (recordedOffset !== undefined && first.baseOffset !== recordedOffset) return 0
  return Math.min(first.firstAppendMs ?? 0, nowMs)
}
