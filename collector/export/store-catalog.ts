/**
 * What a store holds, by its manifests alone: no journal, no collector. Lists the partitions, reads every manifest, and
 * folds out of them the segments and where each stream stands. Reads only.
 *
 * A manifest under its final name says that the other files of its segment are whole. One that can't be read leaves its
 * segment out, with a warning: its offsets are then missing to readers. Where a segment was exported twice under two log
 * epochs, the later one counts.
 */
import { createHash } from 'node:crypto'
import { AppError, toAppError } from '../../shared/errors.ts'
import { decodeSourceHeader } from '../../shared/source-header.ts'
import type { Log } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import type { StreamState } from '../storage/topic-log.ts'
import { partitionName, type EncodedFile, type ExportedSegment } from './journal-format.ts'
import { parsePartitionDirectory, parseSegmentPath, partitionDirectory, RAW_DIRECTORY, segmentPath, type SegmentKey } from './layout.ts'
import { MANIFEST_BYTES_MAX, parseManifest, type Manifest } from './manifest.ts'
import { readSmall, type RemoteStore } from './remote-store.ts'

export interface StoreCatalog {
  /** Partition count by topic, in order of name. */
  readonly topics: ReadonlyMap<string, number>
  /** By partition name, then by base offset, in order of offsets. */
  readonly partitions: ReadonlyMap<string, ReadonlyMap<Offset, ExportedSegment>>
  /** By stream id in hex, in that order. */
  readonly streams: ReadonlyMap<string, StreamState>
  /** Who exported: more than one where two collectors wrote to one folder. */
  readonly clusterIds: ReadonlySet<string>
}

export interface CatalogOptions {
  readonly store: Pick<RemoteStore, 'list' | 'stat' | 'read'>
  readonly log: Pick<Log, 'warn'>
  readonly signal: AbortSignal
  readonly onProgress?: (manifests: number) => Promise<void>
  /** A manifest that can't be read. Default: a warning; its segment is left out. */
  readonly onUnreadable?: (path: string, reason: string) => void
}

const PARALLEL = 8
/** Ten terabytes in segments of 256 MiB are 40,000. */
const SEGMENTS_MAX = 1_000_000

/** NOT_FOUND where nothing was ever exported. */
export async function readCatalog(options: CatalogOptions): Promise<StoreCatalog> {
  const topics = new Map<string, number>()
  const partitions = new Map<string, Map<Offset, ExportedSegment>>()
  const streams = new Map<string, StreamState>()
  const clusterIds = new Set<string>()
  for (const { at, keys } of await listSegments(options)) {
    topics.set(at.topic, Math.max(topics.get(at.topic) ?? 0, at.partition + 1))
    const segments = new Map<Offset, ExportedSegment>()
    for await (const { key, manifest, file } of readManifests(options, keys)) {
      segments.set(key.baseOffset, toSegment(key, manifest, file))
      foldStreams(streams, manifest)
      clusterIds.add(manifest.clusterId)
    }
    partitions.set(partitionName(at), segments)
  }
  if (topics.size === 0) throw new AppError('NOT_FOUND', 'nothing is exported there', { hint: 'the URL names the folder that the collector exports to: it holds raw/' })
  return { topics, partitions, streams: markSuperseded(streams), clusterIds }
}

export interface ListedPartition {
  readonly at: { readonly topic: string; readonly partition: number }
  /** In order of offsets. */
  readonly keys: readonly SegmentKey[]
}

/** By the names alone. */
export async function listSegments(options: Pick<CatalogOptions, 'store' | 'signal'>): Promise<ListedPartition[]> {
  const listed: ListedPartition[] = []
  let count = 0
  for (const at of await findPartitions(options)) {
    const keys = await findSegments(options, at)
    count += keys.length
    if (count > SEGMENTS_MAX) throw new AppError('MESSAGE_TOO_LARGE', `the store holds more than ${SEGMENTS_MAX} segments`)
    listed.push({ at, keys })
  }
  return listed
}

async function findPartitions({ store, signal }: Pick<CatalogOptions, 'store' | 'signal'>): Promise<{ topic: string; partition: number }[]> {
  const found: { topic: string; partition: number }[] = []
  for (const topic of await store.list(RAW_DIRECTORY)) {
    if (topic.kind !== 'directory') continue
    for (const { name, kind } of await store.list(`${RAW_DIRECTORY}/${topic.name}`)) {
      throwIfAborted(signal)
      const at = kind === 'directory' ? parsePartitionDirectory(`${RAW_DIRECTORY}/${topic.name}/${name}`) : undefined
      if (at !== undefined) found.push(at)
    }
  }
  return found.sort((a, b) => (a.topic === b.topic ? a.partition - b.partition : a.topic < b.topic ? -1 : 1))
}

/** Segments that have a manifest, in order of offsets; of two with one base offset the one of the later epoch. */
async function findSegments({ store }: Pick<CatalogOptions, 'store'>, at: { topic: string; partition: number }): Promise<SegmentKey[]> {
  const directory = partitionDirectory(at.topic, at.partition)
  const keys = new Map<Offset, SegmentKey>()
  for (const { name, kind } of await store.list(directory)) {
    const found = kind === 'file' ? parseSegmentPath(`${directory}/${name}`) : undefined
    if (found?.kind !== 'manifest.json') continue
    const known = keys.get(found.key.baseOffset)
    if (known === undefined || known.epoch < found.key.epoch) keys.set(found.key.baseOffset, found.key)
  }
  return [...keys.values()].sort((a, b) => a.baseOffset - b.baseOffset)
}

interface ReadManifest {
  readonly key: SegmentKey
  readonly manifest: Manifest
  /** The manifest's own. */
  readonly file: EncodedFile
}

/** In order, a few read ahead. */
async function* readManifests(options: CatalogOptions, keys: readonly SegmentKey[]): AsyncGenerator<ReadManifest> {
  const ahead: Promise<ReadManifest | undefined>[] = []
  let next = 0
  let done = 0
  try {
    while (ahead.length > 0 || next < keys.length) {
      for (let key = keys[next]; ahead.length < PARALLEL && key !== undefined; next += 1, key = keys[next]) ahead.push(readOne(options, key))
      const found = await ahead.shift()
      throwIfAborted(options.signal)
      done += 1
      await options.onProgress?.(done)
      if (found !== undefined) yield found
    }
  } finally {
    await Promise.allSettled(ahead)
  }
}

async function readOne({ store, log, onUnreadable }: CatalogOptions, key: SegmentKey): Promise<ReadManifest | undefined> {
  const path = segmentPath(key, 'manifest.json')
  try {
    const bytes = await readSmall(store, path, MANIFEST_BYTES_MAX)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    return { key, manifest: parseManifest(bytes, key), file: { kind: 'manifest.json', lengthBytes: bytes.length, sha256 } }
  } catch (error) {
    const { code, message } = toAppError(error)
    // A store that does not answer is not one that lacks a file.
    if (code !== 'NOT_FOUND' && code !== 'CORRUPT_DATA' && code !== 'OFFSET_OUT_OF_RANGE') throw error
    if (onUnreadable !== undefined) onUnreadable(path, message)
    else log.warn('a manifest can not be read, and its segment is left out', { path, error: message })
    return undefined
  }
}

function toSegment(key: SegmentKey, { files, maxTimestampMs }: Manifest, manifest: EncodedFile): ExportedSegment {
  return { key, progress: { kind: 'recorded', files: [...files, manifest], maxTimestampMs, isChecked: true } }
}

/** Manifests come in order of offsets, and a stream lives in one partition: the last one says where it stands. */
function foldStreams(streams: Map<string, StreamState>, manifest: Manifest): void {
  for (const { id, header, keyPath, records, supersedes, firstOffset, lastOffset } of manifest.streams) {
    const source = decodeSourceHeader(Buffer.from(header, 'base64'))
    const known = streams.get(id)
    streams.set(id, {
      source: { ...source, supersedes: supersedes ?? source.supersedes ?? known?.source.supersedes },
      topic: manifest.topic,
      partition: manifest.partition,
      keyPath: known?.keyPath ?? keyPath,
      position: source.end,
      tailHash: source.tailHashEnd,
      recordCount: records,
      firstOffset: known?.firstOffset ?? toOffset(firstOffset),
      lastOffset: toOffset(lastOffset),
      lastAppendMs: manifest.lastAppendMs ?? 0,
      isSuperseded: false,
      isOpen: false,
    })
  }
}

function markSuperseded(streams: ReadonlyMap<string, StreamState>): ReadonlyMap<string, StreamState> {
  const superseded = new Set<string>()
  for (const { source, topic } of streams.values()) {
    if (source.supersedes !== undefined) superseded.add(generationKey(topic, { ...source, generation: source.supersedes }))
  }
  const sorted = [...streams].sort(([a], [b]) => (a < b ? -1 : 1))
  return new Map(sorted.map(([id, state]) => [id, { ...state, isSuperseded: superseded.has(generationKey(state.topic, state.source)) }]))
}

function generationKey(topic: string, source: Pick<StreamState['source'], 'agentId' | 'inode' | 'birthtimeNs' | 'generation'>): string {
  return JSON.stringify([topic, source.agentId, String(source.inode), String(source.birthtimeNs), source.generation])
}

function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw new AppError('ABORTED', 'reading the store was stopped')
}
