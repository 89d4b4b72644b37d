/**
 * A replay under way: the group being gathered, what the sink acked, and the checkpoint of it. One caller at a time.
 * What a saved checkpoint counts as done is in the sink; for a topic the group on its way is named in it as well, so
 * that after a crash the same records go again under the same key and the collector drops the repeat.
 */
import { createHash } from 'node:crypto'
import type { QueryRecord } from '../../shared/wire.ts'
import type { CollectorClient, QueryValues } from './collector-client.ts'
import type { CommandInput } from './command.ts'
import type { CliContext } from './context.ts'
import { formatCursor, partitionKey, toObject, toVector, type OffsetVector } from './offset-vector.ts'
import { saveCheckpoint, type ReplayCheckpoint } from './replay-checkpoint.ts'
import type { PaceOptions } from './replay-pace.ts'
import type { ReplaySink, SinkSpec } from './replay-sink.ts'
import { recordsBetween, type SourceOptions } from './replay-source.ts'

/** Bounds of one group that is sent and acked together. */
const GROUP_RECORDS_MAX = 1000
const GROUP_BYTES_MAX = 512 * 1024
const CHECKPOINT_INTERVAL_MS = 1000

export interface PreparedReplay {
  readonly client: CollectorClient
  readonly context: CliContext
  readonly input: CommandInput
  readonly topics: readonly string[]
  readonly sink: SinkSpec
  readonly pace: PaceOptions
  readonly values: QueryValues
  /** Where it begins or goes on. */
  readonly state: ReplayCheckpoint
  readonly isResumed: boolean
  readonly checkpointPath: string | undefined
}

export function sourceOptions({ client, context, values, state }: PreparedReplay): SourceOptions {
  return { client, context, values, next: toVector(state.next), ends: toVector(state.ends) }
}

export class ReplayRun {
  sent = 0
  readonly vector: Map<string, number>
  private readonly prepared: PreparedReplay
  private group: QueryRecord[] = []
  private groupBytes = 0
  private fileBytes: number | undefined
  private savedMs: number
  private recordsUnsaved = 0

  constructor(prepared: PreparedReplay) {
    this.prepared = prepared
    this.vector = toVector(prepared.state.next)
    this.fileBytes = prepared.state.fileBytes
    this.savedMs = prepared.context.system.clock.monotonicMs()
  }

  /** Whether this record still fits the group that is being gathered. */
  hasRoomFor(record: QueryRecord): boolean {
    return this.group.length < GROUP_RECORDS_MAX && this.groupBytes + sizeOf(record) <= GROUP_BYTES_MAX
  }

  add(record: QueryRecord): void {
    this.group.push(record)
    this.groupBytes += sizeOf(record)
  }

  /** What was under way when the last run ended goes again, under its old key. */
  async repeatPending(sink: ReplaySink): Promise<void> {
    const { pending } = this.prepared.state
    if (pending === undefined) return
    const end = toVector(pending.end)
    const records = await recordsBetween({ ...sourceOptions(this.prepared), next: this.vector, ends: end })
    if (records.length > 0) await sink.send(inGroupOrder(records), pending.key)
    this.acked(end, records.length)
  }

  async sendGroup(sink: ReplaySink): Promise<void> {
    if (this.group.length === 0) return
    const { group } = this
    this.group = []
    this.groupBytes = 0
    const end = new Map(this.vector)
    for (const { topic, partition, offset } of group) end.set(partitionKey(topic, partition), offset + 1)
    const key = this.keyOf(end)
    if (this.prepared.sink.kind === 'topic') await this.save({ key, end: toObject(end) })
    await sink.send(this.prepared.sink.kind === 'topic' ? inGroupOrder(group) : group, key)
    this.acked(end, group.length)
    if (this.prepared.sink.kind !== 'topic') await this.saveIfDue(sink)
  }

  async finish(sink: ReplaySink): Promise<void> {
    this.fileBytes = (await sink.sync()) ?? this.fileBytes
    // What the filters left out behind the last match is done as well.
    for (const [key, end] of toVector(this.prepared.state.ends)) this.vector.set(key, Math.max(end, this.vector.get(key) ?? 0))
    await this.save()
  }

  async save(pending?: ReplayCheckpoint['pending']): Promise<void> {
    const { checkpointPath, state, context } = this.prepared
    if (checkpointPath === undefined) return
    await saveCheckpoint(context.system.fs, checkpointPath, {
      version: 1, spec: state.spec, run: state.run, sinceMs: state.sinceMs, untilMs: state.untilMs, ends: state.ends,
      next: toObject(this.vector),
      records: state.records + this.sent,
      ...(this.fileBytes === undefined ? {} : { fileBytes: this.fileBytes }),
      ...(pending === undefined ? this.stillPending() : { pending }),
    })
    this.savedMs = context.system.clock.monotonicMs()
    this.recordsUnsaved = 0
  }

  /** Until the group of the last run is acked, it stays in the checkpoint. */
  private stillPending(): { pending?: NonNullable<ReplayCheckpoint['pending']> } {
    const { pending } = this.prepared.state
    const isAcked = pending === undefined || this.sent > 0 || formatCursor(this.vector) !== formatCursor(toVector(this.prepared.state.next))
    return isAcked ? {} : { pending }
  }

  private acked(end: OffsetVector, records: number): void {
    for (const [key, offset] of end) this.vector.set(key, offset)
    this.sent += records
    this.recordsUnsaved += records
  }

  private async saveIfDue(sink: ReplaySink): Promise<void> {
    if (this.prepared.checkpointPath === undefined) return
    const isDue = this.prepared.context.system.clock.monotonicMs() - this.savedMs >= CHECKPOINT_INTERVAL_MS
    if (!isDue && this.recordsUnsaved < GROUP_RECORDS_MAX) return
    this.fileBytes = (await sink.sync()) ?? this.fileBytes
    await this.save()
  }

  /** From this run's name and the offsets of the group: the same group has the same key, after a crash too. */
  private keyOf(end: OffsetVector): string {
    return createHash('sha256').update(`${this.prepared.state.run}\n${formatCursor(this.vector)}\n${formatCursor(end)}`).digest('hex').slice(0, 40)
  }
}

/** Bytes that a record takes among lines. */
function sizeOf(record: QueryRecord): number {
  return (record.b64 === undefined ? Buffer.byteLength(record.line) : Math.ceil((record.b64.length * 3) / 4)) + 1
}

/**
 * An order that the group's records alone decide: by largest timestamp so far in their partition, then partition, then
 * offset. A group that is read again after a crash must give the same bytes, or its key would not fit them.
 */
function inGroupOrder(records: readonly QueryRecord[]): QueryRecord[] {
  const byOffset = [...records].sort((a, b) => compare(a.topic, b.topic) || a.partition - b.partition || a.offset - b.offset)
  const largest = new Map<string, number>()
  const keyed = byOffset.map((record, index) => {
    const key = partitionKey(record.topic, record.partition)
    const ts = Math.max(record.ts, largest.get(key) ?? -Infinity)
    largest.set(key, ts)
    return { record, ts, index }
  })
  return keyed.sort((a, b) => a.ts - b.ts || a.index - b.index).map(({ record }) => record)
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
