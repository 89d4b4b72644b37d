/**
 * Walks the batches of a segment file, also through damage: what does not parse is reported as one bad range that ends
 * where the next batch with a valid CRC begins. Reads only; knows nothing of streams, indexes or recovery points.
 *
 * A walk may verify a batch (read it whole and check its CRC) or hop from header to header, as its caller decides.
 */
import { AppError } from '../../shared/errors.ts'
import { readFully } from '../../shared/files.ts'
import { BATCH_HEADER_BYTES, hasValidCrc, readBatchHeader, type BatchHeader } from '../../shared/record-batch.ts'
import type { ReadableFile } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'

/** No batch is larger: a length field that says more is damage, and no memory is taken for it. */
const STORED_BATCH_BYTES_MAX = 16 * 1024 * 1024
const HOP_BYTES = 4096
const RESYNC_BYTES = 1024 * 1024

/** A piece of a file kept in memory, moved forward as the reader asks for more. */
export class FileWindow {
  private readonly handle: ReadableFile
  private readonly end: number
  private readonly stepBytes: number
  private start = 0
  private bytes: Buffer = Buffer.alloc(0)

  constructor(handle: ReadableFile, options: { end: number; stepBytes: number }) {
    this.handle = handle
    this.end = options.end
    this.stepBytes = options.stepBytes
  }

  /** The bytes at `position`, fewer only at the end. A view that stays valid: the window never reuses its memory. */
  async view(position: number, length: number): Promise<Buffer> {
    const wanted = Math.max(0, Math.min(length, this.end - position))
    if (!this.holds(position, wanted)) {
      const size = Math.min(Math.max(wanted, this.stepBytes), this.end - position)
      const fresh = Buffer.allocUnsafe(size)
      this.bytes = fresh.subarray(0, await readFully(this.handle, fresh, position))
      this.start = position
    }
    return this.bytes.subarray(position - this.start, position - this.start + wanted)
  }

  holds(position: number, length: number): boolean {
    return position >= this.start && position + length <= this.start + this.bytes.length
  }
}

export type Scanned =
  /** `batch` is there when it was verified: a view that stays valid. */
  | { readonly kind: 'batch'; readonly position: number; readonly end: number; readonly header: BatchHeader; readonly batch: Buffer | undefined }
  | { readonly kind: 'bad'; readonly position: number; readonly end: number; readonly reason: string }

export interface ScanOptions {
  readonly from: number
  readonly to: number
  /** No batch may begin below this. */
  readonly expectedOffset: Offset
  readonly shouldVerify: (header: BatchHeader, position: number) => boolean
  /** Bytes per read; larger where most batches are verified. */
  readonly stepBytes?: number
}

export async function* scanBatches(handle: ReadableFile, options: ScanOptions): AsyncGenerator<Scanned> {
  const window = new FileWindow(handle, { end: options.to, stepBytes: options.stepBytes ?? HOP_BYTES })
  let position = options.from
  let expectedOffset = options.expectedOffset
  while (position < options.to) {
    const found = await batchAt(window, { ...options, position, expectedOffset })
    if (found.kind === 'batch') {
      yield found
      expectedOffset = toOffset(found.header.lastOffset + 1)
      position = found.end
    } else {
      const end = await findNextBatch(handle, { from: position + 1, to: options.to, expectedOffset })
      yield { kind: 'bad', position, end, reason: found.reason }
      position = end
    }
  }
}

interface BatchPlace {
  readonly position: number
  readonly to: number
  readonly expectedOffset: Offset
  readonly shouldVerify: (header: BatchHeader, position: number) => boolean
}

async function batchAt(window: FileWindow, place: BatchPlace): Promise<Scanned> {
  const { position } = place
  const bad = (reason: string): Scanned => ({ kind: 'bad', position, end: place.to, reason })
  const bytes = await window.view(position, BATCH_HEADER_BYTES)
  const header = parseStoredHeader(bytes, { room: place.to - position, expectedOffset: place.expectedOffset })
  if (typeof header === 'string') return bad(header)
  if (!place.shouldVerify(header, position)) {
    return { kind: 'batch', position, end: position + header.sizeBytes, header, batch: undefined }
  }
  const batch = await window.view(position, header.sizeBytes)
  if (batch.length < header.sizeBytes) return bad('the file ends inside a batch')
  if (!hasValidCrc(batch)) return bad('CRC-32C does not match')
  return { kind: 'batch', position, end: position + header.sizeBytes, header, batch }
}

/** The header of a batch that may stand here, or why none does. */
export function parseStoredHeader(bytes: Buffer, place: { room: number; expectedOffset: Offset }): BatchHeader | string {
  if (bytes.length < BATCH_HEADER_BYTES) return 'the file ends inside a batch header'
  let header: BatchHeader
  try {
    header = readBatchHeader(bytes)
  } catch (error) {
    if (error instanceof AppError) return error.message
    throw error
  }
  if (header.sizeBytes > Math.min(place.room, STORED_BATCH_BYTES_MAX)) return `a batch of ${header.sizeBytes} bytes does not fit`
  if (header.baseOffset < place.expectedOffset) return `base offset ${header.baseOffset} is below ${place.expectedOffset}`
  return header
}

/** Position of the next batch with a valid CRC and an offset that may stand here, or `to`. */
export async function findNextBatch(handle: ReadableFile, range: { from: number; to: number; expectedOffset: Offset }): Promise<number> {
  const window = new FileWindow(handle, { end: range.to, stepBytes: RESYNC_BYTES })
  const bodies = new FileWindow(handle, { end: range.to, stepBytes: BATCH_HEADER_BYTES })
  for (let start = range.from; start + BATCH_HEADER_BYTES <= range.to; ) {
    const bytes = await window.view(start, RESYNC_BYTES)
    const last = bytes.length - BATCH_HEADER_BYTES
    for (let at = 0; at <= last; at += 1) {
      if (!looksLikeBatch(bytes, at)) continue
      const position = start + at
      const header = parseStoredHeader(bytes.subarray(at, at + BATCH_HEADER_BYTES), { room: range.to - position, expectedOffset: range.expectedOffset })
      if (typeof header === 'string') continue
      if (hasValidCrc(await bodies.view(position, header.sizeBytes))) return position
    }
    if (last < 0) break
    start += last + 1
  }
  return range.to
}

/** Cheap first look: magic 2, and an offset and a length that a real log has. */
function looksLikeBatch(bytes: Buffer, at: number): boolean {
  return bytes[at + 16] === 2 && bytes[at] === 0 && bytes[at + 1] === 0 && bytes[at + 8] === 0
}
