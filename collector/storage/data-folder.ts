/**
 * The collector's data folder: taken by a lock for the life of the process, and known by `collector.json` (format
 * version, cluster id, log epoch). A folder with topics but without that file is refused: a new cluster id would make
 * every agent turn away.
 */
import * as v from 'valibot'
import { AppError, errnoOf } from '../../shared/errors.ts'
import type { FileLock, FileSystem, System } from '../../shared/system.ts'
import { diskError, readWholeFile, replaceFile } from './disk.ts'
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

export async function openDataFolder(system: Pick<System, 'fs' | 'random'>, dataDir: string): Promise<DataFolder> {
  const { fs } = system
  const paths = dataPaths(dataDir)
  try {
    for (const directory of [paths.root, paths.topics, paths.streams]) await fs.makeDirectory(directory)
    await syncParent(fs, parentOf(paths.root))
    await fs.syncDirectory(paths.root)
  } catch (error) {
    throw diskError(error, `make the data folder ${dataDir}`)
  }
  const lock = await fs.lock(paths.lock)
  try {
    return await openLocked(system, paths, lock)
  } catch (error) {
    await lock.release()
    throw error
  }
}

async function openLocked(system: Pick<System, 'fs' | 'random'>, paths: DataPaths, lock: FileLock): Promise<DataFolder> {
  const { fs } = system
  let facts = await readFacts(system, paths)
  if (facts === undefined) {
    if (await holdsTopics(system, paths)) {
      throw new AppError('CORRUPT_DATA', `${paths.collectorFile} is missing, but there are topics beside it`, {
        hint: 'bring the file back from a backup; the newest _owner file of the export holds its cluster id and log epoch',
      })
    }
    facts = { formatVersion: FORMAT_VERSION, clusterId: system.random.bytes(CLUSTER_ID_BYTES).toString('hex'), logEpoch: 1 }
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
    release: () => lock.release(),
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
  const text = `${JSON.stringify(facts, undefined, 2)}\n`
  await replaceFile(fs, { directory: paths.root, name: COLLECTOR_FILE_NAME, pieces: [Buffer.from(text)] })
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

function parentOf(path: string): string {
  const slash = path.lastIndexOf('/')
  if (slash < 0) return '.'
  return slash === 0 ? '/' : path.slice(0, slash)
}
