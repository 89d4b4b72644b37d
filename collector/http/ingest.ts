/**
 * `POST /v1/batches`: frames in, one result per frame out, in the same order. Everything that a result says is synced:
 * `TopicLog.append` answers only then. Broken framing refuses the whole request before anything is stored; a bad frame
 * is refused alone.
 *
 * Frames go to the log one after another without a wait between them, so those of one stream stay in order, and all of
 * one request share a group commit. Requests of one agent may overlap; the log puts them in order.
 */
import { BufferPool } from '../../shared/buffer-pool.ts'
import { AppError } from '../../shared/errors.ts'
import { jsonResponse, readBody } from '../../shared/http-body.ts'
import type { ServerRequest, ServerResponse } from '../../shared/http-handler.ts'
import type { Counter, System } from '../../shared/system.ts'
import { contentTypes, decodeFrames, paths, wireLimits, type BatchesResponse, type BatchFrame, type FrameResult } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { AppendResult, TopicLog } from '../storage/topic-log.ts'
import type { AgentRegistry } from './agent-registry.ts'
import { checkFrame, type CheckedFrame } from './frame-check.ts'
import type { MemoryBudget } from './memory-budget.ts'
import type { Route, RouteContext } from './router.ts'
import type { TopicGate } from './topic-gate.ts'

export interface IngestDependencies {
  readonly system: Pick<System, 'clock' | 'log' | 'metrics'>
  readonly log: TopicLog
  readonly zstd: Zstd
  readonly budget: MemoryBudget
  readonly gate: TopicGate
  readonly agents: AgentRegistry
  /** Of this process. */
  readonly instance: string
}

interface IngestMetrics {
  readonly frames: Counter
  readonly records: Counter
  readonly bytes: Counter
}

/** Of request bodies that wait to be used again: as much as sixteen agents in a hurry send at a time. */
const FREE_BODY_BYTES_MAX = 16 * 1024 * 1024

/** Codes that say something about this collector or this sender as a whole: when all frames have one, so has the answer. */
const wholeCodes = new Set<string>(['DISK_FULL', 'UNAVAILABLE', 'STORAGE_ERROR', 'RESTORE_REQUIRED', 'HOST_MISMATCH'])

export function createIngestRoutes(dependencies: IngestDependencies): readonly Route[] {
  const { metrics } = dependencies.system
  const counters = {
    frames: metrics.counter('tailrace_collector_frames_total', 'Batches received from agents, by what became of them', ['result']),
    records: metrics.counter('tailrace_collector_records_stored_total', 'Records stored from agents'),
    bytes: metrics.counter('tailrace_collector_bytes_stored_total', 'Bytes of batches stored from agents, compressed'),
  }
  const bodies = new BufferPool(FREE_BODY_BYTES_MAX)
  return [
    {
      method: 'POST',
      pattern: paths.batches,
      role: 'ingest',
      handler: (request, context) => receiveBatches(request, context, { ...dependencies, counters, bodies }),
    },
  ]
}

type Receiver = IngestDependencies & { readonly counters: IngestMetrics; readonly bodies: BufferPool }

async function receiveBatches(request: ServerRequest, context: RouteContext, receiver: Receiver): Promise<ServerResponse> {
  if (request.headers.get('content-type') !== contentTypes.batches) {
    throw new AppError('UNSUPPORTED_MEDIA_TYPE', `batches travel as ${contentTypes.batches}`)
  }
  if (request.contentLength === undefined) throw new AppError('LENGTH_REQUIRED', 'a request with batches needs a Content-Length')
  if (request.contentLength > wireLimits.batchesRequestBytesMax) {
    throw new AppError('MESSAGE_TOO_LARGE', `a request of ${request.contentLength} bytes is over ${wireLimits.batchesRequestBytesMax}`)
  }
  receiver.gate.checkOpen()
  const giveBack = receiver.budget.take(request.contentLength)
  try {
    const body = await readBody(request, wireLimits.batchesRequestBytesMax, (bytes) => receiver.bodies.take(bytes))
    const results = await Promise.all(decodeFrames(body).map((frame) => storeFrame(frame, context, receiver)))
    // Every frame is settled: what the log took of the body is synced, and all that outlives it was copied.
    receiver.bodies.give(body)
    throwWholeError(results)
    const { log, instance } = receiver
    return jsonResponse({ logEpoch: log.logEpoch, instance, frames: results.map(({ result }) => result) } satisfies BatchesResponse)
  } finally {
    giveBack()
  }
}

interface StoredFrame {
  readonly result: FrameResult
  readonly error?: AppError
}

/** Up to the log's own queue this runs without a wait: `map` above hands frames over in their order. */
async function storeFrame(frame: BatchFrame, context: RouteContext, receiver: Receiver): Promise<StoredFrame> {
  try {
    const checked = checkFrame(frame, { zstd: receiver.zstd, caller: context.caller })
    receiver.gate.checkTopic(checked.topic)
    receiver.agents.seen(checked.source)
    // Kept before the log patches and owns the batch.
    const echo = echoOf(checked)
    const result = resultOf(echo, await receiver.log.append(checked))
    count(result, checked, receiver.counters)
    return { result }
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    receiver.counters.frames.add(1, { result: error.code })
    return { result: errorResult(error), error }
  }
}

function echoOf({ source, header }: CheckedFrame): { stream: string; start: number; end: number; crc: number } {
  return { stream: source.streamId.toString('hex'), start: source.start, end: source.end, crc: header.crc }
}

function resultOf(echo: ReturnType<typeof echoOf>, result: AppendResult): FrameResult {
  if (result.kind === 'ok') return { status: 'ok', ...echo, partition: result.partition, offset: result.baseOffset }
  return { status: result.kind, ...echo, position: result.position, tailHash: result.tailHash.toString('hex') }
}

function errorResult(error: AppError): FrameResult {
  const hint = error.hint === undefined ? {} : { hint: error.hint }
  return { status: 'error', code: error.code, message: error.message, retryable: error.retryable, ...hint }
}

function count(result: FrameResult, checked: CheckedFrame, counters: IngestMetrics): void {
  counters.frames.add(1, { result: result.status })
  if (result.status !== 'ok') return
  counters.records.add(checked.header.recordCount)
  counters.bytes.add(checked.header.sizeBytes)
}

function throwWholeError(results: readonly StoredFrame[]): void {
  const first = results[0]?.error
  if (first !== undefined && wholeCodes.has(first.code) && results.every(({ error }) => error?.code === first.code)) throw first
}
