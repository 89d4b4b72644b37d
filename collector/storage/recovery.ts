/**
 * Opens one partition, after a clean stop or any other. Steps:
 * 1. make the folder and the recovery point file, if they are not there;
 * 2. look at the segments (recovery-layout.ts);
 * 3. fold the log behind the newest snapshot that it reaches back to, and judge the tail (recovery-scan.ts);
 * 4. repair the tail (recovery-repair.ts);
 * 5. sync a recovery point that covers all of it.
 * Only then are positions answered. Running it twice gives the same bytes.
 */
import { AppError } from '../../shared/errors.ts'
import type { System } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { PartitionStart } from './partition-log.ts'
import { hole, readLayout, type Damage, type PartitionLayout } from './recovery-layout.ts'
import { RecoveryPointFile, type RecoveryPoint } from './recovery-point.ts'
import { repairTail } from './recovery-repair.ts'
import { scanPartition, type FoldBase, type ScanInput, type ScanVerdict } from './recovery-scan.ts'
import { createSegment, nextOffsetOf } from './segment.ts'
import type { StreamState } from './topic-log.ts'

export interface RecoveryInput {
  readonly system: Pick<System, 'fs' | 'log'>
  readonly zstd: Zstd
  readonly contentBytesMax: number
  readonly topic: string
  readonly partition: number
  readonly directory: string
  /** Where a partition that is new begins. */
  readonly startOffset: Offset
  /** What each valid snapshot knows of this partition, newest first. */
  readonly bases: readonly FoldBase[]
  /** Go on without positions that are lost: what agents still have is stored a second time. */
  readonly acceptDuplicates: boolean
}

export interface RecoveredPartition {
  readonly start: PartitionStart
  readonly streams: readonly StreamState[]
  readonly damages: readonly Damage[]
  /** Not as the newest snapshot says: agents have to ask again. */
  readonly havePositionsGoneBack: boolean
  readonly foldedBatches: number
}

export async function recoverPartition(input: RecoveryInput): Promise<RecoveredPartition> {
  const { system, directory } = input
  await system.fs.makeDirectory(directory)
  const pointFile = await RecoveryPointFile.open(system.fs, directory)
  try {
    const layout = await readLayout({ system, directory, recoveryPoint: pointFile.current })
    if (layout.tail === undefined) return await beginPartition(input, pointFile)
    // A killed process may have left names that only the page cache knows: a segment counts as sealed, and may be exported,
    // because the next one is there, so that one must not vanish again in a power cut.
    await system.fs.syncDirectory(directory)
    return await recoverLog(input, pointFile, layout)
  } catch (error) {
    await pointFile.close()
    throw error
  }
}

/** A new partition, or one whose segments are all gone: offsets that were given once are not given again. */
async function beginPartition(input: RecoveryInput, pointFile: RecoveryPointFile): Promise<RecoveredPartition> {
  const { system, directory } = input
  const point = pointFile.current
  const [newest] = input.bases
  const begin = toOffset(Math.max(input.startOffset, point?.nextOffset ?? 0, newest?.nextOffset ?? 0))
  const lostFrom = point?.logStartOffset ?? input.startOffset
  const damages = begin > lostFrom ? [{ ...hole(lostFrom, begin), reason: 'all segments are missing' }] : []
  await writePoint(pointFile, {
    segmentBase: begin, position: 0, nextOffset: begin, logStartOffset: begin, firstAppendMs: undefined, lastAppendMs: undefined,
  })
  const active = await createSegment(system.fs, directory, begin)
  await system.fs.syncDirectory(directory)
  return {
    start: { sealed: [], active, recoveryPoint: pointFile, logStartOffset: begin, nextOffset: begin, isDamaged: damages.length > 0 },
    streams: newest?.streams ?? [],
    damages,
    havePositionsGoneBack: false,
    foldedBatches: 0,
  }
}

async function recoverLog(input: RecoveryInput, pointFile: RecoveryPointFile, layout: PartitionLayout): Promise<RecoveredPartition> {
  const point = pointFile.current
  const { verdict, hasGoneBack, tail } = await foldFromBase({ ...input, recoveryPoint: point }, layout)
  const repaired = await repairTail({ system: input.system, directory: input.directory, tail, recoveryPoint: point, verdict })
  const sealed = repaired.sealed === undefined ? layout.sealed : [...layout.sealed, repaired.sealed]
  // Offsets below the recovery point, and those that a snapshot counts, were given once, whatever became of them.
  const given = Math.max(point?.nextOffset ?? 0, input.bases[0]?.nextOffset ?? 0)
  const nextOffset = toOffset(Math.max(verdict.endOffset, nextOffsetOf(repaired.active), given))
  const damages = [...verdict.damages]
  if (nextOffset > Math.max(verdict.endOffset, point?.nextOffset ?? 0)) damages.push(hole(verdict.endOffset, nextOffset))
  const logStartOffset = (sealed[0] ?? repaired.active).baseOffset
  const { active } = repaired
  await writePoint(pointFile, {
    segmentBase: active.baseOffset, position: active.sizeBytes, nextOffset, logStartOffset,
    firstAppendMs: active.firstAppendMs, lastAppendMs: active.lastAppendMs,
  })
  for (const broken of verdict.breaks) {
    input.system.log.error('stream has a hole', { directory: input.directory, streamId: broken.streamId.toString('hex'), expected: broken.expected, found: broken.found })
  }
  return {
    start: { sealed, active, recoveryPoint: pointFile, logStartOffset, nextOffset, isDamaged: damages.length > 0 },
    streams: [...verdict.streams.values()],
    damages,
    havePositionsGoneBack: hasGoneBack,
    foldedBatches: verdict.foldedBatches,
  }
}

interface FoldOutcome {
  readonly verdict: ScanVerdict
  readonly hasGoneBack: boolean
  readonly tail: NonNullable<PartitionLayout['tail']>
}

/**
 * Folds behind the newest snapshot that fits the log: the log reaches back to where the snapshot ends, and is not
 * shorter than it. Where the log lost its end, an older snapshot gives the positions that the surviving bytes have, so
 * that agents can send the rest again.
 */
async function foldFromBase(input: RecoveryInput & ScanInput, layout: PartitionLayout): Promise<FoldOutcome> {
  const { tail } = layout
  if (tail === undefined) throw new AppError('INTERNAL', 'a log without a segment has nothing to fold')
  const logStart = (layout.sealed[0] ?? tail).baseOffset
  const candidates: FoldBase[] = [...input.bases, { nextOffset: toOffset(0), streams: [] }].filter((base) => base.nextOffset >= logStart)
  let newest: ScanVerdict | undefined
  for (const [index, base] of candidates.entries()) {
    const verdict = await scanPartition(input, layout, base)
    newest ??= verdict
    if (verdict.endOffset >= base.nextOffset) return { verdict, hasGoneBack: index > 0 && input.bases.length > 0, tail }
  }
  if (newest !== undefined) return { verdict: newest, hasGoneBack: false, tail }
  if (!input.acceptDuplicates) throw positionsLost(input, logStart)
  const base = { nextOffset: logStart, streams: input.bases[0]?.streams ?? [] }
  return { verdict: await scanPartition(input, layout, base), hasGoneBack: true, tail }
}

function positionsLost(input: RecoveryInput, logStart: Offset): AppError {
  return new AppError('RESTORE_REQUIRED', `${input.topic}-${input.partition} starts at offset ${logStart}, and no valid snapshot holds the positions below it`, {
    hint: 'with an export: tailrace-collector restore takes the positions from there. Else bring a snapshot in <data>/streams back from a backup, or start with --accept-duplicates: agents then send again what they still have',
  })
}

/** Unchanged bytes are left alone, so that recovery run twice gives the same file. */
async function writePoint(file: RecoveryPointFile, point: RecoveryPoint): Promise<void> {
  if (JSON.stringify(file.current) !== JSON.stringify(point)) await file.write(point)
}
