/**
 * What a restore makes of a data folder that is behind its export store, or not there at all. Pure: the two sides come
 * in as views, the plan says for each partition where it goes on, and what the new folder holds.
 *
 * The rules. No offset that was ever exported is given again: a partition whose log is behind the store, or holds other
 * records than the store at the same offsets, begins anew behind both. Positions are those of the manifests where the
 * exported bytes are further than what is kept here, so agents send nothing twice that is exported. Records that are
 * only in a log that is set aside are appended again by the caller, who is refused those that the positions have passed.
 */
import { toOffset, type Offset } from '../../shared/types.ts'
import type { FoldedPartition, Snapshot } from '../storage/stream-snapshot.ts'
import type { TopicFile } from '../storage/topic-files.ts'
import type { StreamState } from '../storage/topic-log.ts'
import { emptyState, partitionName, type ExportedSegment, type ExportState } from './journal-format.ts'
import { inOffsetOrder } from './plan.ts'

export interface OffsetSpan {
  readonly fromOffset: Offset
  readonly toOffset: Offset
}

export interface LocalPartition {
  readonly topic: string
  readonly partition: number
  readonly startOffset: Offset
  readonly endOffset: Offset
  /** Offsets whose records are here and on the store, the same on both. */
  readonly common: readonly OffsetSpan[]
}

/** What is left of the data folder; everything empty where it is lost. */
export interface LocalView {
  readonly logEpoch: number
  readonly partitions: ReadonlyMap<string, LocalPartition>
  /** Settings files and tombstones. */
  readonly topics: readonly TopicFile[]
  readonly streams: readonly StreamState[]
  /** By partition name, then base offset: what the journal here knows. */
  readonly exported: ReadonlyMap<string, ReadonlyMap<Offset, ExportedSegment>>
}

export interface StoreView {
  readonly clusterId: string
  readonly logEpoch: number
  /** Partition name → offset below which anything may be exported, by the owner file. */
  readonly claimed: ReadonlyMap<string, FoldedPartition>
  readonly partitions: ReadonlyMap<string, ReadonlyMap<Offset, ExportedSegment>>
  readonly streams: ReadonlyMap<string, StreamState>
}

/** A partition whose log begins anew. */
export interface PartitionRestore {
  readonly topic: string
  readonly partition: number
  /** undefined: it is not here. */
  readonly local: LocalPartition | undefined
  /** One behind the last offset of the newest manifest; 0 without any. */
  readonly exportedEnd: Offset
  readonly begin: Offset
  /** Whether the log here holds records that the store does not. */
  readonly hasOwnRecords: boolean
}

export interface RestorePlan {
  readonly clusterId: string
  readonly logEpoch: number
  readonly partitions: readonly PartitionRestore[]
  readonly topics: readonly TopicFile[]
  readonly snapshot: Snapshot
  /** Without boot and nonce, which the caller takes. */
  readonly journal: ExportState
  /** Streams whose position comes from the store. */
  readonly streamsFromStore: number
}

export function planRestore(local: LocalView, store: StoreView, options: { readonly partitionsDefault: number }): RestorePlan {
  const partitions = affectedPartitions(local, store)
  const merged = mergeStreams(local, store, partitions)
  return {
    clusterId: store.clusterId,
    logEpoch: Math.max(local.logEpoch, store.logEpoch) + 1,
    partitions,
    topics: topicFiles(local, store, { partitions, ...options }),
    snapshot: { partitions: foldedPartitions(local, partitions), streams: merged.streams },
    journal: mergeJournal(local, store, partitions),
    streamsFromStore: merged.fromStore,
  }
}

const noSegments: ReadonlyMap<Offset, ExportedSegment> = new Map()

function affectedPartitions(local: LocalView, store: StoreView): PartitionRestore[] {
  const places = new Map<string, { topic: string; partition: number }>(store.claimed)
  for (const [name, segments] of store.partitions) {
    const key = segments.values().next().value?.key
    if (key !== undefined) places.set(name, key)
  }
  return [...places]
    .map(([name, { topic, partition }]) => affected({ topic, partition, name }, local, store))
    .filter((each) => each !== undefined)
    .sort((a, b) => (a.topic === b.topic ? a.partition - b.partition : a.topic < b.topic ? -1 : 1))
}

function affected({ topic, partition, name }: { topic: string; partition: number; name: string }, local: LocalView, store: StoreView): PartitionRestore | undefined {
  const segments = store.partitions.get(name) ?? noSegments
  const exportedEnd = toOffset(Math.max(0, ...[...segments.values()].map(({ key }) => key.nextOffset)))
  const storeNext = Math.max(exportedEnd, store.claimed.get(name)?.nextOffset ?? 0)
  const here = local.partitions.get(name)
  // Of a topic that was deleted here, the tombstone says how far it was.
  const tombstone = local.topics.find((file) => file.topic === topic && file.state === 'deleted')
  const known = here?.endOffset ?? tombstone?.startOffsets[partition] ?? 0
  const isOther = here !== undefined && [...segments.values()].some(({ key }) => !holdsTheSame(here, key))
  if (storeNext <= known && !isOther) return undefined
  const hasOwnRecords = here !== undefined && here.endOffset > here.startOffset && !covers(here.common, here)
  return { topic, partition, local: here, exportedEnd, begin: toOffset(Math.max(storeNext, known)), hasOwnRecords }
}

/** Whether what is here of an exported segment, if anything is, is what was exported. */
function holdsTheSame(here: LocalPartition, { baseOffset, nextOffset }: { baseOffset: Offset; nextOffset: Offset }): boolean {
  const overlap = { startOffset: toOffset(Math.max(here.startOffset, baseOffset)), endOffset: toOffset(Math.min(here.endOffset, nextOffset)) }
  return overlap.startOffset >= overlap.endOffset || covers(here.common, overlap)
}

function covers(spans: readonly OffsetSpan[], range: { startOffset: Offset; endOffset: Offset }): boolean {
  let covered: number = range.startOffset
  for (const { fromOffset, toOffset: end } of [...spans].sort((a, b) => a.fromOffset - b.fromOffset)) {
    if (fromOffset <= covered && end > covered) covered = end
  }
  return covered >= range.endOffset
}

function topicFiles(local: LocalView, store: StoreView, options: { partitions: readonly PartitionRestore[]; partitionsDefault: number }): TopicFile[] {
  const names = [...new Set(options.partitions.map(({ topic }) => topic))]
  return names.map((topic) => {
    const known = local.topics.find((file) => file.topic === topic)
    const used = [...local.partitions.values(), ...store.claimed.values(), ...options.partitions].filter((each) => each.topic === topic)
    return {
      topic,
      state: 'live',
      partitions: Math.max(known?.partitions ?? options.partitionsDefault, ...used.map(({ partition }) => partition + 1)),
      overrides: known?.overrides ?? {},
      startOffsets: known?.startOffsets ?? [],
    }
  })
}

function foldedPartitions(local: LocalView, partitions: readonly PartitionRestore[]): FoldedPartition[] {
  const folded = new Map<string, FoldedPartition>()
  for (const { topic, partition, endOffset } of local.partitions.values()) folded.set(partitionName({ topic, partition }), { topic, partition, nextOffset: endOffset })
  for (const { topic, state, startOffsets } of local.topics) {
    if (state === 'deleted') startOffsets.forEach((nextOffset, partition) => folded.set(partitionName({ topic, partition }), { topic, partition, nextOffset }))
  }
  for (const { topic, partition, begin } of partitions) folded.set(partitionName({ topic, partition }), { topic, partition, nextOffset: begin })
  return [...folded.values()]
}

function mergeStreams(local: LocalView, store: StoreView, partitions: readonly PartitionRestore[]): { streams: StreamState[]; fromStore: number } {
  const restored = new Map(partitions.map((each) => [partitionName(each), each]))
  const merged = new Map<string, StreamState>()
  for (const state of local.streams) if (!willBeAppendedAgain(state, restored.get(partitionName(state)))) merged.set(idOf(state), state)
  let fromStore = 0
  for (const [id, found] of store.streams) {
    const here = merged.get(id)
    if (here !== undefined && here.position >= found.position) continue
    fromStore += 1
    // Open, for its agent to close: a closed one would be forgotten in time, though its file may be there still.
    merged.set(id, { ...found, keyPath: here?.keyPath ?? found.keyPath, firstOffset: here?.firstOffset ?? found.firstOffset, isSuperseded: found.isSuperseded || here?.isSuperseded === true, isOpen: true })
  }
  return { streams: [...merged].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, state]) => state), fromStore }
}

function idOf(state: StreamState): string {
  return state.source.streamId.toString('hex')
}

/** Its newest records are in a log that is set aside, and nowhere else: they bring their position with them. */
function willBeAppendedAgain(state: StreamState, restored: PartitionRestore | undefined): boolean {
  const here = restored?.local
  if (here === undefined || state.lastOffset < here.startOffset) return false
  return !here.common.some(({ fromOffset, toOffset: end }) => state.lastOffset >= fromOffset && state.lastOffset < end)
}

/** What the store has is exported; what the journal here says beside that still holds. */
function mergeJournal(local: LocalView, store: StoreView, partitions: readonly PartitionRestore[]): ExportState {
  const state = emptyState()
  const restored = new Map(partitions.map((each) => [partitionName(each), each]))
  for (const name of new Set([...local.exported.keys(), ...store.partitions.keys()])) {
    const segments = new Map<Offset, ExportedSegment>()
    for (const segment of local.exported.get(name)?.values() ?? []) {
      // Its local bytes are set aside: only what is done, or given up, is left to say.
      const isDone = segment.progress.kind === 'recorded' || segment.progress.kind === 'skipped'
      if (isDone || !restored.has(name)) segments.set(segment.key.baseOffset, segment)
    }
    for (const segment of store.partitions.get(name)?.values() ?? []) {
      if (!isSameExport(segments.get(segment.key.baseOffset), segment)) segments.set(segment.key.baseOffset, unchecked(segment))
    }
    const target = restored.get(name)
    if (target !== undefined) closeGaps(segments, target)
    state.partitions.set(name, new Map([...segments].sort(([a], [b]) => a - b)))
  }
  return state
}

function isSameExport(known: ExportedSegment | undefined, found: ExportedSegment): boolean {
  return known?.progress.kind === 'recorded' && known.key.epoch === found.key.epoch && logHash(known) === logHash(found)
}

export function logHash({ progress }: ExportedSegment): string | undefined {
  return progress.kind === 'recorded' ? progress.files.find(({ kind }) => kind === 'log')?.sha256 : undefined
}

/** Retention relies on it only once the exporter has seen all its files. */
function unchecked({ key, progress }: ExportedSegment): ExportedSegment {
  return { key, progress: progress.kind === 'recorded' ? { ...progress, isChecked: false } : progress }
}

/** So that the export goes on at `begin`. Behind the newest manifest no record keeps its offset; a gap before it is a loss. */
function closeGaps(segments: Map<Offset, ExportedSegment>, { topic, partition, exportedEnd, begin }: PartitionRestore): void {
  let expected: Offset | undefined
  const skip = (fromOffset: Offset, nextOffset: Offset): void => {
    if (fromOffset >= nextOffset) return
    const isVoid = fromOffset >= exportedEnd
    segments.set(fromOffset, { key: { topic, partition, baseOffset: fromOffset, nextOffset, epoch: 0 }, progress: { kind: 'skipped', isVoid } })
  }
  for (const { key } of inOffsetOrder(segments)) {
    if (expected !== undefined) skip(expected, key.baseOffset)
    expected = toOffset(Math.max(expected ?? 0, key.nextOffset))
  }
  if (expected !== undefined) skip(expected, begin)
}
