/**
 * Publishes the tables of every partition, one step at a time for all of them: a step may spool a gigabyte and keeps a
 * core busy, and tables may lag where raw segments may not. It only schedules; table-plan.ts says what is due.
 *
 * The raw export comes first and alone holds retention: what was dropped from the local disk is read back from the store.
 */
import { BugError, toAppError } from '../../../shared/errors.ts'
import type { Clock, FileSystem, Log, Metrics, Random } from '../../../shared/system.ts'
import type { ExportInfo } from '../../../shared/wire.ts'
import type { TopicLog } from '../../storage/topic-log.ts'
import type { Alarms } from '../alarms.ts'
import { partitionName, type ExportedSegment } from '../journal-format.ts'
import type { Owner } from '../owner.ts'
import type { RemoteStore } from '../remote-store.ts'
import type { EncoderHost } from './encoder-host.ts'
import { PartitionTables } from './partition-tables.ts'
import { HOUR_MS, type TableFormat } from './table-layout.ts'
import { TopicMarks } from './table-marks.ts'
import { declareTableMetrics, type TableMetrics } from './table-metrics.ts'
import type { TableStepContext } from './table-step.ts'

export interface TablesOptions {
  readonly format: TableFormat
  /** How long after its end an hour waits for late lines. */
  readonly latenessMs: number
  readonly encoder: EncoderHost
  /** Bytes of raw segments that are published before their hour is over. Default 512 MiB. */
  readonly earlyBytes?: number
}

export interface TableExporterDeps {
  readonly system: { readonly fs: FileSystem; readonly clock: Clock; readonly random: Random; readonly log: Log; readonly metrics: Metrics }
  readonly store: RemoteStore
  readonly owner: () => Owner
  readonly log: Pick<TopicLog, 'clusterId' | 'topics' | 'segments'>
  readonly exported: (topic: string, partition: number) => ReadonlyMap<number, ExportedSegment>
  readonly recordedOffset: (topic: string, partition: number) => number | undefined
  /** `<data>/export`. */
  readonly directory: string
  readonly signal: AbortSignal
  readonly liveTemps: Set<string>
  readonly alarms: Alarms
}

const ROUND_EVERY_MS = 5_000
const EARLY_BYTES_DEFAULT = 512 * 1024 * 1024

export class TableExporter {
  private readonly deps: TableExporterDeps
  private readonly options: TablesOptions
  private readonly metrics: TableMetrics
  private readonly partitions = new Map<string, PartitionTables>()
  private readonly marks = new Map<string, TopicMarks>()
  private readonly directory: string
  private running: Promise<void> | undefined
  private nextRoundMs = 0

  constructor(deps: TableExporterDeps, options: TablesOptions) {
    this.deps = deps
    this.options = options
    this.metrics = declareTableMetrics(deps.system.metrics)
    this.directory = `${deps.directory}/tables`
  }

  /** Starts a round when one is due. Called each second while the store is ours. */
  tick(): void {
    const nowMs = this.deps.system.clock.monotonicMs()
    if (this.running !== undefined || nowMs < this.nextRoundMs) return
    this.nextRoundMs = nowMs + ROUND_EVERY_MS
    // Failures become a partition's state; a rejection is a bug and is meant to end the process.
    void this.round()
  }

  /** Publishes all that the raw export has recorded, whatever its hour. Rejects with the first failure. */
  async publishNow(): Promise<void> {
    await this.running
    for (const { topic, partition } of this.everyPartition()) this.partition(topic, partition).hurry()
    await this.round()
    for (const { state } of this.partitions.values()) if (state.kind === 'waiting' || state.kind === 'parked') throw state.error
  }

  status(topic: string, partition: number): NonNullable<ExportInfo['tables']> {
    const tables = this.partition(topic, partition)
    const { state } = tables
    const hours = tables.hoursComplete()
    return {
      format: this.options.format,
      publishedOffset: tables.floorOffset,
      completeUntilMs: hours === undefined ? null : hours * HOUR_MS,
      state: state.kind,
      reason: state.kind === 'waiting' || state.kind === 'parked' ? state.error.message : null,
    }
  }

  /** After the signal: waits for the step under way to notice it. */
  async close(): Promise<void> {
    await this.running?.catch(() => undefined)
    await this.options.encoder.close()
  }

  private round(): Promise<void> {
    const before = this.running ?? Promise.resolve()
    const run = before.then(() => this.workThrough()).finally(() => {
      if (this.running === run) this.running = undefined
    })
    this.running = run
    return run
  }

  private async workThrough(): Promise<void> {
    for (const { name, partitions } of this.deps.log.topics()) {
      for (const { partition } of partitions) {
        if (this.deps.signal.aborted) return
        await this.partition(name, partition).work()
      }
      await this.markHours(name, partitions.map(({ partition }) => this.partition(name, partition)))
    }
  }

  /** An hour of a topic is complete when it is in every partition. */
  private async markHours(topic: string, partitions: readonly PartitionTables[]): Promise<void> {
    let complete = Number.POSITIVE_INFINITY
    for (const each of partitions) complete = Math.min(complete, each.hoursComplete() ?? 0)
    if (!Number.isFinite(complete) || complete === 0 || this.deps.signal.aborted) return
    this.metrics.lagSeconds.set(Math.max(0, this.deps.system.clock.nowMs() - complete * HOUR_MS) / 1000, { topic })
    try {
      await this.marksOf(topic).place(this.context(), complete, { hasHistory: partitions.some(({ hasPublished }) => hasPublished) })
    } catch (error) {
      if (error instanceof BugError) throw error
      const { code, message } = toAppError(error)
      if (code === 'ABORTED') return
      this.metrics.failures.add(1, { code })
      this.deps.system.log.warn('markers of finished hours have to wait', { topic, code, error: message })
    }
  }

  private marksOf(topic: string): TopicMarks {
    const known = this.marks.get(topic)
    if (known !== undefined) return known
    const made = new TopicMarks(this.deps.system.fs, this.directory, topic)
    this.marks.set(topic, made)
    return made
  }

  private *everyPartition(): Generator<{ topic: string; partition: number }> {
    for (const { name, partitions } of this.deps.log.topics()) for (const { partition } of partitions) yield { topic: name, partition }
  }

  private partition(topic: string, partition: number): PartitionTables {
    const name = partitionName({ topic, partition })
    const known = this.partitions.get(name)
    if (known !== undefined) return known
    const { system, alarms, recordedOffset } = this.deps
    const { format, latenessMs, earlyBytes } = this.options
    const made = new PartitionTables({ topic, partition }, {
      context: this.context(),
      clock: system.clock,
      random: system.random,
      alarms,
      metrics: this.metrics,
      format,
      latenessMs,
      earlyBytes: earlyBytes ?? EARLY_BYTES_DEFAULT,
      recordedOffset,
      onHours: (hours) => this.marksOf(topic).owe(hours),
    })
    this.partitions.set(name, made)
    return made
  }

  private context(): TableStepContext {
    const { system, store, owner, log, exported, signal, liveTemps, alarms } = this.deps
    return {
      fs: system.fs,
      random: system.random,
      log: system.log,
      store,
      owner,
      topicLog: log,
      exported,
      signal,
      liveTemps,
      directory: this.directory,
      clusterId: log.clusterId,
      encoder: this.options.encoder,
      onUploaded: (lengthBytes) => this.metrics.bytes.add(lengthBytes),
      onQuarantined: (path) => alarms.raise(`quarantined ${path}`, { code: 'EXPORT_QUARANTINED', message: `a file under the name of a table file was not ours; it is ${path} now` }),
    }
  }
}
