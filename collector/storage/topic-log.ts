/**
 * What the rest of the collector sees of the log: partitioned topics that take sealed batches, give them back below the
 * high watermark, and know every stream's position. The embedded log (topic-store.ts) implements it; a real Kafka
 * cluster may stand behind it later.
 *
 * Everything here may be called at any time from anywhere in the process; calls for one partition are put in order by
 * its writer. What an append answers is durable: it survives a power cut.
 */
import type { SourceHeader } from '../../shared/source-header.ts'
import type { FilePosition, Offset } from '../../shared/types.ts'

export interface TopicConfig {
  readonly partitions: number
  readonly segmentBytes: number
  readonly segmentAgeMs: number
  /** Per partition; undefined = unlimited. */
  readonly retentionBytes: number | undefined
  readonly retentionAgeMs: number | undefined
}

/** A batch from an agent that passed `checkBatch`, with the source header that it carries inside. */
export interface SourcedBatch {
  readonly topic: string
  readonly source: SourceHeader
  /** Exactly one batch; the log patches its base offset and leader epoch in place and owns it until the answer. */
  readonly batch: Buffer
}

/** Where a stream stands, synced. */
export interface SyncedPosition {
  readonly position: FilePosition
  readonly tailHash: Buffer
}

export type AppendResult =
  | { readonly kind: 'ok'; readonly partition: number; readonly baseOffset: Offset }
  /** It starts before the stream's position: nothing was written. */
  | ({ readonly kind: 'have' } & SyncedPosition)
  /** It starts behind the stream's position: nothing was written. */
  | ({ readonly kind: 'expected' } & SyncedPosition)
  /** It starts at the position, but the bytes before it are others. */
  | ({ readonly kind: 'diverged' } & SyncedPosition)

/** A batch without a source: from `POST /lines`, or a replay into a topic. */
export interface PlainBatch {
  readonly topic: string
  /** Chosen by the caller, below the topic's partition count. */
  readonly partition: number
  readonly batch: Buffer
}

export interface Watermarks {
  /** First offset that can be read, be it here or where it was exported to. */
  readonly logStartOffset: Offset
  /** First offset on this disk: at or behind `logStartOffset`, and the same where nothing is read back. */
  readonly localLogStartOffset: Offset
  /** First offset that readers may not see yet; everything below is synced. */
  readonly highWatermark: Offset
  readonly logEndOffset: Offset
}

/** What readers may know of a segment, wherever its bytes lie. */
export interface SegmentSummary {
  readonly topic: string
  readonly partition: number
  readonly baseOffset: Offset
  /** One behind the last record; for the active segment its synced end. */
  readonly nextOffset: Offset
  readonly sizeBytes: number
  readonly isSealed: boolean
  /** Wall clock at the first and last append; undefined in an empty segment. */
  readonly firstAppendMs: number | undefined
  readonly lastAppendMs: number | undefined
  /** No record is newer than this; undefined in an empty segment. */
  readonly maxTimestampMs: number | undefined
}

export interface SegmentInfo extends SegmentSummary {
  /** Absolute paths. The indexes are complete and synced once the segment is sealed. */
  readonly files: { readonly log: string; readonly index: string; readonly timeIndex: string; readonly meta: string }
}

export interface ReadRequest {
  readonly topic: string
  readonly partition: number
  /** The batch that holds this offset is the first one given. */
  readonly offset: Offset
  /** At least one whole batch is given even if it is larger. */
  readonly bytesMax: number
  /** Never give batches that begin at or behind this offset. Default: the high watermark. */
  readonly endOffset?: Offset
}

export interface ReadResult {
  /** Whole batches back to back, each with a checked CRC; empty at the high watermark. */
  readonly batches: Buffer
  /** Where to read on. */
  readonly nextOffset: Offset
  /** Offsets that are gone or damaged and were skipped over to get here. */
  readonly missing: readonly { readonly fromOffset: Offset; readonly toOffset: Offset; readonly reason: string }[]
}

export interface PartitionInfo extends Watermarks {
  readonly partition: number
  readonly sizeBytes: number
  readonly segmentCount: number
  readonly firstAppendMs: number | undefined
  readonly lastAppendMs: number | undefined
  readonly state: 'ok' | 'failed' | 'damaged'
}

export interface TopicDescription {
  readonly name: string
  readonly config: TopicConfig
  readonly partitions: readonly PartitionInfo[]
}

/** The log as its readers see it. What is behind it may reach further back than this disk does. */
export interface ReadableLog {
  readonly streams: ReadableStreams

  topics(): readonly TopicDescription[]
  topic(name: string): TopicDescription | undefined
  watermarks(topic: string, partition: number): Watermarks
  /** OFFSET_OUT_OF_RANGE above the log end; below the log start it begins at the log start and says what is missing. */
  read(request: ReadRequest): Promise<ReadResult>
  /** Resolves when the high watermark is above `offset`, or with false when the signal fires. */
  waitFor(topic: string, partition: number, offset: Offset, signal: AbortSignal): Promise<boolean>
  /** Lower bound: no record with a timestamp ≥ `timestampMs` stands before the offset given. Log end when there is none. */
  offsetForTimestamp(topic: string, partition: number, timestampMs: number): Promise<Offset>
  /** Oldest first; the last one is the active segment. */
  segments(topic: string, partition: number): readonly SegmentSummary[]
}

export interface TopicLog extends ReadableLog {
  readonly streams: StreamTable
  readonly clusterId: string
  /** Rises when positions may have gone back (restore): agents say hello again. */
  readonly logEpoch: number

  /** TOPIC_EXISTS, INVALID_TOPIC, INVALID_PARTITIONS. A topic of this name that was deleted goes on at its old offsets. */
  createTopic(name: string, config: Partial<TopicConfig>): Promise<TopicDescription>
  /** Raising the partition count leaves old streams where they are; lowering it is INVALID_PARTITIONS. */
  alterTopic(name: string, config: Partial<TopicConfig>): Promise<TopicDescription>
  deleteTopic(name: string): Promise<void>

  /** Makes the topic on first use. Rejects with DISK_FULL, UNAVAILABLE, STORAGE_ERROR; after a rejection nothing of it is stored or it is unknown to be. */
  append(batch: SourcedBatch): Promise<AppendResult>
  appendPlain(batch: PlainBatch): Promise<{ readonly baseOffset: Offset }>

  /** Those on this disk. Oldest first; the last one is the active segment. */
  segments(topic: string, partition: number): readonly SegmentInfo[]

  /** Seals active segments that are over age, drops what retention allows, writes a snapshot when due. Called each second. */
  maintain(): Promise<void>
  /** Seals the active segment now if it holds anything: for export on request, and for `--once` runs. */
  roll(topic: string, partition: number): Promise<void>
  /** Retention never drops a segment that ends above this; undefined = there is no export. */
  setExportedOffset(lookup: (topic: string, partition: number) => Offset | undefined): void
  close(): Promise<void>
}

/** One stream's state. `position`, `tailHash`, `recordCount` are the synced ones. */
export interface StreamState {
  readonly source: SourceHeader
  readonly topic: string
  readonly partition: number
  /** Path in the record key, fixed when the stream began. */
  readonly keyPath: string
  readonly position: FilePosition
  readonly tailHash: Buffer
  readonly recordCount: number
  readonly firstOffset: Offset
  readonly lastOffset: Offset
  readonly lastAppendMs: number
  readonly isSuperseded: boolean
  readonly isOpen: boolean
}

export type ReadableStreams = Pick<StreamTable, 'size' | 'get' | 'list'>

export interface StreamTable {
  readonly size: number
  get(streamId: Buffer): StreamState | undefined
  /** In order of stream id, all agents, for listings. */
  list(): Iterable<StreamState>
  /** Streams of one agent in order of stream id, those behind `after` first. */
  ofAgent(agentId: string, options: { after?: Buffer; limit: number }): readonly StreamState[]
  /** Streams of one agent, open or closed, with this inode and birth time or whose head is a prefix of `head`. */
  find(agentId: string, options: { topic: string; inode: bigint; birthtimeNs: bigint; head: Buffer }): readonly StreamState[]
  /** Marks as closed where the position is still the given one. Durable with the next snapshot; losing it costs nothing. */
  close(streamId: Buffer, position: FilePosition): boolean
}
