/**
 * Second part of a partition's recovery: walks the log from where a snapshot ends, folds what it finds, and judges the
 * bytes above the recovery point. Reads only: the same files give the same verdict, however often.
 *
 * Below the recovery point everything was synced: bytes that don't parse there are rot. Above it they are a torn tail,
 * unless valid batches that go on where their streams stand come behind them: then something synced was damaged, and
 * what stands behind it is kept.
 */
import { AppError } from '../../shared/errors.ts'
import { readSourceHeader, type BatchHeader } from '../../shared/record-batch.ts'
import type { SourceHeader } from '../../shared/source-header.ts'
import type { FileHandle, System } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import type { Zstd } from '../../shared/zstd.ts'
import { scanBatches } from './batch-scan.ts'
import { segmentFiles } from './filenames.ts'
import { hole, type Damage, type PartitionLayout } from './recovery-layout.ts'
import type { RecoveryPoint } from './recovery-point.ts'
import { SegmentIndex } from './segment-index.ts'
import type { SealedSegment } from './segment.ts'
import { continues, foldBatch, type StreamBreak } from './stream-fold.ts'
import type { StreamState } from './topic-log.ts'

const VERIFY_STEP_BYTES = 1024 * 1024

/** What a snapshot knows of a partition. */
export interface FoldBase {
  readonly nextOffset: Offset
  readonly streams: readonly StreamState[]
}

export interface PlacedBatch {
  readonly header: BatchHeader
  readonly position: number
}

export interface ByteRange {
  readonly from: number
  readonly to: number
}

export interface ScanVerdict {
  readonly streams: Map<string, StreamState>
  /** Of the last segment below the recovery point. An index, not a list: there may be a million small batches. */
  readonly trusted: SegmentIndex
  /** Batches above it that stay. */
  readonly kept: readonly PlacedBatch[]
  /** Bytes above it that go, with something kept behind them. */
  readonly holes: readonly ByteRange[]
  /** The last bytes, with nothing kept behind them. */
  readonly torn: ByteRange | undefined
  /** Where the recovery point stands in the last segment, at most its size. */
  readonly trustedBytes: number
  /** One behind the last record that is there. */
  readonly endOffset: Offset
  readonly damages: readonly Damage[]
  readonly breaks: readonly StreamBreak[]
  readonly foldedBatches: number
}

export interface ScanInput {
  readonly system: Pick<System, 'fs' | 'log'>
  readonly zstd: Zstd
  readonly contentBytesMax: number
  readonly topic: string
  readonly partition: number
  readonly directory: string
  readonly recoveryPoint: RecoveryPoint | undefined
}

export async function scanPartition(input: ScanInput, layout: PartitionLayout, base: FoldBase): Promise<ScanVerdict> {
  const scan = new PartitionScan(input, base)
  for (const segment of layout.sealed) {
    if (segment.nextOffset > base.nextOffset) await scan.sealed(segment)
  }
  return scan.tail(layout)
}

class PartitionScan {
  private readonly input: ScanInput
  private readonly base: FoldBase
  private readonly streams: Map<string, StreamState>
  private readonly damages: Damage[] = []
  private readonly breaks: StreamBreak[] = []
  private foldedBatches = 0

  constructor(input: ScanInput, base: FoldBase) {
    this.input = input
    this.base = base
    this.streams = new Map(base.streams.map((state) => [state.source.streamId.toString('hex'), state]))
  }

  async sealed(segment: SealedSegment): Promise<void> {
    const handle = await this.open(segment.baseOffset)
    try {
      const { baseOffset, nextOffset, sizeBytes } = segment
      await this.walkTrusted(handle, { from: 0, to: sizeBytes, baseOffset, nextOffset, appendMs: segment.lastAppendMs })
    } finally {
      await handle.close()
    }
  }

  async tail({ sealed, tail, damages }: PartitionLayout): Promise<ScanVerdict> {
    const facts = { streams: this.streams, damages: this.damages, breaks: this.breaks }
    if (tail === undefined) {
      return { ...facts, trusted: new SegmentIndex(toOffset(0)), kept: [], holes: [], torn: undefined, trustedBytes: 0, endOffset: toOffset(0), foldedBatches: 0 }
    }
    this.damages.push(...damages)
    const { recoveryPoint: point } = this.input
    const { baseOffset, sizeBytes } = tail
    const isPoint = point?.segmentBase === baseOffset
    // A recovery point behind this segment: all of it was synced, and what came after it is missing.
    const isPast = point !== undefined && point.segmentBase > baseOffset
    const trustedBytes = isPast ? sizeBytes : isPoint ? Math.min(point.position, sizeBytes) : 0
    const syncedEnd = isPast || isPoint ? point.nextOffset : toOffset(Math.max(baseOffset, sealed.at(-1)?.nextOffset ?? 0))
    const appendMs = (isPoint ? point.lastAppendMs : undefined) ?? tail.mtimeMs
    const handle = await this.open(baseOffset)
    try {
      const range = { from: 0, to: trustedBytes, baseOffset, nextOffset: syncedEnd, appendMs }
      const trusted = new SegmentIndex(baseOffset)
      await this.walkTrusted(handle, range, trusted)
      const rest = await this.walkUntrusted(handle, { from: trustedBytes, to: sizeBytes, expectedOffset: syncedEnd, appendMs })
      const last = rest.kept.at(-1)
      const endOffset = last === undefined ? trusted.nextOffset : toOffset(last.header.lastOffset + 1)
      return { ...facts, ...rest, trusted, trustedBytes, endOffset, foldedBatches: this.foldedBatches }
    } finally {
      await handle.close()
    }
  }

  /** Everything here was synced once: whatever is readable counts, and gaps are damage. */
  private async walkTrusted(
    handle: FileHandle,
    range: { from: number; to: number; baseOffset: Offset; nextOffset: Offset; appendMs: number },
    index?: SegmentIndex,
  ): Promise<void> {
    let expected = range.baseOffset
    const scan = scanBatches(handle, {
      from: range.from, to: range.to, expectedOffset: range.baseOffset,
      shouldVerify: (header) => header.lastOffset >= this.base.nextOffset,
    })
    for await (const found of scan) {
      if (found.kind === 'bad') continue
      const { header, position, batch } = found
      if (header.baseOffset > expected) this.damages.push(hole(expected, header.baseOffset))
      expected = toOffset(header.lastOffset + 1)
      index?.add(header, position)
      if (batch !== undefined) this.foldTrusted(header, this.sourceOf(batch), range.appendMs)
    }
    if (expected < range.nextOffset) this.damages.push(hole(expected, range.nextOffset))
  }

  private foldTrusted(header: BatchHeader, source: SourceHeader | undefined, appendMs: number): void {
    this.foldedBatches += 1
    if (source === undefined) return
    const previous = this.streams.get(source.streamId.toString('hex'))
    if (!continues(previous, source)) {
      this.breaks.push({ streamId: source.streamId, expected: previous?.position, found: source.start })
      // Never back: what the position says was synced once.
      if (previous !== undefined && source.end <= previous.position) return
    }
    this.fold(header, source, appendMs)
  }

  private async walkUntrusted(
    handle: FileHandle,
    range: { from: number; to: number; expectedOffset: Offset; appendMs: number },
  ): Promise<Pick<ScanVerdict, 'kept' | 'holes' | 'torn'>> {
    const kept: PlacedBatch[] = []
    const holes: ByteRange[] = []
    let dropped: ByteRange | undefined
    const scan = scanBatches(handle, { ...range, shouldVerify: () => true, stepBytes: VERIFY_STEP_BYTES })
    for await (const found of scan) {
      if (found.kind === 'bad' || found.batch === undefined || !this.takeUntrusted(found.header, found.batch, range.appendMs)) {
        dropped = { from: dropped?.from ?? found.position, to: found.end }
        continue
      }
      if (dropped !== undefined) {
        holes.push(dropped)
        const from = toOffset((kept.at(-1)?.header.lastOffset ?? range.expectedOffset - 1) + 1)
        if (found.header.baseOffset > from) this.damages.push(hole(from, found.header.baseOffset))
      }
      dropped = undefined
      kept.push({ header: found.header, position: found.position })
    }
    return { kept, holes, torn: dropped }
  }

  /** Whether a valid batch above the recovery point may stay: it goes on where its stream stands. */
  private takeUntrusted(header: BatchHeader, batch: Buffer, appendMs: number): boolean {
    if (header.lastOffset < this.base.nextOffset) return true // a snapshot holds it, so it was synced
    const source = this.sourceOf(batch)
    this.foldedBatches += 1
    if (source === undefined) return true
    const previous = this.streams.get(source.streamId.toString('hex'))
    if (!continues(previous, source)) return false
    if (previous !== undefined && !previous.tailHash.equals(source.tailHashStart)) return false
    this.fold(header, source, appendMs)
    return true
  }

  private fold(header: BatchHeader, source: SourceHeader, appendMs: number): void {
    const { topic, partition } = this.input
    const key = source.streamId.toString('hex')
    this.streams.set(key, foldBatch(this.streams.get(key), { topic, partition, header, source, appendMs }))
  }

  private sourceOf(batch: Buffer): SourceHeader | undefined {
    try {
      return readSourceHeader(batch, this.input.zstd, this.input.contentBytesMax)
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      // Its CRC is right, so it was stored like this. It can be served, but it tells no position.
      this.input.system.log.error('stored batch has no readable source header', { directory: this.input.directory, reason: error.message })
      return undefined
    }
  }

  private open(baseOffset: Offset): Promise<FileHandle> {
    return this.input.system.fs.open(`${this.input.directory}/${segmentFiles(baseOffset).log}`, 'read')
  }
}
