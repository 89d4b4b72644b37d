/**
 * First part of a partition's recovery: what lies in its folder. Leftovers that hold no data are removed, sealed
 * segments are taken by their meta file or described anew from their log, and holes between segments are named. Batches
 * above the recovery point are not judged here.
 */
import type { FileHandle, System } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import { scanBatches } from './batch-scan.ts'
import { readWholeFile, removeIfThere, syncData } from './disk.ts'
import { parseSegmentName, segmentFiles, UNFINISHED_SUFFIX } from './filenames.ts'
import type { RecoveryPoint } from './recovery-point.ts'
import { SegmentIndex } from './segment-index.ts'
import { decodeSegmentMeta, META_BYTES, type SegmentMeta } from './segment-meta.ts'
import { sealedSegment, writeSegmentFiles, type SealedSegment } from './segment.ts'

export interface Damage {
  readonly fromOffset: Offset
  readonly toOffset: Offset
  readonly reason: string
}

/** The last segment's file: the one that was being written. */
export interface TailFile {
  readonly baseOffset: Offset
  readonly sizeBytes: number
  readonly mtimeMs: number
}

export interface PartitionLayout {
  readonly sealed: readonly SealedSegment[]
  /** Undefined when there is no segment at all. */
  readonly tail: TailFile | undefined
  readonly damages: readonly Damage[]
}

export interface LayoutInput {
  readonly system: Pick<System, 'fs' | 'log'>
  readonly directory: string
  readonly recoveryPoint: RecoveryPoint | undefined
}

export async function readLayout(input: LayoutInput): Promise<PartitionLayout> {
  const files = await findLogs(input)
  const tail = files.at(-1)
  const damages: Damage[] = []
  const sealed: SealedSegment[] = []
  for (const [index, file] of files.entries()) {
    const next = files[index + 1]
    if (next === undefined) break
    const segment = await loadSealed(input, file, { nextBase: next.baseOffset, damages })
    if (segment.nextOffset < next.baseOffset) {
      damages.push({ fromOffset: segment.nextOffset, toOffset: next.baseOffset, reason: 'no segment holds these offsets' })
    }
    sealed.push(segment)
  }
  const logStart = input.recoveryPoint?.logStartOffset
  const first = files[0]
  if (logStart !== undefined && first !== undefined && first.baseOffset > logStart) {
    damages.push({ fromOffset: logStart, toOffset: first.baseOffset, reason: 'the oldest segments are missing' })
  }
  return { sealed, tail, damages }
}

/** Logs in order of offset, without what a crash left half done. */
async function findLogs({ system, directory, recoveryPoint }: LayoutInput): Promise<TailFile[]> {
  const { fs } = system
  const names = (await fs.list(directory)).map((entry) => entry.name)
  let logs: TailFile[] = []
  for (const name of names) {
    const parsed = parseSegmentName(name)
    if (parsed?.suffix !== '.log') continue
    const stat = await fs.stat(`${directory}/${name}`)
    if (stat !== undefined) logs.push({ baseOffset: parsed.baseOffset, sizeBytes: stat.size, mtimeMs: stat.mtimeMs })
  }
  logs.sort((a, b) => a.baseOffset - b.baseOffset)
  const keep = new Set(keptLogs(logs, recoveryPoint).map((log) => log.baseOffset))
  const removed = names.filter((name) => {
    const parsed = parseSegmentName(name)
    return name.endsWith(UNFINISHED_SUFFIX) || (parsed !== undefined && !keep.has(parsed.baseOffset))
  })
  for (const name of removed) await removeIfThere(fs, `${directory}/${name}`)
  if (removed.length > 0) {
    await fs.syncDirectory(directory)
    system.log.info('leftovers of a crash removed', { directory, names: removed })
  }
  logs = logs.filter((log) => keep.has(log.baseOffset))
  return logs
}

/**
 * Not kept: segments below the log start, whose removal a crash interrupted; and empty files that are not the place
 * where the log goes on, which a roll on a full disk leaves behind.
 */
function keptLogs(logs: readonly TailFile[], point: RecoveryPoint | undefined): TailFile[] {
  const started = logs.filter((_log, index) => {
    const next = logs[index + 1]
    return next === undefined || next.baseOffset > (point?.logStartOffset ?? 0)
  })
  const withData = started.filter((log) => log.sizeBytes > 0)
  const last = started.at(-1)
  if (last === undefined || last.sizeBytes > 0) return withData
  const before = withData.at(-1)
  // An empty last file is the new active segment exactly if all before it was sealed: then the recovery point ends there.
  const isNewActive = before === undefined || point === undefined || point.segmentBase === last.baseOffset || isSealedAt(before, point)
  return isNewActive ? [...withData, last] : withData
}

function isSealedAt(segment: TailFile, point: RecoveryPoint): boolean {
  return point.segmentBase === segment.baseOffset && point.position >= segment.sizeBytes
}

async function loadSealed(
  input: LayoutInput,
  file: TailFile,
  context: { nextBase: Offset; damages: Damage[] },
): Promise<SealedSegment> {
  const { system, directory, recoveryPoint: point } = input
  const bytes = await readWholeFile(system.fs, `${directory}/${segmentFiles(file.baseOffset).meta}`, META_BYTES * 2)
  const meta = bytes === undefined ? undefined : decodeSegmentMeta(bytes)
  const doesFit = meta?.sizeBytes === file.sizeBytes && meta.nextOffset <= context.nextBase
  if (doesFit && (await hasIndexes(input, file.baseOffset, meta))) return sealedSegment(file.baseOffset, meta)
  const handle = await system.fs.open(`${directory}/${segmentFiles(file.baseOffset).log}`, 'readWrite')
  try {
    let { sizeBytes } = file
    if (point?.segmentBase === file.baseOffset && point.nextOffset === context.nextBase && sizeBytes > point.position) {
      // A recovery was interrupted: what stood above the recovery point is in the next segment, synced, and twice here.
      await handle.truncate(point.position)
      await syncData(handle, segmentFiles(file.baseOffset).log)
      sizeBytes = point.position
    }
    return await describeLog(input, handle, { ...file, sizeBytes }, context)
  } finally {
    await handle.close()
  }
}

/** Of the names that a roll makes, a power cut may leave any: the meta file alone does not vouch for the others. */
async function hasIndexes({ system, directory }: LayoutInput, baseOffset: Offset, meta: SegmentMeta): Promise<boolean> {
  const names = segmentFiles(baseOffset)
  const index = await system.fs.stat(`${directory}/${names.index}`)
  const timeIndex = await system.fs.stat(`${directory}/${names.timeIndex}`)
  return index?.size === meta.offsetIndex.sizeBytes && timeIndex?.size === meta.timeIndex.sizeBytes
}

/** A sealed segment without a valid meta file, or without its indexes: indexes and meta are made from the log. */
async function describeLog(
  { system, directory, recoveryPoint: point }: LayoutInput,
  handle: FileHandle,
  file: TailFile,
  context: { nextBase: Offset; damages: Damage[] },
): Promise<SealedSegment> {
  const index = new SegmentIndex(file.baseOffset)
  const scan = scanBatches(handle, { from: 0, to: file.sizeBytes, expectedOffset: file.baseOffset, shouldVerify: () => false })
  for await (const found of scan) {
    if (found.kind === 'batch' && found.header.lastOffset < context.nextBase) {
      if (found.header.baseOffset > index.nextOffset) context.damages.push(hole(index.nextOffset, found.header.baseOffset))
      index.add(found.header, found.position)
    }
  }
  const isPoint = point?.segmentBase === file.baseOffset
  const lastAppendMs = (isPoint ? point.lastAppendMs : undefined) ?? file.mtimeMs
  const firstAppendMs = (isPoint ? point.firstAppendMs : undefined) ?? lastAppendMs
  system.log.warn('segment described anew from its log', { directory, baseOffset: file.baseOffset })
  const sealed = await writeSegmentFiles(system.fs, directory, { index, sizeBytes: file.sizeBytes, firstAppendMs, lastAppendMs })
  // Before the recovery point moves on: it is what still knows the times of this segment.
  await system.fs.syncDirectory(directory)
  return sealed
}

export function hole(from: Offset, to: Offset): Damage {
  return { fromOffset: from, toOffset: toOffset(to), reason: 'unreadable bytes' }
}
