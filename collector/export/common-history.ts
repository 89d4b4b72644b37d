/**
 * Which offsets hold the same records here and on the store. A log that was set back to an older copy is the beginning
 * of what was exported since; one that took lines after that holds others at the same offsets. Told by the journal where
 * it is the same, else by the bytes: whole segments by their SHA-256, the one that was active by comparing with the
 * store. Reads only.
 */
import { createHash } from 'node:crypto'
import type { FileSystem } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import type { SegmentInfo } from '../storage/topic-log.ts'
import type { ExportedSegment } from './journal-format.ts'
import { segmentPath } from './layout.ts'
import { readRange } from './local-file.ts'
import type { RemoteStore } from './remote-store.ts'
import { logHash, type OffsetSpan } from './restore-plan.ts'

export interface HistorySides {
  /** On this disk, oldest first. */
  readonly segments: readonly SegmentInfo[]
  /** By the journal of this disk. */
  readonly journaled: ReadonlyMap<Offset, ExportedSegment>
  readonly exported: ReadonlyMap<Offset, ExportedSegment>
}

export async function findCommon(context: { fs: FileSystem; store: Pick<RemoteStore, 'read'> }, sides: HistorySides): Promise<OffsetSpan[]> {
  const common: OffsetSpan[] = []
  for (const exported of sides.exported.values()) {
    const { baseOffset, nextOffset } = exported.key
    const known = sides.journaled.get(baseOffset)
    if (known !== undefined && logHash(known) !== undefined && logHash(known) === logHash(exported)) {
      common.push({ fromOffset: baseOffset, toOffset: nextOffset })
      continue
    }
    const local = sides.segments.find((segment) => segment.baseOffset === baseOffset && segment.sizeBytes > 0)
    if (local !== undefined && (await beginAlike(context, local, exported))) common.push({ fromOffset: baseOffset, toOffset: toOffset(Math.min(nextOffset, local.nextOffset)) })
  }
  return common
}

/** Whether one of the two is a beginning of the other, byte for byte. */
async function beginAlike({ fs, store }: { fs: FileSystem; store: Pick<RemoteStore, 'read'> }, local: SegmentInfo, exported: ExportedSegment): Promise<boolean> {
  const length = exported.progress.kind === 'recorded' ? exported.progress.files.find(({ kind }) => kind === 'log')?.lengthBytes : undefined
  if (length === undefined) return false
  const shared = { offset: 0, length: Math.min(local.sizeBytes, length) }
  const here = await sha256Of(readRange(fs, local.files.log, shared))
  const there = length <= local.sizeBytes ? logHash(exported) : await sha256Of(store.read(segmentPath(exported.key, 'log'), shared))
  return here === there
}

async function sha256Of(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of pieces) hash.update(piece)
  return hash.digest('hex')
}
