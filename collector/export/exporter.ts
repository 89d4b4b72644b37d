/**
 * Exports every sealed segment of every partition, a bounded number at a time, for ever. It only schedules: what is next
 * is decided in plan.ts, how a segment travels in segment-export.ts.
 *
 * At start it asks the store whose it is. A store that is ahead of our disk means the disk was rolled back, lost or
 * cloned: then nothing is exported and `refusal` says so, and the collector takes no lines. While the store can't be
 * reached lines are taken: they stay on disk, and the question is asked again until it is answered.
 *
 * Retention may rely on `exportedOffset`: what lies below it is recorded, and was found whole on the store again a while
 * later.
 */
import { AppError, assert, BugError, toAppError } from '../../shared/errors.ts'
import { backoffMs } from '../../shared/retry.ts'
import type { System } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import type { ExportInfo } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'
import { Mutex } from '../storage/mutex.ts'
import type { TopicLog } from '../storage/topic-log.ts'
import { Alarms, type Alarm } from './alarms.ts'
import { declareExportMetrics, publishLag, type ExportMetrics } from './export-metrics.ts'
import { describePartition } from './export-status.ts'
import { partitionName, type ExportedSegment } from './journal-format.ts'
import { openJournal, type Journal } from './journal.ts'
import { HOLD_MS, type Owner } from './owner.ts'
import { PartitionExport, type OffsetRange } from './partition-export.ts'
import { progressOf } from './plan.ts'
import type { RemoteStore } from './remote-store.ts'
import { findRollback, takeStore, type Standing } from './standing.ts'
import { SWEEP_INTERVAL_MS, sweepQuietly } from './sweep.ts'
import { TableExporter, type TablesOptions } from './tables/table-exporter.ts'
import { verifySegments, type SegmentVerification } from './verify-export.ts'

export type ExportSystem = Pick<System, 'fs' | 'clock' | 'random' | 'log' | 'metrics'>

export interface ExporterOptions {
  readonly log: Pick<TopicLog, 'clusterId' | 'logEpoch' | 'topics' | 'segments' | 'watermarks' | 'roll'>
  readonly store: RemoteStore
  readonly zstd: Zstd
  /** The collector's data folder; the journal stands in its `export`. */
  readonly dataDir: string
  /** Partitions that upload at the same time. Default 4. */
  readonly parallel?: number
  /** Between a segment's export and the look whether it is still there. Default 60 s. */
  readonly recheckAfterMs?: number
  /** How long `start` waits for the store's first answer. Default 10 s. */
  readonly startWaitMs?: number
  /** Warehouse tables, made from what is exported. Default: none. */
  readonly tables?: TablesOptions
  /** The journal's disk does not sync: as with the log, the process has to end and to go on from what the disk holds. */
  readonly onFatal?: (error: AppError) => void
}

export interface Exporter {
  readonly description: string
  /** Opens the journal, asks the store whose it is (for at most `startWaitMs`), then works in the background. */
  start(): Promise<void>
  /** Why the collector must not take lines. RESTORE_REQUIRED, also later than at start; UNAVAILABLE in a new folder until the store answers. */
  refusal(): AppError | undefined
  /** What retention may rely on; 0 where nothing is exported yet. */
  exportedOffset(topic: string, partition: number): Offset
  status(options?: { segmentsMax?: number }): ExportInfo[]
  /** What the journal knows of a partition, by base offset: for reading back. */
  segments(topic: string, partition: number): ReadonlyMap<Offset, ExportedSegment>
  alarms(): Alarm[]
  /** Every exported segment, in order. `deep` reads every byte back. */
  verify(options: { deep: boolean; signal?: AbortSignal }): AsyncIterable<SegmentVerification>
  /** Rolls every partition, exports all there is and publishes it in the tables. Tries each partition, then rejects with the first failure; a gap is CONFLICT. */
  exportNow(): Promise<void>
  /** The gap, or the first damaged segment, that holds a partition's export up; undefined when nothing does. */
  skippable(topic: string, partition: number): OffsetRange | undefined
  /** Gives that range up for ever. CONFLICT when it is another by now. */
  skip(topic: string, partition: number, range: OffsetRange): Promise<void>
  /** Stops uploads where they are; the journal knows how to go on. */
  close(): Promise<void>
}

export function createExporter(system: ExportSystem, options: ExporterOptions): Exporter {
  return new SegmentExporter(system, options)
}

const POLL_MS = 1_000
const ESTABLISH = { baseMs: 1_000, maxMs: 30_000 }
const PARALLEL_DEFAULT = 4
const RUNS_MAX = 100_000
const noSegments: ReadonlyMap<Offset, ExportedSegment> = new Map()

class SegmentExporter implements Exporter {
  private readonly system: ExportSystem
  private readonly options: ExporterOptions
  private readonly stopping = new AbortController()
  private readonly alarmList: Alarms
  private readonly partitions = new Map<string, PartitionExport>()
  private readonly running = new Map<string, Promise<void>>()
  private readonly liveTemps = new Set<string>()
  private readonly scanTurn = new Mutex()
  private journal: Journal | undefined
  private tables: TableExporter | undefined
  private standing: Standing = { kind: 'asking', error: undefined }
  /** Stays when somebody takes the store over: uploads under way then hear it from the owner file. */
  private held: Owner | undefined
  private background: Promise<void> | undefined
  private wake = new AbortController()
  private sweptMs: number | undefined
  /** When the store last heard that we live. */
  private heldMs = 0
  private readonly metrics: ExportMetrics

  constructor(system: ExportSystem, options: ExporterOptions) {
    this.system = system
    this.options = options
    this.alarmList = new Alarms(system.clock)
    this.metrics = declareExportMetrics(system.metrics)
  }

  get description(): string {
    return this.options.store.description
  }

  async start(): Promise<void> {
    assert(this.journal === undefined, 'an exporter is started once')
    this.journal = await openJournal(this.system, `${this.options.dataDir}/export`, this.options.onFatal)
    this.tables = this.makeTables(this.journal)
    const behind = findRollback(this.journal, this.options.log)
    if (behind !== undefined) {
      this.refuse(behind)
      return
    }
    let answered: () => void = () => undefined
    const firstAnswer = new Promise<void>((resolve) => (answered = resolve))
    // A bug in there must end the process, so nobody catches it here.
    this.background = this.work(answered)
    const giveUp = new AbortController()
    await Promise.race([firstAnswer, this.pause(this.options.startWaitMs ?? 10_000, giveUp.signal)])
    giveUp.abort()
  }

  private makeTables(journal: Journal): TableExporter | undefined {
    const { log, store, dataDir, tables } = this.options
    if (tables === undefined) return undefined
    return new TableExporter({
      system: this.system,
      store,
      log,
      owner: () => this.owner(),
      exported: (topic, partition) => journal.segments(topic, partition),
      recordedOffset: (topic, partition) => this.partitions.get(partitionName({ topic, partition }))?.progress.recordedOffset,
      directory: `${dataDir}/export`,
      signal: this.stopping.signal,
      liveTemps: this.liveTemps,
      alarms: this.alarmList,
    }, tables)
  }

  private refuse(error: AppError): void {
    this.standing = { kind: 'refused', error }
    this.system.log.error('export refused: the store and this disk do not agree', { error: error.message, hint: error.hint })
    this.alarmList.raise('refused', { code: error.code, message: error.hint === undefined ? error.message : `${error.message}; ${error.hint}` })
  }

  refusal(): AppError | undefined {
    if (this.standing.kind === 'refused') return this.standing.error
    // A new folder may stand in place of a lost one: lines taken before the store says so would get offsets that it holds.
    const isNew = this.standing.kind === 'asking' && this.journal?.boot === 0 && !this.hasRecords()
    if (!isNew) return undefined
    return new AppError('UNAVAILABLE', 'this data folder is new, and the export store did not say yet whether it belongs to another one', { hint: 'see the alarm EXPORT_STORE_UNREACHABLE; a new collector takes lines once its store has answered' })
  }

  private hasRecords(): boolean {
    return this.options.log.topics().some(({ partitions }) => partitions.some(({ logEndOffset }) => logEndOffset > 0))
  }

  /** Ends at once, without a rejection, when `signal` fires. */
  private async pause(ms: number, signal: AbortSignal): Promise<void> {
    try {
      await this.system.clock.sleep(ms, signal)
    } catch (error) {
      if (toAppError(error).code !== 'ABORTED') throw error
    }
  }

  private async work(answered: () => void): Promise<void> {
    for (let attempt = 0; this.standing.kind === 'asking' && !this.stopping.signal.aborted; attempt += 1) {
      this.wake = new AbortController()
      await this.establish()
      answered()
      if (this.standing.kind === 'asking' && !this.stopping.signal.aborted) await this.pause(1 + backoffMs(attempt, ESTABLISH, this.system.random.next()), this.wake.signal)
    }
    while (this.standing.kind === 'ours' && !this.stopping.signal.aborted) {
      // Before the tick: what ends while we look must not be slept over.
      this.wake = new AbortController()
      this.tick()
      this.tables?.tick()
      await this.sweepIfDue()
      await this.holdIfDue()
      if (this.stopping.signal.aborted) return
      await this.pause(POLL_MS, this.wake.signal)
    }
  }

  private async establish(): Promise<void> {
    const { store, log } = this.options
    try {
      const owner = await takeStore({ system: this.system, log, store, journal: this.openedJournal() })
      this.held = owner
      this.heldMs = this.system.clock.monotonicMs()
      this.standing = { kind: 'ours' }
      this.alarmList.clear('store')
      this.system.log.info('export is ready', { store: store.description })
    } catch (error) {
      if (error instanceof BugError) throw error
      this.noticeNoAnswer(toAppError(error))
    }
  }

  private noticeNoAnswer(failure: AppError): void {
    if (failure.code === 'ABORTED') return
    if (failure.code === 'RESTORE_REQUIRED') {
      this.refuse(failure)
      return
    }
    this.standing = { kind: 'asking', error: failure }
    this.alarmList.raise('store', { code: 'EXPORT_STORE_UNREACHABLE', message: failure.message })
    this.system.log.warn('the export store does not answer', { store: this.description, code: failure.code, error: failure.message, hint: failure.hint })
  }

  private owner(): Owner {
    assert(this.held !== undefined, 'nothing is written before the store is known to be ours')
    return this.held
  }

  private openedJournal(): Journal {
    assert(this.journal !== undefined, 'the exporter was started')
    return this.journal
  }

  /** Starts what is due as far as there is room. */
  private tick(): void {
    const parallel = this.options.parallel ?? PARALLEL_DEFAULT
    for (const partition of this.all()) {
      if (this.running.size >= parallel) break
      // Failures become the partition's state; a rejection is a bug and is meant to end the process.
      if (!this.running.has(partition.name) && partition.isDue()) void this.begin(partition)
    }
    publishLag(this.metrics, this.status({ segmentsMax: 0 }))
  }

  private begin(partition: PartitionExport): Promise<void> {
    const run = partition.run().finally(() => {
      this.running.delete(partition.name)
      this.wake.abort()
    })
    this.running.set(partition.name, run)
    // Behind all others in the next round.
    this.partitions.delete(partition.name)
    this.partitions.set(partition.name, partition)
    return run.then(() => this.noticeFencing(partition))
  }

  /** Another collector took the store while we were running. */
  private noticeFencing(partition: PartitionExport): void {
    const { state } = partition
    if (state.kind === 'parked' && state.error.code === 'RESTORE_REQUIRED') this.refuse(state.error)
  }

  /** Every partition of the log, those that waited longest first. */
  private all(): PartitionExport[] {
    const alive = new Set<string>()
    for (const topic of this.options.log.topics()) {
      for (const { partition } of topic.partitions) {
        const name = partitionName({ topic: topic.name, partition })
        alive.add(name)
        if (!this.partitions.has(name)) this.partitions.set(name, this.make({ topic: topic.name, partition }))
      }
    }
    for (const name of this.partitions.keys()) if (!alive.has(name) && !this.running.has(name)) this.partitions.delete(name)
    return [...this.partitions.values()]
  }

  private make(at: { topic: string; partition: number }): PartitionExport {
    const { log, store, zstd, dataDir } = this.options
    return new PartitionExport(at, {
      context: {
        system: this.system,
        store,
        journal: this.openedJournal(),
        owner: () => this.owner(),
        zstd,
        directory: `${dataDir}/export`,
        clusterId: log.clusterId,
        logEpoch: log.logEpoch,
        signal: this.stopping.signal,
        liveTemps: this.liveTemps,
        scanTurn: this.scanTurn,
        onUploaded: (lengthBytes) => this.metrics.bytes.add(lengthBytes),
        onQuarantined: (key, path) => this.alarmList.raise(`quarantined ${path}`, { code: 'EXPORT_QUARANTINED', message: `${key.topic}-${key.partition}: a file under our name was not ours; it is ${path} now` }),
      },
      clock: this.system.clock,
      random: this.system.random,
      log: this.system.log,
      topicLog: log,
      alarms: this.alarmList,
      recheckAfterMs: this.options.recheckAfterMs ?? 60_000,
      onRecorded: (segment) => {
        this.metrics.segments.add(1)
        this.system.log.info('segment exported', { topic: segment.topic, partition: segment.partition, baseOffset: segment.baseOffset, nextOffset: segment.nextOffset, bytes: segment.sizeBytes })
      },
      failures: this.metrics.failures,
    })
  }

  private async sweepIfDue(): Promise<void> {
    const nowMs = this.system.clock.monotonicMs()
    if (this.sweptMs !== undefined && nowMs - this.sweptMs < SWEEP_INTERVAL_MS) return
    this.sweptMs = nowMs
    await sweepQuietly(this.system, { store: this.options.store, journal: this.openedJournal(), liveTemps: this.liveTemps })
  }

  /** Says that we live, and hears of it when somebody else took the store, also while nothing is exported. */
  private async holdIfDue(): Promise<void> {
    const nowMs = this.system.clock.monotonicMs()
    if (nowMs - this.heldMs < HOLD_MS) return
    this.heldMs = nowMs
    try {
      await this.owner().hold()
    } catch (error) {
      if (error instanceof BugError) throw error
      const failure = toAppError(error)
      if (failure.code === 'RESTORE_REQUIRED') this.refuse(failure)
      else this.system.log.debug('could not renew the owner file', { code: failure.code, error: failure.message })
    }
  }

  exportedOffset(topic: string, partition: number): Offset {
    if (this.journal === undefined) return toOffset(0)
    const known = this.partitions.get(partitionName({ topic, partition }))
    return (known?.progress ?? progressOf(this.journal.segments(topic, partition))).checkedOffset ?? toOffset(0)
  }

  status(options: { segmentsMax?: number } = {}): ExportInfo[] {
    const { standing } = this
    if (this.journal === undefined) return []
    const infos = this.all()
      .sort((a, b) => (a.topic === b.topic ? a.partition - b.partition : a.topic < b.topic ? -1 : 1))
      .map((partition) =>
        describePartition(partition, {
          watermarks: this.options.log.watermarks(partition.topic, partition.partition),
          nowMs: this.system.clock.nowMs(),
          segmentsMax: options.segmentsMax ?? Number.MAX_SAFE_INTEGER,
          standing,
        }),
      )
    const { tables } = this
    return tables === undefined ? infos : infos.map((info) => ({ ...info, tables: tables.status(info.topic, info.partition) }))
  }

  segments(topic: string, partition: number): ReadonlyMap<Offset, ExportedSegment> {
    return this.journal?.segments(topic, partition) ?? noSegments
  }

  alarms(): Alarm[] {
    return this.alarmList.list()
  }

  verify(options: { deep: boolean; signal?: AbortSignal }): AsyncIterable<SegmentVerification> {
    return verifySegments(this.options.store, this.openedJournal().partitions(), options)
  }

  async exportNow(): Promise<void> {
    for (const topic of this.options.log.topics()) {
      for (const { partition } of topic.partitions) await this.options.log.roll(topic.name, partition)
    }
    if (this.standing.kind === 'refused') throw this.standing.error
    if (this.standing.kind === 'asking') throw new AppError('UNAVAILABLE', `the export store does not answer: ${this.standing.error?.message ?? 'it was not asked yet'}`)
    const partitions = this.all()
    for (const partition of partitions) partition.hurry()
    const queue = [...partitions]
    const drainers = Array.from({ length: this.options.parallel ?? PARALLEL_DEFAULT }, async () => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) await this.drain(next)
    })
    // All of them to their end: whoever asked then sees no partition half way, and starts nothing beside it.
    const failed = (await Promise.allSettled(drainers)).find((each) => each.status === 'rejected')
    // What did get out is published all the same.
    await this.tables?.publishNow()
    if (failed !== undefined) throw failed.reason
  }

  private async drain(partition: PartitionExport): Promise<void> {
    for (let runs = 0; runs < RUNS_MAX && !this.stopping.signal.aborted; runs += 1) {
      await this.running.get(partition.name)
      // What it met before is no answer to whoever asks now: while it is due it is tried.
      if (!partition.isDue()) {
        throwIfStuck(partition)
        return
      }
      if (!this.running.has(partition.name)) await this.begin(partition)
    }
  }

  skippable(topic: string, partition: number): OffsetRange | undefined {
    return this.partitions.get(partitionName({ topic, partition }))?.skippable()
  }

  async skip(topic: string, partition: number, range: OffsetRange): Promise<void> {
    const name = partitionName({ topic, partition })
    const known = this.partitions.get(name)
    if (known === undefined) throw new AppError('NOT_FOUND', `there is no partition ${name}`)
    await this.running.get(name)
    await known.skip(range)
    known.hurry()
    this.wake.abort()
  }

  async close(): Promise<void> {
    this.stopping.abort()
    this.wake.abort()
    // First the store: calls under way end now instead of at their time limits.
    await this.options.store.close()
    await Promise.allSettled(this.running.values())
    await this.background
    await this.tables?.close()
    await this.journal?.close()
  }
}

function throwIfStuck(partition: PartitionExport): void {
  const { state, name } = partition
  const damaged = partition.damaged()[0]
  if (state.kind === 'waiting' || state.kind === 'parked') throw state.error
  if (state.kind === 'gap') {
    throw new AppError('CONFLICT', `${name}: offsets ${state.fromOffset} to ${state.toOffset} are neither exported nor on disk`, {
      hint: 'find out which segment is missing: the export goes on when it is back, or when these offsets are given up (tailrace exports skip)',
    })
  }
  if (damaged?.progress.kind === 'damaged') throw new AppError('CORRUPT_DATA', damaged.progress.reason)
}
