/**
 * Raw batches for consumers that decode by themselves: `cat`, `verify`, `replay`. With a stream, only that stream's
 * batches, found by the producer id in the header; nothing is decompressed, and the table of streams says where the
 * stream's records begin and end.
 */
import { producerOf, readBatchHeader } from '../../shared/record-batch.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import type { ReadableLog, ReadResult, Watermarks } from '../storage/topic-log.ts'

/** What one request may read through in search of a stream's batches. */
const SEARCH_BYTES_MAX = 32 * 1024 * 1024
const READ_BYTES = 1024 * 1024

export interface FetchRequest {
  readonly topic: string
  readonly partition: number
  readonly offset: Offset
  /** At least one batch is given even if it is larger. */
  readonly bytesMax: number
  readonly endOffset: Offset | undefined
  readonly stream: Buffer | undefined
}

export interface FetchResult extends Watermarks {
  readonly batches: Buffer
  /** Never before the asked offset; behind it unless the end was reached, so that a loop of requests ends. */
  readonly nextOffset: Offset
  readonly missing: ReadResult['missing']
}

/** Throws OFFSET_OUT_OF_RANGE above the log end, UNKNOWN_TOPIC. */
export async function fetchBatches(log: ReadableLog, request: FetchRequest, signal: AbortSignal): Promise<FetchResult> {
  const watermarks = log.watermarks(request.topic, request.partition)
  const endOffset = toOffset(Math.min(request.endOffset ?? watermarks.highWatermark, watermarks.highWatermark))
  if (request.stream !== undefined) {
    return { ...(await fetchStream(log, { ...request, stream: request.stream, endOffset }, signal)), ...watermarks }
  }
  const { topic, partition, offset, bytesMax } = request
  return { ...(await log.read({ topic, partition, offset, bytesMax, endOffset })), ...watermarks }
}

interface StreamRequest extends FetchRequest {
  readonly stream: Buffer
  readonly endOffset: Offset
}

async function fetchStream(log: ReadableLog, request: StreamRequest, signal: AbortSignal): Promise<ReadResult> {
  const { topic, partition, bytesMax } = request
  const { producerId } = producerOf(request.stream, 0)
  const bounds = streamBounds(log, request)
  const wanted: Buffer[] = []
  const missing: ReadResult['missing'][number][] = []
  let offset: Offset = bounds.from
  let wantedBytes = 0
  for (let searched = 0; offset < bounds.to && searched < SEARCH_BYTES_MAX && !signal.aborted; ) {
    const read = await log.read({ topic, partition, offset, bytesMax: READ_BYTES, endOffset: bounds.to })
    missing.push(...read.missing)
    searched += Math.max(read.batches.length, 1)
    for (const { start, end, baseOffset } of batchesOf(read.batches, producerId)) {
      if (wanted.length > 0 && wantedBytes + end - start > bytesMax) return { batches: Buffer.concat(wanted), nextOffset: baseOffset, missing }
      wanted.push(read.batches.subarray(start, end))
      wantedBytes += end - start
    }
    if (read.nextOffset <= offset) break
    offset = read.nextOffset
  }
  // Behind the stream's last record nothing is to be found: the next request may begin at the end.
  const nextOffset = offset >= bounds.to ? toOffset(Math.max(request.offset, request.endOffset)) : offset
  return { batches: Buffer.concat(wanted), nextOffset, missing }
}

/** Where the stream's batches can stand at all. A stream that the table does not know may be anywhere. */
function streamBounds(log: ReadableLog, request: StreamRequest): { from: Offset; to: Offset } {
  const { offset, endOffset } = request
  const state = log.streams.get(request.stream)
  if (state === undefined) return { from: offset, to: endOffset }
  if (state.topic !== request.topic || state.partition !== request.partition) return { from: endOffset, to: endOffset }
  return { from: toOffset(Math.max(offset, state.firstOffset)), to: toOffset(Math.min(endOffset, state.lastOffset + 1)) }
}

function* batchesOf(read: Buffer, producerId: bigint): Generator<{ start: number; end: number; baseOffset: Offset }, void, void> {
  for (let start = 0; start < read.length; ) {
    const header = readBatchHeader(read, start)
    const end = start + header.sizeBytes
    if (header.producerId === producerId) yield { start, end, baseOffset: header.baseOffset }
    start = end
  }
}
