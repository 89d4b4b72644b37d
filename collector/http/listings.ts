/** `GET /v1/streams` and `/v1/exports`, and export on request: what there is, page by page, for people and scripts. */
import { AppError } from '../../shared/errors.ts'
import { jsonResponse } from '../../shared/http-body.ts'
import type { ServerRequest, ServerResponse } from '../../shared/http-handler.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import {
  parseJson, paths, skipExportSchema, wireLimits, type ExportInfo, type ExportsResponse, type SkipExportResponse, type StreamsResponse,
} from '../../shared/wire.ts'
import type { ReadableLog, StreamState } from '../storage/topic-log.ts'
import { readJson } from './conversation.ts'
import { checkParameterNames } from './query-parameters.ts'
import type { Route } from './router.ts'
import { StreamPage } from './stream-info.ts'

/** What this API needs of the exporter; undefined where no export is configured. */
export interface ExportView {
  list(options: { check: 'length' | 'deep' | undefined; signal: AbortSignal }): Promise<readonly ExportInfo[]>
  /** Rolls every partition and exports all there is. */
  exportNow(): Promise<void>
  /** What holds a partition's export up and could be given up. */
  skippable(topic: string, partition: number): SkippableRange | undefined
  skip(topic: string, partition: number, range: SkippableRange): Promise<void>
}

export interface SkippableRange {
  readonly fromOffset: Offset
  readonly toOffset: Offset
}

export interface ListingsDependencies {
  readonly log: ReadableLog
  readonly exports: ExportView | undefined
}

export function createListingsRoutes({ log, exports }: ListingsDependencies): readonly Route[] {
  return [
    { method: 'GET', pattern: paths.streams, role: 'read', handler: (request) => Promise.resolve(listStreams(request, log)) },
    { method: 'GET', pattern: paths.exports, role: 'read', handler: (request) => listExports(request, exports) },
    { method: 'POST', pattern: paths.exports, role: 'admin', handler: (request) => exportNow(request, exports) },
    { method: 'POST', pattern: paths.skipExport, role: 'admin', handler: (request) => skipExport(request, exports) },
  ]
}

const idPattern = /^[0-9a-f]{32}$/
const streamParameters = new Set(['host', 'path', 'topic', 'agent', 'id', 'open', 'after'])

interface StreamFilter {
  readonly host: string | undefined
  readonly path: string | undefined
  readonly topic: string | undefined
  readonly agent: string | undefined
  readonly id: string | undefined
  readonly open: string | undefined
}

function listStreams(request: ServerRequest, log: ReadableLog): ServerResponse {
  checkParameterNames(request.query, streamParameters)
  const get = (name: string): string | undefined => request.query.get(name) ?? undefined
  const filter = { host: get('host'), path: get('path'), topic: get('topic'), agent: get('agent'), id: get('id'), open: get('open') }
  const after = get('after')
  for (const id of [filter.id, after]) {
    if (id !== undefined && !idPattern.test(id)) throw new AppError('BAD_REQUEST', 'a stream id has 32 digits of lower-case hex')
  }
  if (filter.open !== undefined && filter.open !== 'true' && filter.open !== 'false') throw new AppError('BAD_REQUEST', 'open is true or false')
  const page = new StreamPage({ countMax: wireLimits.streamsPerPage, bytesMax: wireLimits.jsonResponseBytesMax / 2 })
  const behind = after === undefined ? undefined : Buffer.from(after, 'hex')
  for (const state of candidates(log, filter.id)) {
    // Bytes, not hex: each page walks over everything before it.
    if ((behind !== undefined && Buffer.compare(state.source.streamId, behind) <= 0) || !matches(state, filter)) continue
    if (!page.add(state)) return jsonResponse({ streams: page.streams, next: page.streams.at(-1)?.id ?? null } satisfies StreamsResponse)
  }
  return jsonResponse({ streams: page.streams, next: null } satisfies StreamsResponse)
}

function candidates(log: ReadableLog, id: string | undefined): Iterable<StreamState> {
  if (id === undefined) return log.streams.list()
  const state = log.streams.get(Buffer.from(id, 'hex'))
  return state === undefined ? [] : [state]
}

function matches(state: StreamState, { host, path, topic, agent, open }: StreamFilter): boolean {
  const { source } = state
  if (host !== undefined && source.host !== host) return false
  if (path !== undefined && source.path !== path && state.keyPath !== path) return false
  if (topic !== undefined && state.topic !== topic) return false
  if (agent !== undefined && source.agentId !== agent) return false
  return open === undefined || state.isOpen === (open === 'true')
}

async function listExports(request: ServerRequest, exports: ExportView | undefined): Promise<ServerResponse> {
  checkParameterNames(request.query, new Set(['check']))
  const check = request.query.get('check') ?? undefined
  if (check !== undefined && check !== 'length' && check !== 'deep') throw new AppError('BAD_REQUEST', 'check is length or deep')
  const list = exports === undefined ? [] : await exports.list({ check, signal: request.signal })
  return jsonResponse({ exports: [...list] } satisfies ExportsResponse)
}

function needExport(exports: ExportView | undefined): ExportView {
  if (exports === undefined) throw new AppError('CONFLICT', 'this collector exports nowhere', { hint: 'start it with --hdfs or --export-to' })
  return exports
}

/** In two steps, so that nobody gives up what he has not seen: without the range it is only told. */
async function skipExport(request: ServerRequest, exports: ExportView | undefined): Promise<ServerResponse> {
  const view = needExport(exports)
  const { topic, partition, range } = parseJson(skipExportSchema, await readJson(request), 'skip')
  if (range === undefined) return jsonResponse({ range: view.skippable(topic, partition) ?? null, isSkipped: false } satisfies SkipExportResponse)
  await view.skip(topic, partition, { fromOffset: toOffset(range.fromOffset), toOffset: toOffset(range.toOffset) })
  return jsonResponse({ range, isSkipped: true } satisfies SkipExportResponse)
}

async function exportNow(request: ServerRequest, exports: ExportView | undefined): Promise<ServerResponse> {
  await needExport(exports).exportNow()
  return listExports(request, exports)
}
