/**
 * `tailrace-collector restore`: makes a data folder that agrees with its export store again, after the folder was lost or
 * set back to an older copy. Looks at both sides, says what it would do, takes the store over, writes the new parts
 * beside the old ones and switches (storage/restored-folder.ts says how that bears crashes); then appends again what only
 * the old log held. What it replaces is set aside, never deleted. What becomes of what is decided in
 * export/restore-plan.ts. After a crash it is run again, whatever it had come to.
 */
import { AppError } from '../shared/errors.ts'
import type { System } from '../shared/system.ts'
import type { Zstd } from '../shared/zstd.ts'
import type { CollectorConfig, ExportConfig } from './config.ts'
import { encodeFrame, snapshotRecords } from './export/journal-format.ts'
import { openRemoteStore } from './export/open-store.ts'
import { Owner, type FoundOwner } from './export/owner.ts'
import type { RemoteStore } from './export/remote-store.ts'
import { planRestore, type PartitionRestore, type RestorePlan } from './export/restore-plan.ts'
import { listSegments } from './export/store-catalog.ts'
import { checkIsQuiet, quarantineUnfinished } from './export/take-over.ts'
import type { WebHdfsTransport } from './export/webhdfs-client.ts'
import { noteSetBack } from './http/set-back.ts'
import { appendAgain } from './restore-append.ts'
import { readFolder, readStore, type FolderSide, type StoreSide } from './restore-sides.ts'
import { takeDataFolder } from './storage/data-folder.ts'
import { dataPaths } from './storage/filenames.ts'
import { endRestore, prepareRestore, readRestoreMarker, switchRestored, type RestoreMarker } from './storage/restored-folder.ts'

export interface RestoreOptions {
  readonly transport: WebHdfsTransport
  readonly zstd: Zstd
  readonly print: (line: string) => void
  /** Tells, and changes nothing on the store. */
  readonly isDryRun: boolean
  /** The collector that owned the store is known to be dead. */
  readonly takesOver: boolean
}

/** Rejects with LOCKED while a collector runs on the folder, CONFLICT where the store may be another living one's. */
export async function runRestore(system: System, config: CollectorConfig, options: RestoreOptions): Promise<void> {
  const { export: wanted } = config
  if (wanted === undefined) throw new AppError('INVALID_CONFIG', 'no export is configured, so there is nothing to restore from', { hint: 'give the settings that the collector runs with: --hdfs http://namenode:9870/folder, or --export-to file:///folder' })
  const lock = await takeDataFolder(system.fs, dataPaths(config.dataDirectory))
  try {
    await restoreLocked(system, { ...options, config, wanted })
  } finally {
    await lock.release()
  }
}

type Restoring = RestoreOptions & { readonly config: CollectorConfig; readonly wanted: ExportConfig }

async function restoreLocked(system: System, restoring: Restoring): Promise<void> {
  const { config, print, isDryRun } = restoring
  const begun = await readRestoreMarker(system.fs, config.dataDirectory)
  if (begun !== undefined) {
    print(`a restore of ${config.dataDirectory} did not come to its end${isDryRun ? '; it would go on' : ': going on'}`)
    if (!isDryRun) await finish(system, restoring, begun)
    return
  }
  const store = openRemoteStore(restoring.wanted.url, restoring.wanted.store, { system, ...restoring.transport })
  try {
    const marker = await restoreFrom(system, restoring, store)
    if (marker !== undefined) await finish(system, restoring, marker)
  } finally {
    await store.close()
  }
}

/** undefined: there is nothing to do, or nothing was to be done. */
async function restoreFrom(system: System, restoring: Restoring, store: RemoteStore): Promise<RestoreMarker | undefined> {
  const { config, print, isDryRun, takesOver, zstd } = restoring
  print(`restore ${config.dataDirectory} from ${store.description}`)
  const there = await readStore(system, store)
  const here = await readFolder(system, { config, zstd, store, there, isDryRun })
  describeSides(here, there, print)
  const plan = planRestore(here.view, there.view, { partitionsDefault: config.topicDefaults.partitions })
  if (here.agrees && plan.partitions.length === 0) {
    print('the folder and the store agree: there is nothing to restore')
    return undefined
  }
  describePlan(plan, print)
  if (isDryRun) {
    print('dry run: nothing was restored')
    return undefined
  }
  if (!takesOver && !here.isOwner(there.found)) await checkIsQuiet({ store, random: system.random }, there.found)
  const identity = await takeOver(system, { store, plan, here, found: there.found })
  const listed = await listSegments({ store, signal: new AbortController().signal })
  if (listed.flatMap(({ keys }) => keys).length !== there.segments) throw new AppError('CONFLICT', 'the store changed while it was read: another collector still wrote to it', { hint: 'it can not do so any more; run restore again' })
  for (const { topic, partition } of plan.partitions) {
    for (const path of await quarantineUnfinished({ store, random: system.random }, { topic, partition })) print(`${topic}-${partition}: an upload that never came to its end was moved to ${path}`)
  }
  plan.journal.boot = identity.boot
  plan.journal.nonce = identity.nonce
  const folder = { clusterId: plan.clusterId, logEpoch: plan.logEpoch, topics: plan.topics, partitions: plan.partitions, snapshot: plan.snapshot, journal: journalFrames(plan) }
  return prepareRestore(system.fs, config.dataDirectory, folder, rescuesOf(plan))
}

/** From here on whoever else writes to the store is stopped at the next file. */
async function takeOver(system: System, { store, plan, here, found }: { store: RemoteStore; plan: RestorePlan; here: FolderSide; found: FoundOwner }): Promise<{ boot: number; nonce: string }> {
  const boot = Math.max(here.boot, found.names[0]?.boot ?? 0) + 1
  const nonce = system.random.bytes(16).toString('hex')
  const next = new Map(Object.entries(found.owner?.next ?? {}))
  for (const { topic, partition, begin } of plan.partitions) next.set(`${topic}-${partition}`, begin)
  const owner = new Owner(store, system.log, { identity: { clusterId: plan.clusterId, logEpoch: plan.logEpoch, boot, nonce }, next })
  for (const directory of ['', '_tmp', '_owner']) await store.makeDirectories(directory)
  await owner.take()
  return { boot, nonce }
}

function* journalFrames(plan: RestorePlan): Generator<Buffer> {
  for (const record of snapshotRecords(plan.journal)) yield encodeFrame(record)
}

function rescuesOf({ partitions }: RestorePlan): RestoreMarker['rescues'] {
  return partitions.flatMap(({ topic, partition, local, hasOwnRecords }) => (local === undefined || !hasOwnRecords ? [] : [{ topic, partition, known: [...local.common] }]))
}

async function finish(system: System, { config, zstd, print }: Restoring, marker: RestoreMarker): Promise<void> {
  await switchRestored(system.fs, config.dataDirectory, marker)
  const appended = await appendAgain(system, { config, zstd, marker })
  for (const { topic, partition, batches, refused } of appended) {
    print(`${topic}-${partition}: ${batches} batches that only the old log held were appended again${refused === 0 ? '' : `, ${refused} were not: their streams are further, or do not reach them`}`)
  }
  // Streams that only the lost folder knew, nobody here can speak for.
  await noteSetBack(system, config.dataDirectory, system.clock.nowMs())
  await endRestore(system.fs, config.dataDirectory)
  print(`restored. What was replaced is in ${config.dataDirectory} and the topics and export folders in it, under names that end in .aside${marker.number}; remove it when you miss nothing`)
  print('start the collector; agents send what neither this folder nor the store has')
}

function describeSides(here: FolderSide, there: StoreSide, print: (line: string) => void): void {
  print(`the store holds ${there.segments} segments of cluster ${there.view.clusterId}, written under log epoch ${there.view.logEpoch}`)
  if (here.clusterId === undefined) print('the data folder is empty')
  else print(`the data folder holds ${here.view.partitions.size} partitions of cluster ${here.clusterId}, log epoch ${here.view.logEpoch}`)
}

function describePlan(plan: RestorePlan, print: (line: string) => void): void {
  for (const each of plan.partitions) print(describePartition(each))
  const settings = plan.topics.filter(({ overrides }) => Object.keys(overrides).length === 0).map(({ topic }) => topic)
  if (settings.length > 0) print(`with default settings, since the store knows none: ${settings.join(', ')}`)
  print(`${plan.snapshot.streams.length} streams, ${plan.streamsFromStore} with their position from the store; log epoch ${plan.logEpoch}`)
}

function describePartition({ topic, partition, local, exportedEnd, begin, hasOwnRecords }: PartitionRestore): string {
  const here = local === undefined ? 'not here' : `here up to offset ${local.endOffset}`
  const own = hasOwnRecords ? ', then what only the log here holds is appended again' : ''
  return `${topic}-${partition}: ${here}, exported up to ${exportedEnd}; goes on at offset ${begin}${own}`
}
