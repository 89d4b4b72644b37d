/**
 * What has to happen as time passes: rolls by age, recovery points, retention, snapshots, forgetting of closed streams,
 * gauges. Called each second by the collector; each step is tried again next time when it fails.
 */
import { AppError } from '../../shared/errors.ts'
import type { System } from '../../shared/system.ts'
import type { Offset } from '../../shared/types.ts'
import type { Alarms } from './alarms.ts'
import type { ClockGuard } from './clock-guard.ts'
import type { DiskFullWatch } from './disk-full-watch.ts'
import type { PartitionLog } from './partition-log.ts'
import { expiredSegments } from './policy.ts'
import type { SealedSegment } from './segment.ts'
import type { Snapshotter } from './snapshotter.ts'
import type { StorageMetrics } from './storage-metrics.ts'
import type { MemoryStreamTable } from './stream-table.ts'
import type { Topic } from './topic.ts'
import type { TopicConfig } from './topic-log.ts'

const FORGET_INTERVAL_MS = 600_000

export interface MaintenanceOptions {
  readonly system: Pick<System, 'clock' | 'log'>
  readonly topics: () => readonly Topic[]
  readonly table: MemoryStreamTable
  readonly snapshotter: Snapshotter
  readonly clockGuard: ClockGuard
  readonly diskFull: DiskFullWatch
  readonly alarms: Alarms
  readonly metrics: StorageMetrics
  readonly exportedOffset: (topic: string, partition: number) => Offset | undefined
  readonly closedStreamsKeptMs: number
  readonly queuedBytes: () => number
}

export class Maintenance {
  private readonly options: MaintenanceOptions
  private running: Promise<void> | undefined
  private forgotAtMs: number

  constructor(options: MaintenanceOptions) {
    this.options = options
    this.forgotAtMs = options.system.clock.monotonicMs()
  }

  /** A call while one runs joins it. */
  run(): Promise<void> {
    this.running ??= this.once().finally(() => {
      this.running = undefined
    })
    return this.running
  }

  private async once(): Promise<void> {
    this.watchClock()
    for (const topic of this.options.topics()) {
      for (const log of topic.partitions) {
        await this.step('roll', log, async () => {
          if (log.isRollDueByAge()) await log.roll({ onlyIfDue: true })
        })
        await this.step('checkpoint', log, () => log.checkpoint({ force: false }))
        await this.step('retain', log, () => this.retain(log, topic.config))
      }
    }
    this.forgetClosed()
    await this.step('look for room', undefined, () => this.options.diskFull.look())
    if (this.options.snapshotter.isDue()) await this.step('snapshot', undefined, () => this.options.snapshotter.write())
    this.setGauges()
  }

  private watchClock(): void {
    const stepMs = this.options.clockGuard.look()
    if (stepMs === 0) return
    const message = `the wall clock stepped by ${Math.round(stepMs / 1000)} s: retention by age waits until the clock is confirmed`
    this.options.alarms.raise('CLOCK_STEPPED', message)
  }

  private async retain(log: PartitionLog, limits: TopicConfig): Promise<void> {
    const { system, snapshotter, clockGuard, metrics } = this.options
    const sealed = log.segments().filter((segment): segment is SealedSegment => segment.kind === 'sealed')
    const count = expiredSegments({
      sealed, limits, totalBytes: log.sizeBytes(), nowMs: system.clock.nowMs(), isAgeParked: clockGuard.isParked,
      exportedOffset: this.options.exportedOffset(log.topic, log.partition),
    })
    const last = sealed[count - 1]
    if (last === undefined) return
    // These batches may hold the last that is known of a stream: its position has to be in a snapshot before they go.
    if ((snapshotter.coveredOffset(log) ?? -1) < last.nextOffset) await snapshotter.write()
    await log.dropOldest(count)
    metrics.droppedSegments.add(count, { topic: log.topic })
    system.log.info('segments dropped by retention', { topic: log.topic, partition: log.partition, count, logStartOffset: log.logStartOffset })
  }

  private forgetClosed(): void {
    const { system, table, clockGuard, closedStreamsKeptMs } = this.options
    if (clockGuard.isParked || system.clock.monotonicMs() - this.forgotAtMs < FORGET_INTERVAL_MS) return
    this.forgotAtMs = system.clock.monotonicMs()
    const count = table.forgetClosed(system.clock.nowMs() - closedStreamsKeptMs)
    if (count > 0) system.log.info('closed streams forgotten', { count })
  }

  private setGauges(): void {
    const { metrics } = this.options
    for (const topic of this.options.topics()) {
      for (const log of topic.partitions) {
        const labels = { topic: log.topic, partition: String(log.partition) }
        metrics.logStartOffset.set(log.logStartOffset, labels)
        metrics.highWatermark.set(log.highWatermark, labels)
        metrics.partitionBytes.set(log.sizeBytes(), labels)
        metrics.partitionState.set(log.isFailed ? 2 : log.isDamaged ? 1 : 0, labels)
      }
    }
    metrics.streams.set(this.options.table.size)
    metrics.queuedBytes.set(this.options.queuedBytes())
  }

  private async step(doing: string, log: PartitionLog | undefined, task: () => Promise<void>): Promise<void> {
    try {
      await task()
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      this.options.system.log.warn('maintenance step failed', { doing, topic: log?.topic, partition: log?.partition, reason: error.message })
    }
  }
}
