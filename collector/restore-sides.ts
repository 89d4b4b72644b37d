/**
 * The two sides of a restore, read: what the export store holds, by its manifests and its owner file, and what is left of
 * the data folder. Opening the folder recovers its log as a start does; nothing else is changed.
 */
import { AppError, toAppError } from '../shared/errors.ts'
import type { System } from '../shared/system.ts'
import { toOffset, type Offset } from '../shared/types.ts'
import { wireLimits } from '../shared/wire.ts'
import type { Zstd } from '../shared/zstd.ts'
import type { CollectorConfig } from './config.ts'
import { findCommon } from './export/common-history.ts'
import { partitionName, type ExportedSegment } from './export/journal-format.ts'
import { openJournal, type Journal } from './export/journal.ts'
import { judgeOwner, readOwner, type FoundOwner } from './export/owner.ts'
import type { RemoteStore } from './export/remote-store.ts'
import type { LocalPartition, LocalView, StoreView } from './export/restore-plan.ts'
import { findRollback } from './export/standing.ts'
import { readCatalog, type StoreCatalog } from './export/store-catalog.ts'
import { readFolderFacts } from './storage/data-folder.ts'
import { dataPaths, parsePartitionDirectoryName } from './storage/filenames.ts'
import type { FoldedPartition } from './storage/stream-snapshot.ts'
import { loadTopicFiles } from './storage/topic-files.ts'
import type { TopicLog } from './storage/topic-log.ts'
import { openTopicStore } from './storage/topic-store.ts'

export interface StoreSide {
  readonly view: StoreView
  readonly found: FoundOwner
  readonly segments: number
}

/** CORRUPT_DATA where a manifest can't be read: positions without it would be behind, and its lines be stored twice. */
export async function readStore(system: System, store: RemoteStore): Promise<StoreSide> {
  const found = await readOwner(store)
  const catalog = await readWholeCatalog(system, store)
  const clusterIds = new Set([...catalog.clusterIds, ...(found.owner === undefined ? [] : [found.owner.clusterId])])
  const [clusterId] = clusterIds
  if (clusterId === undefined) throw new AppError('NOT_FOUND', 'nothing was ever exported there', { hint: 'start the collector: it needs no restore' })
  if (clusterIds.size > 1) throw new AppError('CONFLICT', `segments of ${clusterIds.size} clusters stand there: ${[...clusterIds].join(', ')}`, { hint: 'each collector needs an export folder of its own' })
  const claimed = new Map<string, FoldedPartition>()
  for (const [name, next] of Object.entries(found.owner?.next ?? {})) {
    const at = parsePartitionDirectoryName(name)
    if (at !== undefined) claimed.set(name, { ...at, nextOffset: toOffset(next) })
  }
  let segments = 0
  let logEpoch = found.owner?.logEpoch ?? 0
  for (const partition of catalog.partitions.values()) {
    segments += partition.size
    for (const { key } of partition.values()) logEpoch = Math.max(logEpoch, key.epoch)
  }
  return { found, segments, view: { clusterId, logEpoch, claimed, partitions: catalog.partitions, streams: catalog.streams } }
}

async function readWholeCatalog(system: System, store: RemoteStore): Promise<StoreCatalog> {
  const onUnreadable = (path: string, reason: string): never => {
    throw new AppError('UNAVAILABLE', `the manifest ${path} can not be read: ${reason}`, {
      hint: 'bring it back from a backup of the store. Without it lines that are exported would be stored again',
    })
  }
  try {
    return await readCatalog({ store, log: system.log, signal: new AbortController().signal, onUnreadable })
  } catch (error) {
    if (toAppError(error).code !== 'NOT_FOUND') throw error
    return { topics: new Map(), partitions: new Map(), streams: new Map(), clusterIds: new Set() }
  }
}

export interface FolderSide {
  /** undefined: nothing is there. */
  readonly clusterId: string | undefined
  readonly view: LocalView
  /** Of the journal. */
  readonly boot: number
  /** The store would take it as it is. */
  readonly agrees: boolean
  /** Whether the store was last written by this very folder. */
  readonly isOwner: (found: FoundOwner) => boolean
}

const nothing: LocalView = { logEpoch: 0, partitions: new Map(), topics: [], streams: [], exported: new Map() }

export interface FolderInput {
  readonly config: CollectorConfig
  readonly zstd: Zstd
  readonly store: RemoteStore
  readonly there: StoreSide
  readonly isDryRun: boolean
}

/** CONFLICT where it holds records of another cluster. */
export async function readFolder(system: System, input: FolderInput): Promise<FolderSide> {
  const { config, there } = input
  const paths = dataPaths(config.dataDirectory)
  const facts = await readFolderFacts(system.fs, paths)
  const isEmpty = facts === undefined && (await system.fs.list(paths.topics)).length === 0
  if (isEmpty) return { clusterId: undefined, view: nothing, boot: 0, agrees: false, isOwner: () => false }
  const { log, haveLostPositions } = await openFolder(system, input)
  try {
    const hasRecords = log.streams.size > 0 || log.topics().some(({ partitions }) => partitions.some(({ logEndOffset }) => logEndOffset > 0))
    if (log.clusterId === there.view.clusterId) {
      const ours = await readOurs(system, input, log)
      return { ...ours, agrees: ours.agrees && !haveLostPositions }
    }
    if (!hasRecords) return { clusterId: undefined, view: nothing, boot: 0, agrees: false, isOwner: () => false }
    throw new AppError('CONFLICT', `the data folder holds records of cluster ${log.clusterId}, the store those of ${there.view.clusterId}`, {
      hint: 'give the restored collector a folder of its own (--data), or this one an export folder of its own',
    })
  } finally {
    await log.close()
  }
}

/** Positions that are lost here the manifests know; without them a collector does not start. */
async function openFolder(system: System, { config, zstd, there, isDryRun }: FolderInput): Promise<{ log: TopicLog; haveLostPositions: boolean }> {
  const open = (acceptDuplicates: boolean): Promise<TopicLog> =>
    openTopicStore(system, {
      dataDir: config.dataDirectory, zstd, defaults: config.topicDefaults, batchContentBytesMax: wireLimits.batchContentBytesMax,
      acceptDuplicates, restoring: { clusterId: there.view.clusterId, isReading: true },
    })
  try {
    return { log: await open(false), haveLostPositions: false }
  } catch (error) {
    if (isDryRun || toAppError(error).code !== 'RESTORE_REQUIRED') throw error
    return { log: await open(true), haveLostPositions: true }
  }
}

async function readOurs(system: System, { config, store, there }: FolderInput, log: TopicLog): Promise<FolderSide> {
  const journal = await openJournal(system, `${config.dataDirectory}/export`)
  try {
    const partitions = new Map<string, LocalPartition>()
    for (const { name, partitions: all } of log.topics()) {
      for (const { partition, logStartOffset, logEndOffset } of all) {
        const at = { topic: name, partition }
        const sides = { segments: log.segments(name, partition), journaled: journal.segments(name, partition), exported: there.view.partitions.get(partitionName(at)) ?? new Map() }
        partitions.set(partitionName(at), { ...at, startOffset: logStartOffset, endOffset: logEndOffset, common: await findCommon({ fs: system.fs, store }, sides) })
      }
    }
    const { files } = await loadTopicFiles(system.fs, dataPaths(config.dataDirectory).topics)
    const view = { logEpoch: log.logEpoch, partitions, topics: files, streams: [...log.streams.list()], exported: exportedOf(journal) }
    const { boot, nonce } = journal
    const isOwner = ({ owner }: FoundOwner): boolean => owner?.boot === boot && owner.nonce === nonce
    return { clusterId: log.clusterId, view, boot, agrees: doAgree(journal, log, there), isOwner }
  } finally {
    await journal.close()
  }
}

/** What the exporter asks at each start. */
function doAgree(journal: Journal, log: TopicLog, { found, segments }: StoreSide): boolean {
  if (found.owner === undefined && segments > 0 && journal.boot === 0) return false
  const ends = new Map(log.topics().flatMap(({ name, partitions }) => partitions.map(({ partition, logEndOffset }) => [partitionName({ topic: name, partition }), logEndOffset])))
  const refusal = judgeOwner(found.owner, { clusterId: log.clusterId, boot: journal.boot, nonce: journal.nonce, logEnd: (partition) => ends.get(partition) })
  return refusal === undefined && findRollback(journal, log) === undefined
}

function exportedOf(journal: Journal): Map<string, ReadonlyMap<Offset, ExportedSegment>> {
  const exported = new Map<string, ReadonlyMap<Offset, ExportedSegment>>()
  for (const segments of journal.partitions()) {
    const key = segments.values().next().value?.key
    if (key !== undefined) exported.set(partitionName(key), new Map(segments))
  }
  return exported
}
