/**
 * Third part of a partition's recovery: what the verdict asks for is done to the files.
 *
 * After an unclean stop the page cache may show bytes that the disk never got, and they can't be told from good ones. So
 * whatever survives above the recovery point is copied to a fresh file and synced before any position is answered. The
 * bytes below it stay where they are: a large segment is cut at the recovery point, and the copy becomes the next
 * segment. Bytes that go are kept aside first.
 *
 * Each step leaves a state from which recovery comes to the same end:
 * 1. aside files: written again under the same names.
 * 2. fresh file under its unfinished name: removed and written again.
 * 3. rename: the copy is the segment now, or the one behind it; then the old file still holds the same batches twice,
 *    and is cut where the next one begins.
 * 4. cut, and seal.
 */
import { crc32c } from '../../shared/crc32c.ts'
import { readFully } from '../../shared/files.ts'
import type { FileHandle, FileSystem, System } from '../../shared/system.ts'
import type { Offset } from '../../shared/types.ts'
import { syncData, writeFully } from './disk.ts'
import { asideName, isTornName, segmentFiles, UNFINISHED_SUFFIX, type AsideKind } from './filenames.ts'
import type { TailFile } from './recovery-layout.ts'
import type { ByteRange, PlacedBatch, ScanVerdict } from './recovery-scan.ts'
import type { RecoveryPoint } from './recovery-point.ts'
import { SegmentIndex } from './segment-index.ts'
import { writeSegmentFiles, type ActiveSegment, type SealedSegment } from './segment.ts'
import { SharedHandle } from './shared-handle.ts'

const COPY_BYTES = 1024 * 1024
/** Below this the whole segment is copied: a collector that is killed again and again must not leave tiny segments. */
const COPY_WHOLE_BYTES_MAX = 16 * 1024 * 1024
/** Of one tail; the rest of a longer one is not worth its space. */
const ASIDE_BYTES_MAX = 64 * 1024 * 1024
const TORN_FILES_MAX = 16

export interface RepairInput {
  readonly system: Pick<System, 'fs' | 'log'>
  readonly directory: string
  readonly tail: TailFile
  readonly recoveryPoint: RecoveryPoint | undefined
  readonly verdict: ScanVerdict
}

export interface RepairedTail {
  /** The old segment, when the copy became a segment of its own. */
  readonly sealed: SealedSegment | undefined
  readonly active: ActiveSegment
}

export async function repairTail(input: RepairInput): Promise<RepairedTail> {
  const { tail, verdict, directory, system } = input
  const path = `${directory}/${segmentFiles(tail.baseOffset).log}`
  const { trusted } = verdict
  if (tail.sizeBytes === verdict.trustedBytes) return { sealed: undefined, active: await openActive(input, trusted) }
  await setAside(input)
  if (verdict.kept.length === 0) {
    await cut(system.fs, path, verdict.trustedBytes)
    return { sealed: undefined, active: await openActive(input, trusted) }
  }
  if (verdict.trustedBytes <= COPY_WHOLE_BYTES_MAX || input.recoveryPoint === undefined) {
    await copyFresh(input, { target: tail.baseOffset, prefixBytes: verdict.trustedBytes })
    return { sealed: undefined, active: await openActive(input, indexKept(verdict.kept, trusted, verdict.trustedBytes)) }
  }
  const target = input.recoveryPoint.nextOffset
  await copyFresh(input, { target, prefixBytes: 0 })
  await cut(system.fs, path, verdict.trustedBytes)
  return { sealed: await sealTrusted(input), active: await openActive(input, indexKept(verdict.kept, new SegmentIndex(target), 0)) }
}

/** Kept batches stand back to back in the copy. */
function indexKept(kept: readonly PlacedBatch[], index: SegmentIndex, start: number): SegmentIndex {
  let at = start
  for (const { header } of kept) {
    index.add(header, at)
    at += header.sizeBytes
  }
  return index
}

/** The last segment for appending, with the index that the scan has made. */
async function openActive(input: RepairInput, index: SegmentIndex): Promise<ActiveSegment> {
  const { system, directory, recoveryPoint: point, tail } = input
  const { baseOffset } = index.offsets
  const handle = await system.fs.open(`${directory}/${segmentFiles(baseOffset).log}`, 'readWrite')
  // Rot at the end of the synced part is not cut off: appends go on behind it.
  const { size: sizeBytes } = await handle.stat()
  const isPoint = point?.segmentBase === baseOffset
  const lastAppendMs = sizeBytes === 0 ? undefined : ((isPoint ? point.lastAppendMs : undefined) ?? tail.mtimeMs)
  const firstAppendMs = (isPoint ? point.firstAppendMs : undefined) ?? lastAppendMs
  return { kind: 'active', baseOffset, handle: new SharedHandle(handle), index, sizeBytes, firstAppendMs, lastAppendMs }
}

async function sealTrusted({ system, directory, tail, recoveryPoint: point, verdict }: RepairInput): Promise<SealedSegment> {
  const lastAppendMs = point?.lastAppendMs ?? tail.mtimeMs
  const sealed = await writeSegmentFiles(system.fs, directory, {
    index: verdict.trusted, sizeBytes: verdict.trustedBytes, firstAppendMs: point?.firstAppendMs ?? lastAppendMs, lastAppendMs,
  })
  await system.fs.syncDirectory(directory)
  return sealed
}

/** Copies the prefix as it is and the kept batches behind it; durable under its name on return. */
async function copyFresh(input: RepairInput, options: { target: Offset; prefixBytes: number }): Promise<void> {
  const { system, directory, tail, verdict } = input
  const { fs } = system
  const name = segmentFiles(options.target).log
  const unfinished = `${directory}/${name}${UNFINISHED_SUFFIX}`
  const source = await fs.open(`${directory}/${segmentFiles(tail.baseOffset).log}`, 'read')
  try {
    const target = await fs.open(unfinished, 'truncateWrite')
    try {
      let at = 0
      for (const range of [{ from: 0, to: options.prefixBytes }, ...keptRanges(verdict.kept)]) {
        at = await copyRange(source, target, { ...range, at })
      }
      await syncData(target, unfinished)
    } finally {
      await target.close()
    }
  } finally {
    await source.close()
  }
  await fs.rename(unfinished, `${directory}/${name}`)
  await fs.syncDirectory(directory)
}

/** Neighbours joined, so that they are copied in large steps. */
function keptRanges(kept: readonly PlacedBatch[]): ByteRange[] {
  const ranges: { from: number; to: number }[] = []
  for (const { header, position } of kept) {
    const last = ranges.at(-1)
    if (last?.to === position) last.to = position + header.sizeBytes
    else ranges.push({ from: position, to: position + header.sizeBytes })
  }
  return ranges
}

async function copyRange(source: FileHandle, target: FileHandle, range: ByteRange & { at: number }): Promise<number> {
  let { at } = range
  for await (const piece of pieces(source, range)) {
    await writeFully(target, [piece], at)
    at += piece.length
  }
  return at
}

async function* pieces(source: FileHandle, range: ByteRange): AsyncGenerator<Buffer> {
  for (let from = range.from; from < range.to; ) {
    const buffer = Buffer.allocUnsafe(Math.min(COPY_BYTES, range.to - from))
    const piece = buffer.subarray(0, await readFully(source, buffer, from))
    if (piece.length === 0) return
    yield piece
    from += piece.length
  }
}

async function cut(fs: FileSystem, path: string, sizeBytes: number): Promise<void> {
  const handle = await fs.open(path, 'readWrite')
  try {
    await handle.truncate(sizeBytes)
    await syncData(handle, path)
  } finally {
    await handle.close()
  }
}

/** What goes away is kept in files of its own, for whoever wants to look. Durable on return. */
async function setAside({ system, directory, tail, verdict }: RepairInput): Promise<void> {
  const ranges: { range: ByteRange; kind: AsideKind }[] = verdict.holes.map((range) => ({ range, kind: 'damaged' }))
  if (verdict.torn !== undefined) ranges.push({ range: verdict.torn, kind: 'torn' })
  if (ranges.length === 0) return
  const source = await system.fs.open(`${directory}/${segmentFiles(tail.baseOffset).log}`, 'read')
  try {
    for (const { range, kind } of ranges) {
      const kept = { from: range.from, to: Math.min(range.to, range.from + ASIDE_BYTES_MAX) }
      let crc = 0
      for await (const piece of pieces(source, kept)) crc = crc32c(piece, crc)
      const name = asideName({ baseOffset: tail.baseOffset, position: range.from, crc, kind })
      const target = await system.fs.open(`${directory}/${name}`, 'truncateWrite')
      try {
        await copyRange(source, target, { ...kept, at: 0 })
        await syncData(target, name)
      } finally {
        await target.close()
      }
      system.log.warn('bytes set aside by recovery', { directory, name, bytes: range.to - range.from })
    }
  } finally {
    await source.close()
  }
  await dropOldTorn(system.fs, directory)
  await system.fs.syncDirectory(directory)
}

/** Tails that were never acknowledged: a collector that is killed for ever must not fill its disk with them. */
async function dropOldTorn(fs: FileSystem, directory: string): Promise<void> {
  const names = (await fs.list(directory)).map((entry) => entry.name).filter(isTornName).sort()
  for (const name of names.slice(0, Math.max(0, names.length - TORN_FILES_MAX))) await fs.remove(`${directory}/${name}`)
}
