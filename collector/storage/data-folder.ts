/**
 * The collector's data folder: taken by a lock for the life of the process, and known by `collector.json` (format
 * version, cluster id, log epoch). A folder with topics but without that file is refused: a new cluster id would make
 * every agent turn away.
 */
import * as v from 'valibot'
import { AppError, errnoOf } from '../../shared/errors.ts'
import { parentOf } from '../../shared/files.ts'
import type { FileLock, FileSystem, System } from '../../shared/system.ts'
import { diskError, readWholeFile, replaceFile, writeSynced } from './disk.ts'
import { COLLECTOR_FILE_NAME, dataPaths, parsePartitionDirectoryName, type DataPaths } from './filenames.ts'

const FORMAT_VERSION = 1
const FILE_BYTES_MAX = 64 * 1024
const CLUSTER_ID_BYTES = 16

const fileSchema = v.object({
  formatVersion: v.pipe(v.number(), v.safeInteger()),
  clusterId: v.pipe(v.string(), v.minLength(1), v.maxLength(200)),
  logEpoch: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
})

export interface DataFolder {
  readonly paths: DataPaths
  readonly clusterId: string
  readonly logEpoch: number
  /** Durable on return; positions may have gone back, so agents must say hello again. */
  raiseLogEpoch(): Promise<number>
  release(): Promise<void>
}

/** A restore opens the folder itself, under the lock that it holds until it is done. */
export interface RestoreAccess {
  /** Of a folder that lost its own. */
  readonly clusterId: string
  /** No snapshot is written: one that was made from what is left would hide that positions are lost. */
  readonly isReading: boolean
}

export async function openDataFolder(system: Pick<System, 'fs' | 'random'>, dataDir: string, restoring?: RestoreAccess): Promise<DataFolder> {
  const paths = dataPaths(dataDir)
  const lock = restoring === undefined ? await takeDataFolder(system.fs, paths) : undefined
  try {
    return await openLocked(system, paths, { lock, restoring })
  } catch (error) {
    await lock?.release()
    throw error
  }
}

/** Makes the folder where it is not there, and its lock ours. */
export async function takeDataFolder(fs: FileSystem, paths: DataPaths): Promise<FileLock> {
  try {
    for (const directory of [paths.root, paths.topics, paths.streams]) await fs.makeDirectory(directory)
    await syncParent(fs, parentOf(paths.root))
    await fs.syncDirectory(paths.root)
  } catch (error) {
    throw diskError(error, `make the data folder ${paths.root}`)
  }
  return fs.lock(paths.lock)
}

/** Durable on return, under a name beside its own: for a restore. */
export async function writeFolderFacts(fs: FileSystem, path: string, { clusterId, logEpoch }: { clusterId: string; logEpoch: number }): Promise<void> {
  await writeSynced(fs, path, [encodeFacts({ formatVersion: FORMAT_VERSION, clusterId, logEpoch })])
}

/** undefined where the folder holds no collector yet. */
export async function readFolderFacts(fs: FileSystem, paths: DataPaths): Promise<{ readonly clusterId: string; readonly logEpoch: number } | undefined> {
  return readFacts({ fs }, paths)
}

async function openLocked(system: Pick<System, 'fs' | 'random'>, paths: DataPaths, held: { lock: FileLock | undefined; restoring: RestoreAccess | undefined }): Promise<DataFolder> {
  const { fs } = system
  if (held.restoring === undefined && (await fs.stat(paths.restoreFile)) !== undefined) {
    throw new AppError('RESTORE_REQUIRED', `a restore of ${paths.root} did not come to its end`, { hint: 'tailrace-collector restore, with the same settings: it goes on where it stopped' })
  }
  let facts = await readFacts(system, paths)
  if (facts === undefined) {
    if (held.restoring === undefined && (await holdsTopics(system, paths))) {
      throw new AppError('CORRUPT_DATA', `${paths.collectorFile} is missing, but there are topics beside it`, {
        hint: 'bring the file back from a backup, or run tailrace-collector restore: the export knows what it held',
      })
    }
    facts = { formatVersion: FORMAT_VERSION, clusterId: held.restoring?.clusterId ?? system.random.bytes(CLUSTER_ID_BYTES).toString('hex'), logEpoch: 1 }
    await writeFacts(system, paths, facts)
  }
  const { clusterId } = facts
  let { logEpoch } = facts
  return {
    paths,
    clusterId,
    get logEpoch() {
      return logEpoch
    },
    raiseLogEpoch: async () => {
      await writeFacts({ fs }, paths, { formatVersion: FORMAT_VERSION, clusterId, logEpoch: logEpoch + 1 })
      logEpoch += 1
      return logEpoch
    },
    release: async () => held.lock?.release(),
  }
}

async function readFacts({ fs }: Pick<System, 'fs'>, paths: DataPaths): Promise<v.InferOutput<typeof fileSchema> | undefined> {
  const bytes = await readWholeFile(fs, paths.collectorFile, FILE_BYTES_MAX)
  if (bytes === undefined) return undefined
  let json: unknown
  try {
    json = JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    throw new AppError('CORRUPT_DATA', `${paths.collectorFile} is not JSON`, { cause: error, hint: 'bring it back from a backup' })
  }
  const result = v.safeParse(fileSchema, json)
  if (!result.success) throw new AppError('CORRUPT_DATA', `${paths.collectorFile}: ${result.issues[0].message}`)
  if (result.output.formatVersion !== FORMAT_VERSION) {
    throw new AppError('UNSUPPORTED_VERSION', `data folder format ${result.output.formatVersion}, this build reads ${FORMAT_VERSION}`)
  }
  return result.output
}

async function writeFacts({ fs }: Pick<System, 'fs'>, paths: DataPaths, facts: v.InferOutput<typeof fileSchema>): Promise<void> {
  await replaceFile(fs, { directory: paths.root, name: COLLECTOR_FILE_NAME, pieces: [encodeFacts(facts)] })
}

function encodeFacts(facts: v.InferOutput<typeof fileSchema>): Buffer {
  return Buffer.from(`${JSON.stringify(facts, undefined, 2)}\n`)
}

async function holdsTopics({ fs }: Pick<System, 'fs'>, paths: DataPaths): Promise<boolean> {
  return (await fs.list(paths.topics)).some(({ name }) => parsePartitionDirectoryName(name) !== undefined)
}

/** The folder may stand in one that we may enter but not read: whoever made it there has seen to its name. */
async function syncParent(fs: FileSystem, parent: string): Promise<void> {
  try {
    await fs.syncDirectory(parent)
  } catch (error) {
    if (errnoOf(error) !== 'EACCES') throw error
  }
}
