/**
 * One segment of a partition: a stretch of offsets in one `.log` file. The active segment takes appends from its
 * partition's writer alone; a sealed one never changes. Reading is allowed at any time, below the size that is given.
 */
import { crc32c } from '../../shared/crc32c.ts'
import type { BatchHeader } from '../../shared/record-batch.ts'
import type { FileSystem } from '../../shared/system.ts'
import type { Offset } from '../../shared/types.ts'
import { syncData, writeSynced } from './disk.ts'
import { segmentFiles } from './filenames.ts'
import { SegmentIndex } from './segment-index.ts'
import { SharedHandle } from './shared-handle.ts'
import { encodeSegmentMeta, type IndexFacts, type SegmentMeta } from './segment-meta.ts'

export interface SealedSegment {
  readonly kind: 'sealed'
  readonly baseOffset: Offset
  readonly nextOffset: Offset
  readonly sizeBytes: number
  readonly firstAppendMs: number
  readonly lastAppendMs: number
  readonly maxTimestampMs: number | undefined
  /** Sizes and checksums that the index files must have. */
  readonly offsetIndex: IndexFacts
  readonly timeIndex: IndexFacts
}

/** `sizeBytes`, index and times describe what is synced: bytes behind it belong to a group in flight. */
export interface ActiveSegment {
  readonly kind: 'active'
  readonly baseOffset: Offset
  /** The writer writes and syncs `handle.file`; readers go through `handle.use`. */
  readonly handle: SharedHandle
  readonly index: SegmentIndex
  sizeBytes: number
  firstAppendMs: number | undefined
  lastAppendMs: number | undefined
}

export type Segment = SealedSegment | ActiveSegment

/** An empty active segment. Its name is durable once the caller has synced the directory. */
export async function createSegment(fs: FileSystem, directory: string, baseOffset: Offset): Promise<ActiveSegment> {
  // A roll that met a full disk may have left an empty file of this name.
  const handle = await fs.open(`${directory}/${segmentFiles(baseOffset).log}`, 'truncateWrite')
  try {
    await syncData(handle, segmentFiles(baseOffset).log)
  } catch (error) {
    await handle.close()
    throw error
  }
  return {
    kind: 'active', baseOffset, handle: new SharedHandle(handle), index: new SegmentIndex(baseOffset),
    sizeBytes: 0, firstAppendMs: undefined, lastAppendMs: undefined,
  }
}

/** Takes note of a batch that is synced at `position`. */
export function noteAppended(segment: ActiveSegment, header: BatchHeader, place: { position: number; nowMs: number }): void {
  segment.index.add(header, place.position)
  segment.sizeBytes = place.position + header.sizeBytes
  segment.firstAppendMs ??= place.nowMs
  segment.lastAppendMs = place.nowMs
}

export function nextOffsetOf(segment: Segment): Offset {
  return segment.kind === 'sealed' ? segment.nextOffset : segment.index.nextOffset
}

export function maxTimestampOf(segment: Segment): number | undefined {
  return segment.kind === 'sealed' ? segment.maxTimestampMs : segment.index.maxTimestampMs
}

export interface SealInput {
  readonly index: SegmentIndex
  readonly sizeBytes: number
  readonly firstAppendMs: number
  readonly lastAppendMs: number
}

/**
 * Writes and syncs the index files and the meta file, the meta last: it vouches for the others. Names are durable once
 * the caller has synced the directory. A crash between leaves files that the next opening writes again.
 */
export async function writeSegmentFiles(fs: FileSystem, directory: string, input: SealInput): Promise<SealedSegment> {
  const { index } = input
  const files = segmentFiles(index.offsets.baseOffset)
  const offsetBytes = index.offsets.toBytes()
  const timeBytes = index.sealedTimes()
  const meta: SegmentMeta = {
    nextOffset: index.nextOffset,
    sizeBytes: input.sizeBytes,
    firstAppendMs: input.firstAppendMs,
    lastAppendMs: input.lastAppendMs,
    maxTimestampMs: index.maxTimestampMs ?? -1,
    offsetIndex: factsOf(offsetBytes),
    timeIndex: factsOf(timeBytes),
  }
  await writeSynced(fs, `${directory}/${files.index}`, [offsetBytes])
  await writeSynced(fs, `${directory}/${files.timeIndex}`, [timeBytes])
  await writeSynced(fs, `${directory}/${files.meta}`, [encodeSegmentMeta(meta)])
  return sealedSegment(index.offsets.baseOffset, meta)
}

export function sealedSegment(baseOffset: Offset, meta: SegmentMeta): SealedSegment {
  return {
    kind: 'sealed',
    baseOffset,
    nextOffset: meta.nextOffset,
    sizeBytes: meta.sizeBytes,
    firstAppendMs: meta.firstAppendMs,
    lastAppendMs: meta.lastAppendMs,
    maxTimestampMs: meta.nextOffset === baseOffset ? undefined : meta.maxTimestampMs,
    offsetIndex: meta.offsetIndex,
    timeIndex: meta.timeIndex,
  }
}

function factsOf(bytes: Buffer): IndexFacts {
  return { sizeBytes: bytes.length, crc: crc32c(bytes) }
}
