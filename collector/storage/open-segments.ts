/**
 * Sealed segments that are open for reading: file handle and both indexes, the least recently used closed first. Shared
 * by all partitions, so that open files and index memory are bounded whatever the number of segments.
 *
 * An index file that does not match its checksum is made again from the log; reading never trusts it.
 */
import { crc32c } from '../../shared/crc32c.ts'
import type { FileHandle, FileSystem, Log } from '../../shared/system.ts'
import { scanBatches } from './batch-scan.ts'
import { readWholeFile, replaceFile } from './disk.ts'
import { segmentFiles } from './filenames.ts'
import { OffsetIndex } from './offset-index.ts'
import { SegmentIndex } from './segment-index.ts'
import type { IndexFacts } from './segment-meta.ts'
import type { SealedSegment } from './segment.ts'
import { TimeIndex } from './time-index.ts'

/** A whole index of a 2 GiB segment of small batches has 4 MiB. */
const INDEX_BYTES_MAX = 8 * 1024 * 1024

export interface OpenSegment {
  readonly handle: FileHandle
  readonly offsets: OffsetIndex
  readonly times: TimeIndex
}

interface Slot {
  readonly opening: Promise<OpenSegment>
  users: number
  isForgotten: boolean
}

export class OpenSegments {
  private readonly system: { readonly fs: FileSystem; readonly log: Log }
  private readonly openMax: number
  /** In order of last use: a Map keeps the order of insertion. */
  private readonly slots = new Map<string, Slot>()

  constructor(system: { fs: FileSystem; log: Log }, openMax: number) {
    this.system = system
    this.openMax = openMax
  }

  /** The segment stays open while `read` runs, also when retention removes it meanwhile. */
  async use<T>(directory: string, segment: SealedSegment, read: (open: OpenSegment) => Promise<T>): Promise<T> {
    const key = `${directory}/${segment.baseOffset}`
    const slot = this.slots.get(key) ?? { opening: this.open(directory, segment), users: 0, isForgotten: false }
    this.slots.delete(key)
    this.slots.set(key, slot)
    slot.users += 1
    try {
      return await read(await slot.opening)
    } catch (error) {
      // A segment that could not be opened is tried afresh next time.
      if (slot.users === 1) this.slots.delete(key)
      if (slot.users === 1) slot.isForgotten = true
      throw error
    } finally {
      slot.users -= 1
      if (slot.isForgotten && slot.users === 0) await closeQuietly(slot)
      await this.evict()
    }
  }

  /** The segment's files are being removed. */
  async forget(directory: string, segment: SealedSegment): Promise<void> {
    await this.drop(`${directory}/${segment.baseOffset}`)
  }

  async close(): Promise<void> {
    for (const key of [...this.slots.keys()]) await this.drop(key)
  }

  private async evict(): Promise<void> {
    for (const [key, slot] of this.slots) {
      if (this.slots.size <= this.openMax) return
      if (slot.users === 0) await this.drop(key)
    }
  }

  private async drop(key: string): Promise<void> {
    const slot = this.slots.get(key)
    if (slot === undefined) return
    this.slots.delete(key)
    slot.isForgotten = true
    if (slot.users === 0) await closeQuietly(slot)
  }

  private async open(directory: string, segment: SealedSegment): Promise<OpenSegment> {
    const files = segmentFiles(segment.baseOffset)
    const handle = await this.system.fs.open(`${directory}/${files.log}`, 'read')
    try {
      const offsetBytes = await this.checked(`${directory}/${files.index}`, segment.offsetIndex)
      const timeBytes = await this.checked(`${directory}/${files.timeIndex}`, segment.timeIndex)
      if (offsetBytes === undefined || timeBytes === undefined) return { handle, ...(await this.rebuild(directory, segment, handle)) }
      return { handle, offsets: new OffsetIndex(segment.baseOffset, offsetBytes), times: new TimeIndex(segment.baseOffset, timeBytes) }
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  private async checked(path: string, facts: IndexFacts): Promise<Buffer | undefined> {
    const bytes = await readWholeFile(this.system.fs, path, INDEX_BYTES_MAX)
    return bytes !== undefined && bytes.length === facts.sizeBytes && crc32c(bytes) === facts.crc ? bytes : undefined
  }

  private async rebuild(directory: string, segment: SealedSegment, handle: FileHandle): Promise<{ offsets: OffsetIndex; times: TimeIndex }> {
    const index = await indexFromLog(handle, segment)
    const offsetBytes = index.offsets.toBytes()
    const timeBytes = index.sealedTimes()
    const isSame = crc32c(offsetBytes) === segment.offsetIndex.crc && crc32c(timeBytes) === segment.timeIndex.crc
    this.system.log.warn('segment index rebuilt from the log', { directory, baseOffset: segment.baseOffset, isSame })
    // Where the log itself is damaged the result differs: it serves reads, but the files stay as they are.
    if (isSame) {
      const files = segmentFiles(segment.baseOffset)
      await replaceFile(this.system.fs, { directory, name: files.index, pieces: [offsetBytes] })
      await replaceFile(this.system.fs, { directory, name: files.timeIndex, pieces: [timeBytes] })
    }
    return { offsets: index.offsets, times: new TimeIndex(segment.baseOffset, timeBytes) }
  }
}

async function indexFromLog(handle: FileHandle, segment: SealedSegment): Promise<SegmentIndex> {
  const index = new SegmentIndex(segment.baseOffset)
  const scan = scanBatches(handle, { from: 0, to: segment.sizeBytes, expectedOffset: segment.baseOffset, shouldVerify: () => false })
  for await (const found of scan) if (found.kind === 'batch') index.add(found.header, found.position)
  return index
}

async function closeQuietly(slot: Slot): Promise<void> {
  const open = await slot.opening.catch(() => undefined)
  await open?.handle.close()
}
