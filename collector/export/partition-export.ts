/**
 * The export of one partition: which segment is next, how it stands, how long to wait after a failure, and the re-check
 * of what was recorded. Exporter.ts calls `run` of one partition once at a time and never throws away its promise.
 */
import { AppError, BugError, toAppError } from '../../shared/errors.ts'
import { backoffMs, type BackoffLimits } from '../../shared/retry.ts'
import type { Clock, Counter, Log, Random } from '../../shared/system.ts'
import type { Offset } from '../../shared/types.ts'
import type { SegmentInfo, TopicLog } from '../storage/topic-log.ts'
import type { Alarms } from './alarms.ts'
import { partitionName, type ExportedSegment } from './journal-format.ts'
import { segmentName } from './layout.ts'
import { nextWork, progressOf, type Progress, type Work } from './plan.ts'
import { exportSegment, type SegmentExportContext } from './segment-export.ts'
import { findLost } from './verify-export.ts'

export interface PartitionExportDeps {
  readonly context: SegmentExportContext
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly topicLog: Pick<TopicLog, 'segments'>
  readonly alarms: Alarms
  readonly recheckAfterMs: number
  readonly onRecorded: (segment: SegmentInfo) => void
  readonly failures: Counter
}

export interface OffsetRange {
  readonly fromOffset: Offset
  readonly toOffset: Offset
}

export type PartitionState =
  | { readonly kind: 'idle' }
  | { readonly kind: 'exporting'; readonly baseOffset: Offset }
  /** Failed for a reason that passes by itself. */
  | { readonly kind: 'waiting'; readonly error: AppError }
  /** Failed for a reason that somebody has to remove. */
  | { readonly kind: 'parked'; readonly error: AppError }
  | { readonly kind: 'gap'; readonly fromOffset: Offset; readonly toOffset: Offset }

const WAITING: BackoffLimits = { baseMs: 1_000, maxMs: 60_000 }
const PARKED: BackoffLimits = { baseMs: 30_000, maxMs: 300_000 }
/** Damage may be a bad cable: look again, seldom. */
const DAMAGED_RETRY_MS = 600_000
/** Segments re-checked in one run, so that a long list does not hold up new segments. */
const RECHECKS_MAX = 64
const SEGMENTS_PER_RUN_MAX = 16

export class PartitionExport {
  readonly topic: string
  readonly partition: number
  state: PartitionState = { kind: 'idle' }
  private readonly deps: PartitionExportDeps
  private progressNow: Progress
  private failuresInRow = 0
  private dueMs = 0
  private damagedDueMs = 0
  /** When this process recorded a segment; absent = an earlier life did. */
  private readonly recordedMs = new Map<Offset, number>()
  private readonly lost = new Set<Offset>()

  constructor(at: { topic: string; partition: number }, deps: PartitionExportDeps) {
    this.topic = at.topic
    this.partition = at.partition
    this.deps = deps
    this.progressNow = progressOf(this.exported())
  }

  get progress(): Progress {
    return this.progressNow
  }

  get name(): string {
    return partitionName(this)
  }

  exported(): ReadonlyMap<Offset, ExportedSegment> {
    return this.deps.context.journal.segments(this.topic, this.partition)
  }

  /** Sealed segments that hold something, oldest first. */
  sealed(): SegmentInfo[] {
    return this.deps.topicLog.segments(this.topic, this.partition).filter((each) => each.isSealed && each.nextOffset > each.baseOffset)
  }

  /** Also the one that is still being written. */
  oldestUnexported(exportedOffset: number): SegmentInfo | undefined {
    return this.deps.topicLog.segments(this.topic, this.partition).find((each) => each.nextOffset > Math.max(exportedOffset, each.baseOffset))
  }

  damaged(): ExportedSegment[] {
    return [...this.exported().values()].filter((each) => each.progress.kind === 'damaged').sort((a, b) => a.key.baseOffset - b.key.baseOffset)
  }

  /** Whether `run` would do something now. */
  isDue(): boolean {
    if (this.deps.clock.monotonicMs() < this.dueMs) return false
    const work = this.work()
    if (work.kind === 'gap') this.noticeGap(work)
    else if (this.state.kind === 'gap') this.noticeGapGone()
    return work.kind === 'segment' || this.dueRechecks().length > 0
  }

  /** Forgets the wait after a failure: an operator asked. */
  hurry(): void {
    this.dueMs = 0
  }

  private work(): Work {
    return nextWork(this.sealed(), this.exported(), { retryDamaged: this.deps.clock.monotonicMs() >= this.damagedDueMs })
  }

  /** Some of what there is to do, so that others have their turn too. Rejects only for a bug: failures become the state. */
  async run(): Promise<void> {
    try {
      await this.recheck()
      for (let count = 0; count < SEGMENTS_PER_RUN_MAX && !this.deps.context.signal.aborted; count += 1) {
        const work = this.work()
        if (work.kind !== 'segment') break
        await this.exportOne(work.segment)
      }
      this.succeed()
    } catch (error) {
      if (error instanceof BugError) throw error
      this.fail(toAppError(error))
    } finally {
      this.progressNow = progressOf(this.exported())
    }
  }

  private async exportOne(segment: SegmentInfo): Promise<void> {
    this.state = { kind: 'exporting', baseOffset: segment.baseOffset }
    try {
      await exportSegment(this.deps.context, segment)
    } catch (error) {
      const failure = toAppError(error)
      if (failure.code !== 'CORRUPT_DATA' && failure.code !== 'CORRUPT_MESSAGE') throw error
      await this.setDamagedAside(segment, failure)
      return
    }
    this.recordedMs.set(segment.baseOffset, this.deps.clock.monotonicMs())
    this.lost.delete(segment.baseOffset)
    this.failuresInRow = 0
    this.progressNow = progressOf(this.exported())
    this.deps.alarms.clear(`damaged ${this.name} ${segment.baseOffset}`)
    this.deps.onRecorded(segment)
  }

  /** The segment stays on disk and in the way of retention; those behind it go on. */
  private async setDamagedAside(segment: SegmentInfo, error: AppError): Promise<void> {
    const { topic, partition, baseOffset } = segment
    this.deps.failures.add(1, { code: error.code })
    this.deps.log.error('a local segment is damaged and is not exported', { topic, partition, baseOffset, error: error.message })
    this.deps.alarms.raise(`damaged ${this.name} ${baseOffset}`, { code: 'EXPORT_SEGMENT_DAMAGED', message: error.message })
    this.damagedDueMs = this.deps.clock.monotonicMs() + DAMAGED_RETRY_MS
    await this.deps.context.journal.append({ type: 'damaged', topic, partition, baseOffset, reason: error.message })
  }

  /** Recorded segments that still lie on disk and were not looked at since. */
  private dueRechecks(): ExportedSegment[] {
    const nowMs = this.deps.clock.monotonicMs()
    const due: ExportedSegment[] = []
    for (const segment of this.exported().values()) {
      if (segment.progress.kind !== 'recorded' || segment.progress.isChecked || this.lost.has(segment.key.baseOffset)) continue
      const recordedMs = this.recordedMs.get(segment.key.baseOffset)
      if (recordedMs === undefined || nowMs - recordedMs >= this.deps.recheckAfterMs) due.push(segment)
      if (due.length >= RECHECKS_MAX) break
    }
    return due
  }

  private async recheck(): Promise<void> {
    const { context, log, alarms } = this.deps
    for (const { key, progress } of this.dueRechecks()) {
      if (context.signal.aborted || progress.kind !== 'recorded') return
      const { topic, partition, baseOffset, nextOffset, epoch } = key
      const lostFile = await findLost(context.store, key, progress.files)
      if (lostFile === undefined) {
        await context.journal.note({ type: 'checked', topic, partition, baseOffset })
        this.recordedMs.delete(baseOffset)
        alarms.clear(`lost ${this.name} ${baseOffset}`)
        continue
      }
      log.error('an exported segment is not whole on the store any more', { topic, partition, name: segmentName(key), file: lostFile })
      alarms.raise(`lost ${this.name} ${baseOffset}`, { code: 'EXPORT_LOST', message: `${topic}-${partition} ${segmentName(key)}.${lostFile} is gone from the store or has another length` })
      if (this.sealed().some((each) => each.baseOffset === baseOffset)) await context.journal.append({ type: 'planned', topic, partition, baseOffset, nextOffset, epoch })
      else this.lost.add(baseOffset)
    }
  }

  private succeed(): void {
    this.failuresInRow = 0
    this.dueMs = 0
    this.deps.alarms.clear(`parked ${this.name}`)
    const work = this.work()
    if (work.kind === 'gap') this.noticeGap(work)
    else this.state = { kind: 'idle' }
  }

  private fail(error: AppError): void {
    if (error.code === 'ABORTED') {
      this.state = { kind: 'idle' }
      return
    }
    const isParked = isParking(error)
    const delayMs = backoffMs(this.failuresInRow, isParked ? PARKED : WAITING, this.deps.random.next())
    this.failuresInRow += 1
    this.dueMs = this.deps.clock.monotonicMs() + delayMs
    this.state = { kind: isParked ? 'parked' : 'waiting', error }
    this.deps.failures.add(1, { code: error.code })
    const fields = { topic: this.topic, partition: this.partition, code: error.code, error: error.message, hint: error.hint, retryInMs: delayMs }
    if (isParked) {
      this.deps.log.error('export of a partition is parked', fields)
      this.deps.alarms.raise(`parked ${this.name}`, { code: 'EXPORT_PARKED', message: `${this.name}: ${error.message}` })
    } else this.deps.log.warn('export of a partition waits', fields)
  }

  private noticeGap(gap: Extract<Work, { kind: 'gap' }>): void {
    if (this.state.kind === 'gap' && this.state.fromOffset === gap.fromOffset && this.state.toOffset === gap.toOffset) return
    const { fromOffset, toOffset } = gap
    this.state = { kind: 'gap', fromOffset, toOffset }
    this.deps.log.error('offsets are neither exported nor on disk', { topic: this.topic, partition: this.partition, fromOffset, toOffset })
    this.deps.alarms.raise(`gap ${this.name}`, { code: 'EXPORT_GAP', message: `${this.name}: offsets ${fromOffset} to ${toOffset} are neither exported nor on disk` })
  }

  private noticeGapGone(): void {
    this.state = { kind: 'idle' }
    this.deps.alarms.clear(`gap ${this.name}`)
  }

  /** What an operator could give up: the gap, or else the first damaged segment. */
  skippable(): OffsetRange | undefined {
    if (this.state.kind === 'gap') {
      const { fromOffset, toOffset } = this.state
      return toOffset > fromOffset ? { fromOffset, toOffset } : undefined
    }
    const key = this.damaged()[0]?.key
    return key === undefined ? undefined : { fromOffset: key.baseOffset, toOffset: key.nextOffset }
  }

  /** An operator accepts that these offsets will never be exported. CONFLICT when they are not what is in the way. */
  async skip({ fromOffset, toOffset }: OffsetRange): Promise<void> {
    const { topic, partition } = this
    const found = this.skippable()
    if (found?.fromOffset !== fromOffset || found.toOffset !== toOffset) {
      throw new AppError('CONFLICT', `${this.name}: offsets ${fromOffset} to ${toOffset} do not hold the export up (any more)`, { hint: 'tailrace exports shows what does' })
    }
    await this.deps.context.journal.append({ type: 'skipped', topic, partition, fromOffset, toOffset })
    this.deps.log.warn('an operator gave offsets up', { topic, partition, fromOffset, toOffset })
    this.deps.alarms.clear(`damaged ${this.name} ${fromOffset}`)
    this.noticeGapGone()
    this.progressNow = progressOf(this.exported())
  }
}

/** Whether a failure stays until a person changes something; it is tried again all the same, only less often. */
export function isParking({ code }: AppError): boolean {
  return parkingCodes.has(code)
}

const parkingCodes: ReadonlySet<string> = new Set(['REMOTE_REFUSED', 'UNAVAILABLE', 'DISK_FULL', 'STORAGE_ERROR', 'RESTORE_REQUIRED', 'UNAUTHENTICATED', 'FORBIDDEN', 'INTERNAL'])
