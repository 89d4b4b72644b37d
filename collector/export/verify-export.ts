/**
 * Is what the journal calls exported still there, and whole? Shallow: names and lengths, one call of metadata a file.
 * Deep: every byte is read back and hashed. Reads only; segments come one after another, in the order of their offsets.
 */
import { AppError } from '../../shared/errors.ts'
import type { Offset } from '../../shared/types.ts'
import type { EncodedFile, ExportedSegment } from './journal-format.ts'
import { segmentName, segmentPath, type SegmentFileKind, type SegmentKey } from './layout.ts'
import { inOffsetOrder } from './plan.ts'
import { matchesByReading, type ContentMatch, type RemoteStore } from './remote-store.ts'

export interface SegmentVerification {
  readonly topic: string
  readonly partition: number
  readonly baseOffset: Offset
  readonly nextOffset: Offset
  readonly name: string
  readonly result: 'ok' | 'missing' | 'length' | 'checksum'
  /** The first file that is not as it was exported; null when all are. */
  readonly file: SegmentFileKind | null
}

export async function* verifySegments(
  store: RemoteStore,
  partitions: Iterable<ReadonlyMap<Offset, ExportedSegment>>,
  options: { deep: boolean; signal?: AbortSignal },
): AsyncGenerator<SegmentVerification> {
  for (const segments of partitions) {
    for (const { key, progress } of inOffsetOrder(segments)) {
      if (progress.kind !== 'recorded') continue
      if (options.signal?.aborted === true) throw new AppError('ABORTED', 'verification was stopped')
      yield verifySegment(store, { key, files: progress.files }, options)
    }
  }
}

async function verifySegment(store: RemoteStore, exported: { key: SegmentKey; files: readonly EncodedFile[] }, options: { deep: boolean }): Promise<SegmentVerification> {
  const { key } = exported
  const { topic, partition, baseOffset, nextOffset } = key
  const facts = { topic, partition, baseOffset, nextOffset, name: segmentName(key) }
  for (const file of exported.files) {
    const match = await compare(store, segmentPath(key, file.kind), { file, deep: options.deep })
    if (match !== 'same') return { ...facts, result: match, file: file.kind }
  }
  return { ...facts, result: 'ok', file: null }
}

async function compare(store: RemoteStore, path: string, options: { file: EncodedFile; deep: boolean }): Promise<ContentMatch> {
  // The store's own checksum would prove the transfer, not that the bytes can still be read.
  if (options.deep) return matchesByReading(store, path, options.file)
  const stat = await store.stat(path)
  if (stat === undefined) return 'missing'
  return stat.kind === 'file' && stat.lengthBytes === options.file.lengthBytes ? 'same' : 'length'
}

/** The first file of the segment that is not there in full length, or undefined. */
export async function findLost(store: RemoteStore, key: SegmentKey, files: readonly EncodedFile[]): Promise<SegmentFileKind | undefined> {
  return (await verifySegment(store, { key, files }, { deep: false })).file ?? undefined
}
