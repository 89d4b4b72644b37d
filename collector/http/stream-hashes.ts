/**
 * `GET /v1/streams/<id>/hashes?from=<position>&offset=<offset>`: what a stream's batches say about their source, range
 * by range and in file order, so that an agent can hash its file again and see whether it is the one that was shipped.
 * Only this disk is asked, never the export. A page costs one bounded search through the partition, and one zstd block
 * for each of the stream's batches.
 */
import { AppError } from '../../shared/errors.ts'
import { jsonResponse } from '../../shared/http-body.ts'
import type { ServerRequest, ServerResponse } from '../../shared/http-handler.ts'
import { readBatchHeader, readSourceHeader } from '../../shared/record-batch.ts'
import type { SourceHeader } from '../../shared/source-header.ts'
import { toOffset } from '../../shared/types.ts'
import { paths, wireLimits, type StreamHashesResponse } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'
import { fetchBatches } from '../query/fetch.ts'
import type { ReadableLog, StreamState } from '../storage/topic-log.ts'
import { checkAgentId } from './auth.ts'
import { checkParameterNames, numberParameter } from './query-parameters.ts'
import { param, type Route, type RouteContext } from './router.ts'

/** Of batches for one page: at most a few thousand ranges, even where each holds one short line. */
const PAGE_BYTES = 1024 * 1024
const PARAMETERS: ReadonlySet<string> = new Set(['from', 'offset'])

export interface StreamHashesDependencies {
  readonly log: ReadableLog
  readonly zstd: Zstd
}

export function createStreamHashesRoutes(dependencies: StreamHashesDependencies): readonly Route[] {
  return [{ method: 'GET', pattern: `${paths.streams}/:id/hashes`, role: ['ingest', 'read'], handler: (request, context) => answerHashes(request, context, dependencies) }]
}

async function answerHashes(request: ServerRequest, context: RouteContext, { log, zstd }: StreamHashesDependencies): Promise<ServerResponse> {
  const state = streamOf(log, param(context, 'id'))
  checkAgentId(context.caller, state.source.agentId)
  checkParameterNames(request.query, PARAMETERS)
  const from = numberParameter(request.query, 'from') ?? 0
  const offset = numberParameter(request.query, 'offset')
  const { topic, partition, source } = state
  const read = await fetchBatches(
    log,
    { topic, partition, offset: toOffset(offset ?? state.firstOffset), bytesMax: PAGE_BYTES, endOffset: toOffset(state.lastOffset + 1), stream: source.streamId },
    request.signal,
  )
  const ranges: StreamHashesResponse['ranges'] = []
  for (const { streamId, start, end, sourceHash } of sourcesOf(read.batches, zstd)) {
    // 61 bits of the id stand in the batch header: two streams may share them.
    if (streamId.equals(source.streamId) && end > from) ranges.push({ start, end, sourceHash: sourceHash.toString('hex') })
  }
  const first = ranges[0]?.start
  const response: StreamHashesResponse = {
    stream: source.streamId.toString('hex'),
    from,
    ranges,
    next: read.nextOffset > state.lastOffset ? null : read.nextOffset,
    reachesBackTo: offset === undefined && first !== undefined && first > from ? first : null,
  }
  return jsonResponse(response)
}

function streamOf(log: ReadableLog, id: string): StreamState {
  if (!/^[0-9a-f]{32}$/.test(id)) throw new AppError('BAD_REQUEST', 'a stream id has 32 hex digits')
  const state = log.streams.get(Buffer.from(id, 'hex'))
  if (state === undefined) throw new AppError('UNKNOWN_STREAM', `there is no stream ${id}`)
  return state
}

function* sourcesOf(batches: Buffer, zstd: Zstd): Generator<SourceHeader, void, void> {
  for (let at = 0; at < batches.length; ) {
    const { sizeBytes } = readBatchHeader(batches, at)
    const source = readSourceHeader(batches.subarray(at, at + sizeBytes), zstd, wireLimits.batchContentBytesMax)
    if (source !== undefined) yield source
    at += sizeBytes
  }
}
