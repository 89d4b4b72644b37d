/**
 * What recovery may do to a disk, looked at from outside.
 *
 * - I14: nothing below the recovery point is cut or removed.
 * - I15: two recoveries leave the same bytes.
 */
import type { CollectorConfig } from '../../collector/config.ts'
import { RecoveryPointFile } from '../../collector/storage/recovery-point.ts'
import { openTopicStore } from '../../collector/storage/topic-store.ts'
import { wireLimits } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { SimFileSystem } from '../sim-fs.ts'
import { simulate } from '../sim-system.ts'
import type { Trace } from './trace.ts'

/** Log bytes that are known to be synced, by path. */
export type Standing = ReadonlyMap<string, Buffer>

const pattern = /^(\/data\/topics\/[^/]+)\/([0-9]{20})\.log$/

export async function standingOf(disk: SimFileSystem): Promise<Standing> {
  const standing = new Map<string, Buffer>()
  const points = new Map<string, Awaited<ReturnType<typeof readPoint>>>()
  for (const [path, bytes] of disk.files()) {
    const [, directory, base] = pattern.exec(path) ?? []
    if (directory === undefined || base === undefined) continue
    if (!points.has(directory)) points.set(directory, await readPoint(disk, directory))
    const point = points.get(directory)
    if (point === undefined || Number(base) > point.segmentBase || Number(base) < point.logStartOffset) continue
    standing.set(path, Number(base) === point.segmentBase ? bytes.subarray(0, point.position) : bytes)
  }
  return standing
}

async function readPoint(disk: SimFileSystem, directory: string): Promise<RecoveryPointFile['current']> {
  if (disk.getFile(`${directory}/recovery-point`) === undefined) return undefined
  const copy = disk.clone()
  const file = await RecoveryPointFile.open(copy, directory)
  return file.current
}

export async function checkSettled({ disk, trace, before }: { disk: SimFileSystem; trace: Trace; before: Standing }): Promise<void> {
  await Promise.resolve()
  for (const [path, bytes] of before) {
    const now = disk.getFile(path)
    if (now === undefined) trace.violation('I14', `${path} lies below the recovery point and is gone`)
    else if (!now.subarray(0, bytes.length).equals(bytes)) trace.violation('I14', `${path} lies below the recovery point and was changed`)
  }
}

/** On copies of the disk, so that the run itself goes on as if nobody had looked. */
export async function recoverTwice(parts: { disk: SimFileSystem; zstd: Zstd; trace: Trace; config: CollectorConfig }): Promise<void> {
  const once = await recoverCopy(parts.disk, parts)
  const twice = await recoverCopy(once, parts)
  const first = digest(once)
  const second = digest(twice)
  for (const path of new Set([...first.keys(), ...second.keys()])) {
    const [a, b] = [first.get(path), second.get(path)]
    if (a === undefined || b === undefined || !a.equals(b)) parts.trace.violation('I15', `${path} is not the same after a second recovery`)
  }
}

async function recoverCopy(disk: SimFileSystem, { zstd, config }: { zstd: Zstd; config: CollectorConfig }): Promise<SimFileSystem> {
  const copy = disk.clone()
  const { system } = simulate({ fs: copy })
  await openTopicStore(system, {
    dataDir: config.dataDirectory, zstd, defaults: config.topicDefaults, batchContentBytesMax: wireLimits.batchContentBytesMax, acceptDuplicates: false,
  })
  copy.kill()
  return copy
}

function digest(disk: SimFileSystem): Map<string, Buffer> {
  return new Map([...disk.files()].filter(([path]) => path.startsWith('/data/') && !/\/(recovery-point|lock)$/.test(path)))
}
