/** What people see of a partition's export: the shape of `GET /v1/exports`. Pure. */
import type { Watermarks } from '../storage/topic-log.ts'
import type { AppError } from '../../shared/errors.ts'
import type { ExportInfo } from '../../shared/wire.ts'
import { segmentName } from './layout.ts'
import { isParking, type PartitionExport } from './partition-export.ts'
import { inOffsetOrder } from './plan.ts'
import type { Standing } from './standing.ts'

export interface StatusFacts {
  readonly watermarks: Watermarks
  readonly nowMs: number
  /** Newest segments listed. */
  readonly segmentsMax: number
  /** Whose the store is: nothing is exported while it is not known to be ours. */
  readonly standing: Standing
}

export function describePartition(partition: PartitionExport, facts: StatusFacts): ExportInfo {
  const exportedOffset = partition.progress.recordedOffset ?? 0
  const waiting = partition.sealed().filter((segment) => segment.nextOffset > exportedOffset)
  const { state, reason } = describeState(partition, facts.standing)
  return {
    topic: partition.topic,
    partition: partition.partition,
    exportedOffset,
    logEndOffset: facts.watermarks.logEndOffset,
    lagSegments: waiting.length,
    lagBytes: waiting.reduce((sum, segment) => sum + segment.sizeBytes, 0),
    lagMs: ageMs(waiting[0]?.lastAppendMs, facts.nowMs),
    oldestUnexportedMs: ageMs(partition.oldestUnexported(exportedOffset)?.firstAppendMs, facts.nowMs),
    state,
    reason,
    segments: facts.segmentsMax === 0 ? [] : describeSegments(partition).slice(-facts.segmentsMax),
  }
}

/** The wall clock may have stepped back since the append. */
function ageMs(since: number | undefined, nowMs: number): number {
  return since === undefined ? 0 : Math.max(0, Math.round(nowMs - since))
}

function describeState(partition: PartitionExport, standing: Standing): Pick<ExportInfo, 'state' | 'reason'> {
  if (standing.kind === 'refused') return { state: 'parked', reason: describeError(standing.error) }
  if (standing.kind === 'asking') {
    const { error } = standing
    return error === undefined ? { state: 'waiting', reason: 'the export is starting' } : { state: isParking(error) ? 'parked' : 'waiting', reason: describeError(error) }
  }
  const { state } = partition
  switch (state.kind) {
    case 'waiting':
    case 'parked':
      return { state: state.kind, reason: describeError(state.error) }
    case 'gap':
      return { state: 'gap', reason: `offsets ${state.fromOffset} to ${state.toOffset} are neither exported nor on disk` }
    case 'exporting':
      return { state: 'exporting', reason: null }
    case 'idle': {
      const damaged = partition.damaged()[0]?.progress
      return damaged?.kind === 'damaged' ? { state: 'parked', reason: damaged.reason } : { state: 'idle', reason: null }
    }
  }
}

function describeError({ message, hint }: AppError): string {
  return hint === undefined ? message : `${message} (${hint})`
}

function describeSegments(partition: PartitionExport): ExportInfo['segments'] {
  const exported = partition.exported()
  const listed = inOffsetOrder(exported).map(({ key, progress }) => {
    const log = progress.kind === 'encoded' || progress.kind === 'recorded' ? progress.files.find((file) => file.kind === 'log') : undefined
    const isVoid = progress.kind === 'skipped' && progress.isVoid
    const state = progress.kind === 'recorded' && progress.isChecked ? 'checked' : isVoid ? 'void' : progress.kind
    return { baseOffset: key.baseOffset, nextOffset: key.nextOffset, state, sizeBytes: log?.lengthBytes ?? 0, sha256: log?.sha256 ?? null, name: isVoid ? null : segmentName(key) }
  })
  const pending = partition
    .sealed()
    .filter((segment) => !exported.has(segment.baseOffset) && segment.nextOffset > (partition.progress.recordedOffset ?? 0))
    .map(({ baseOffset, nextOffset, sizeBytes }) => ({ baseOffset, nextOffset, state: 'pending', sizeBytes, sha256: null, name: null }))
  return [...listed, ...pending]
}
