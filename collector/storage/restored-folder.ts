/**
 * How a restore changes a data folder, so that a crash at any point leaves the old folder or one that the next run
 * finishes. Everything new is first written beside its place as `<name>.restored`. Then `restore.json` is synced: from
 * here on no collector starts, and the switch may be done again and again: what stands in the place is renamed to
 * `<name>.aside<n>` (nothing is ever deleted), the new one gets its name. When `restore.json` is gone the restore is done.
 *
 * Names change only inside their own folder, because a rename between two folders is two changes to a disk. What is to
 * be restored is decided elsewhere. The caller holds the folder's lock.
 */
import * as v from 'valibot'
import { AppError } from '../../shared/errors.ts'
import { parentOf } from '../../shared/files.ts'
import type { FileSystem } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import { scanBatches } from './batch-scan.ts'
import { writeFolderFacts } from './data-folder.ts'
import { readWholeFile, removeIfThere, replaceFile, writeSynced } from './disk.ts'
import {
  COLLECTOR_FILE_NAME, dataPaths, parseSegmentName, parseSetAsideName, partitionDirectoryName, RESTORE_FILE_NAME, RESTORED_SUFFIX, segmentFiles,
  setAsideName, topicFileName,
} from './filenames.ts'
import { RecoveryPointFile } from './recovery-point.ts'
import { createSegment } from './segment.ts'
import { writeSnapshot, type Snapshot } from './stream-snapshot.ts'
import { encodeTopicFile, type TopicFile } from './topic-files.ts'

const MARKER_BYTES_MAX = 64 * 1024 * 1024
const SCAN_STEP_BYTES = 1024 * 1024
const FIRST_SNAPSHOT = 1
const STREAMS = 'streams'
const JOURNAL = 'export/journal'
/** In which names are switched; '' is the data folder itself. */
const FOLDERS = ['', '/topics', '/export'] as const

export interface RestoredFolder {
  readonly clusterId: string
  readonly logEpoch: number
  /** Settings of topics that have a new partition. */
  readonly topics: readonly TopicFile[]
  /** Partitions whose log begins anew, empty, at this offset. */
  readonly partitions: readonly { readonly topic: string; readonly partition: number; readonly begin: Offset }[]
  /** Of all topics, also of those that stay as they are. */
  readonly snapshot: Snapshot
  /** The export journal, whole. */
  readonly journal: Iterable<Uint8Array>
}

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const offset = v.pipe(count, v.transform(toOffset))
const markerSchema = v.object({
  version: v.literal(1),
  /** In the names of what is set aside. */
  number: v.pipe(count, v.minValue(1)),
  /** Relative to the data folder, in the order of the switch. */
  names: v.array(v.string()),
  /** Partitions that are set aside with records in them that are nowhere else: all but these ranges. */
  rescues: v.array(v.object({ topic: v.string(), partition: count, known: v.array(v.object({ fromOffset: offset, toOffset: offset })) })),
})
export type RestoreMarker = v.InferOutput<typeof markerSchema>
export type Rescue = RestoreMarker['rescues'][number]

/** undefined when no restore is under way. */
export async function readRestoreMarker(fs: FileSystem, dataDir: string): Promise<RestoreMarker | undefined> {
  const { restoreFile } = dataPaths(dataDir)
  const bytes = await readWholeFile(fs, restoreFile, MARKER_BYTES_MAX)
  if (bytes === undefined) return undefined
  let json: unknown
  try {
    json = JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    throw new AppError('CORRUPT_DATA', `${restoreFile} is not JSON`, { cause: error })
  }
  const result = v.safeParse(markerSchema, json)
  if (!result.success) throw new AppError('CORRUPT_DATA', `${restoreFile}: ${result.issues[0].message}`)
  return result.output
}

/** On return the restore is decided: it goes on after a crash. */
export async function prepareRestore(fs: FileSystem, dataDir: string, folder: RestoredFolder, rescues: readonly Rescue[]): Promise<RestoreMarker> {
  await fs.makeDirectory(`${dataDir}/export`)
  await clearRestored(fs, dataDir)
  const names = await writeRestored(fs, dataDir, folder)
  const marker: RestoreMarker = { version: 1, number: await freeNumber(fs, dataDir), names, rescues: [...rescues] }
  await replaceFile(fs, { directory: dataDir, name: RESTORE_FILE_NAME, pieces: [Buffer.from(`${JSON.stringify(marker)}\n`)] })
  return marker
}

async function writeRestored(fs: FileSystem, dataDir: string, folder: RestoredFolder): Promise<string[]> {
  const names: string[] = []
  const pathOf = (name: string): string => {
    names.push(name)
    return `${dataDir}/${name}${RESTORED_SUFFIX}`
  }
  for (const { topic, partition, begin } of folder.partitions) await writeEmptyPartition(fs, pathOf(`topics/${partitionDirectoryName(topic, partition)}`), begin)
  for (const file of folder.topics) await writeSynced(fs, pathOf(`topics/${topicFileName(file.topic)}`), [encodeTopicFile(file)])
  const streams = pathOf(STREAMS)
  await fs.makeDirectory(streams)
  await writeSnapshot(fs, streams, { number: FIRST_SNAPSHOT, ...folder.snapshot })
  await writeSynced(fs, pathOf(JOURNAL), [...folder.journal])
  await writeFolderFacts(fs, pathOf(COLLECTOR_FILE_NAME), folder)
  for (const each of FOLDERS) await fs.syncDirectory(`${dataDir}${each}`)
  return names
}

/** As a log is whose segments retention has dropped: nothing is missing below `begin`. */
async function writeEmptyPartition(fs: FileSystem, directory: string, begin: Offset): Promise<void> {
  await fs.makeDirectory(directory)
  const { handle } = await createSegment(fs, directory, begin)
  await handle.retire()
  const point = await RecoveryPointFile.open(fs, directory)
  try {
    await point.write({ segmentBase: begin, position: 0, nextOffset: begin, logStartOffset: begin, firstAppendMs: undefined, lastAppendMs: undefined })
  } finally {
    await point.close()
  }
  await fs.syncDirectory(directory)
}

/** What a restore left that did not come as far as its marker. */
async function clearRestored(fs: FileSystem, dataDir: string): Promise<void> {
  for (const folder of FOLDERS.map((each) => `${dataDir}${each}`)) {
    for (const { name, kind } of await fs.list(folder)) {
      if (!name.endsWith(RESTORED_SUFFIX)) continue
      const path = `${folder}/${name}`
      if (kind === 'directory') {
        for (const entry of await fs.list(path)) await fs.remove(`${path}/${entry.name}`)
        await fs.removeDirectory(path)
      } else await fs.remove(path)
    }
    await fs.syncDirectory(folder)
  }
}

async function freeNumber(fs: FileSystem, dataDir: string): Promise<number> {
  let number = 0
  for (const folder of FOLDERS.map((each) => `${dataDir}${each}`)) {
    for (const { name } of await fs.list(folder)) number = Math.max(number, parseSetAsideName(name)?.number ?? 0)
  }
  return number + 1
}

/** Durable on return. Done again after a crash it does what is left. */
export async function switchRestored(fs: FileSystem, dataDir: string, marker: RestoreMarker): Promise<void> {
  for (const name of marker.names) {
    const path = `${dataDir}/${name}`
    // The new one has its name already.
    if ((await fs.stat(`${path}${RESTORED_SUFFIX}`)) === undefined) continue
    if ((await fs.stat(path)) !== undefined) {
      await fs.rename(path, setAsideName(path, marker.number))
      // Else a power cut could keep the second rename and not the first: the old one would have no name left.
      await fs.syncDirectory(parentOf(path))
    }
    await fs.rename(`${path}${RESTORED_SUFFIX}`, path)
  }
  for (const each of FOLDERS) await fs.syncDirectory(`${dataDir}${each}`)
}

/** The folder is whole: a collector may start. Durable on return. */
export async function endRestore(fs: FileSystem, dataDir: string): Promise<void> {
  await removeIfThere(fs, dataPaths(dataDir).restoreFile)
  await fs.syncDirectory(dataDir)
}

/** Batches of a partition that was set aside, in order, but for those in the known ranges; what does not verify is left out. */
export async function* rescuedBatches(fs: FileSystem, dataDir: string, place: { marker: RestoreMarker; rescue: Rescue }): AsyncGenerator<Buffer> {
  const { marker, rescue } = place
  const directory = setAsideName(`${dataDir}/topics/${partitionDirectoryName(rescue.topic, rescue.partition)}`, marker.number)
  const bases: Offset[] = []
  for (const { name } of await fs.list(directory)) {
    const segment = parseSegmentName(name)
    if (segment?.suffix === '.log') bases.push(segment.baseOffset)
  }
  const isKnown = (at: Offset): boolean => rescue.known.some(({ fromOffset, toOffset: end }) => at >= fromOffset && at < end)
  for (const base of bases.sort((a, b) => a - b)) {
    const handle = await fs.open(`${directory}/${segmentFiles(base).log}`, 'read')
    try {
      const { size } = await handle.stat()
      const scan = scanBatches(handle, { from: 0, to: size, expectedOffset: base, shouldVerify: (header) => !isKnown(header.baseOffset), stepBytes: SCAN_STEP_BYTES })
      for await (const found of scan) if (found.kind === 'batch' && found.batch !== undefined) yield found.batch
    } finally {
      await handle.close()
    }
  }
}
