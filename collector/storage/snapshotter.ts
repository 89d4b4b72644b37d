/**
 * Writes the stream table's snapshots and knows what the newest synced one holds. One at a time; a caller that needs the
 * state of now waits for a snapshot that began after its call.
 */
import type { System } from '../../shared/system.ts'
import type { Offset } from '../../shared/types.ts'
import type { Alarms } from './alarms.ts'
import { diskError } from './disk.ts'
import { Mutex } from './mutex.ts'
import type { PartitionLog } from './partition-log.ts'
import { writeSnapshot, type FoldedPartition } from './stream-snapshot.ts'
import type { MemoryStreamTable } from './stream-table.ts'
import { partitionKey } from './topic.ts'

/** A snapshot only shortens the next start: it is written when something changed, at most so often. */
const SNAPSHOT_INTERVAL_MS = 60_000

export interface SnapshotterOptions {
  readonly system: Pick<System, 'fs' | 'clock' | 'log'>
  readonly directory: string
  readonly lastNumber: number
  readonly table: MemoryStreamTable
  readonly alarms: Alarms
  /** Partitions of all topics, and the ends of deleted ones. */
  readonly partitions: () => readonly PartitionLog[]
  readonly tombstones: () => readonly FoldedPartition[]
}

export class Snapshotter {
  private readonly options: SnapshotterOptions
  private readonly mutex = new Mutex()
  private number: number
  /** By partition: all below is in a synced snapshot. */
  private offsets = new Map<string, Offset>()
  private written: { version: number; monotonicMs: number }

  constructor(options: SnapshotterOptions, loaded: readonly FoldedPartition[]) {
    this.options = options
    this.number = options.lastNumber
    for (const folded of loaded) this.offsets.set(partitionKey(folded), folded.nextOffset)
    this.written = { version: options.table.version, monotonicMs: options.system.clock.monotonicMs() }
  }

  /** Everything below this offset is in a synced snapshot; undefined when none holds the partition. */
  coveredOffset(log: PartitionLog): Offset | undefined {
    return this.offsets.get(partitionKey(log))
  }

  /** The table was filled from snapshots and log: that alone is no change. */
  adopted(): void {
    this.written = { ...this.written, version: this.options.table.version }
  }

  isDue(): boolean {
    const { clock } = this.options.system
    return this.options.table.version !== this.written.version && clock.monotonicMs() - this.written.monotonicMs >= SNAPSHOT_INTERVAL_MS
  }

  hasChanges(): boolean {
    return this.options.table.version !== this.written.version
  }

  /** Durable on return: positions and offsets of now, taken in one step. */
  async write(): Promise<void> {
    const { system, alarms } = this.options
    try {
      await this.mutex.run(() => this.writeNow())
      alarms.clear('SNAPSHOT_NOT_WRITTEN')
    } catch (error) {
      const failure = diskError(error, 'write a snapshot of the stream table')
      alarms.raise('SNAPSHOT_NOT_WRITTEN', failure.message)
      system.log.warn('snapshot not written', { reason: failure.message })
      throw failure
    }
  }

  private async writeNow(): Promise<void> {
    const { system, table } = this.options
    const { version } = table
    const logs = this.options.partitions()
    const partitions = logs.map(({ topic, partition, highWatermark }) => ({ topic, partition, nextOffset: highWatermark }))
    const streams = [...table.list()]
    // A snapshot must not be ahead of the recovery point: then a lost tail could not be told from one that never was.
    for (const log of logs) await log.checkpoint({ force: true })
    const all = [...partitions, ...this.options.tombstones()]
    await writeSnapshot(system.fs, this.options.directory, { number: this.number + 1, partitions: all, streams })
    this.number += 1
    this.written = { version, monotonicMs: system.clock.monotonicMs() }
    for (const folded of all) this.offsets.set(partitionKey(folded), folded.nextOffset)
  }
}
