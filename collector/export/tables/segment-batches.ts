/**
 * The batches of an exported segment: from the local disk while it is there, else from the store, whose copy is the same
 * byte for byte. So tables never hold retention up: what they lag behind they read back.
 */
import { AppError, errnoOf } from '../../../shared/errors.ts'
import { hasValidCrc, readBatchHeader } from '../../../shared/record-batch.ts'
import type { FileSystem, Log } from '../../../shared/system.ts'
import type { SegmentInfo, TopicLog } from '../../storage/topic-log.ts'
import { splitBatches } from '../batch-stream.ts'
import type { ExportedSegment } from '../journal-format.ts'
import { segmentPath } from '../layout.ts'
import { readRange } from '../local-file.ts'
import { MANIFEST_BYTES_MAX, parseManifest } from '../manifest.ts'
import { readSmall, type RemoteStore } from '../remote-store.ts'

export interface SegmentReaderContext {
  readonly fs: FileSystem
  readonly log: Log
  readonly store: RemoteStore
  readonly topicLog: Pick<TopicLog, 'segments'>
  readonly signal: AbortSignal
}

/** Batches handed on together. */
const GROUP_BYTES = 1024 * 1024

function localTwin(context: SegmentReaderContext, { key }: ExportedSegment): SegmentInfo | undefined {
  return context.topicLog.segments(key.topic, key.partition).find((each) => each.isSealed && each.baseOffset === key.baseOffset && each.nextOffset === key.nextOffset)
}

/** Wall clock of the last append into the segment; null where it is empty. */
export async function lastAppendMs(context: SegmentReaderContext, segment: ExportedSegment): Promise<number | null> {
  const local = localTwin(context, segment)?.lastAppendMs
  if (local !== undefined) return local
  const bytes = await readSmall(context.store, segmentPath(segment.key, 'manifest.json'), MANIFEST_BYTES_MAX)
  return parseManifest(bytes, segment.key).lastAppendMs
}

/** Whole batches back to back, about 1 MiB at a time, each piece with a memory of its own. CORRUPT_DATA when no copy is whole. */
export async function* readSegmentBatches(context: SegmentReaderContext, segment: ExportedSegment): AsyncGenerator<Uint8Array> {
  const progress = { next: segment.key.baseOffset as number }
  const local = localTwin(context, segment)
  if (local !== undefined) {
    try {
      yield* grouped(readRange(context.fs, local.files.log, { offset: 0, length: local.sizeBytes }), progress)
      if (progress.next === segment.key.nextOffset) return
    } catch (error) {
      if (!(error instanceof AppError) && errnoOf(error) === undefined) throw error
      // Retention may drop the file under us, and a disk may rot: the store has the same bytes.
      context.log.warn('a local segment can not be read for the tables, the store is read', { path: local.files.log, error })
    }
  }
  const path = segmentPath(segment.key, 'log')
  const length = segment.progress.kind === 'recorded' ? (segment.progress.files.find(({ kind }) => kind === 'log')?.lengthBytes ?? 0) : 0
  if (length > 0) yield* grouped(context.store.read(path, { offset: 0, length, signal: context.signal }), progress)
  if (progress.next !== segment.key.nextOffset) throw new AppError('CORRUPT_DATA', `${path} ends at offset ${progress.next}, not ${segment.key.nextOffset}`)
}

/** Checks each batch; leaves out those below `progress.next`, which another copy has given already. */
async function* grouped(pieces: AsyncIterable<Uint8Array>, progress: { next: number }): AsyncGenerator<Uint8Array> {
  let group: Buffer[] = []
  let bytes = 0
  let { next } = progress
  for await (const batch of splitBatches(pieces, { isKept: true })) {
    const header = readBatchHeader(batch)
    if (!hasValidCrc(batch)) throw new AppError('CORRUPT_DATA', `CRC-32C of the batch at offset ${header.baseOffset} does not match`)
    if (header.baseOffset < next) continue
    if (header.baseOffset !== next) throw new AppError('CORRUPT_DATA', `offset ${header.baseOffset} stands where ${next} should`)
    next = header.lastOffset + 1
    group.push(batch)
    bytes += batch.length
    if (bytes < GROUP_BYTES) continue
    // Only what was given out counts: a group that a read error cuts off is read again from the other copy.
    progress.next = next
    yield joined(group, bytes)
    group = []
    bytes = 0
  }
  progress.next = next
  if (bytes > 0) yield joined(group, bytes)
}

function joined(group: readonly Buffer[], bytes: number): Uint8Array {
  const all = new Uint8Array(bytes)
  let at = 0
  for (const batch of group) {
    all.set(batch, at)
    at += batch.length
  }
  return all
}
