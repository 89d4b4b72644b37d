/**
 * The agent's questions about its streams: `POST /v1/hello` (what do you know of me?), `/v1/streams/lookup` (have you
 * ever seen this file?), `/v1/streams/close` (this file is gone). Nothing here writes to the log; every position given
 * is synced, because the stream table holds no other.
 */
import { AppError } from '../../shared/errors.ts'
import { jsonResponse, readBody } from '../../shared/http-body.ts'
import type { ServerRequest, ServerResponse } from '../../shared/http-handler.ts'
import { toPosition } from '../../shared/types.ts'
import {
  closeRequestSchema, contentTypes, helloRequestSchema, lookupRequestSchema, parseJson, paths, PROTOCOL_VERSION, wireLimits,
  type CloseResponse, type HelloResponse, type LookupResponse,
} from '../../shared/wire.ts'
import type { StreamState, TopicLog } from '../storage/topic-log.ts'
import type { AgentRegistry } from './agent-registry.ts'
import { checkAgentId, checkIdentity, type Caller } from './auth.ts'
import type { Route } from './router.ts'
import { StreamPage } from './stream-info.ts'
import type { TopicGate } from './topic-gate.ts'

export interface ConversationDependencies {
  readonly log: TopicLog
  readonly agents: AgentRegistry
  readonly gate: TopicGate
  /** Of this process. */
  readonly instance: string
}

/** Of the answer's cap, so that a page and what stands around it surely fit. */
const PAGE_BYTES_MAX = wireLimits.jsonResponseBytesMax / 2
/** Streams told about one file: its generations and its copies. */
const STREAMS_PER_FILE_MAX = 100

export function createConversationRoutes(dependencies: ConversationDependencies): readonly Route[] {
  return [
    { method: 'POST', pattern: paths.hello, role: 'ingest', handler: async (request, { caller }) => hello(await readJson(request), caller, dependencies) },
    { method: 'POST', pattern: paths.lookup, role: 'ingest', handler: async (request, { caller }) => lookup(await readJson(request), caller, dependencies) },
    { method: 'POST', pattern: paths.close, role: 'ingest', handler: async (request, { caller }) => close(await readJson(request), caller, dependencies) },
  ]
}

/** The text of a JSON body. */
export async function readJson(request: ServerRequest): Promise<string> {
  const type = request.headers.get('content-type') ?? contentTypes.json
  if (!/^application\/json *(;|$)/i.test(type)) throw new AppError('UNSUPPORTED_MEDIA_TYPE', 'the body has to be application/json')
  return (await readBody(request, wireLimits.jsonRequestBytesMax)).toString('utf8')
}

function hello(text: string, caller: Caller, { log, agents, gate, instance }: ConversationDependencies): ServerResponse {
  const request = parseJson(helloRequestSchema, text, 'hello')
  checkIdentity(caller, request)
  // An agent must not adopt positions that a restore is about to change.
  gate.checkOpen()
  agents.hello(request)
  const page = new StreamPage({ countMax: wireLimits.streamsPerPage, bytesMax: PAGE_BYTES_MAX })
  const after = request.after === undefined ? {} : { after: Buffer.from(request.after, 'hex') }
  const states = log.streams.ofAgent(request.agentId, { ...after, limit: wireLimits.streamsPerPage })
  const next = fillPage(page, states.length < wireLimits.streamsPerPage, states)
  const response: HelloResponse = {
    protocol: PROTOCOL_VERSION,
    clusterId: log.clusterId,
    logEpoch: log.logEpoch,
    instance,
    limits: {
      batchBytesMax: wireLimits.batchBytesMax,
      batchContentBytesMax: wireLimits.batchContentBytesMax,
      requestBytesMax: wireLimits.batchesRequestBytesMax,
    },
    streams: page.streams,
    next,
  }
  return jsonResponse(response)
}

/** Id behind which the next page begins, null when there is none. Streams that are left out still move it on. */
function fillPage(page: StreamPage, isLastPage: boolean, states: readonly StreamState[]): string | null {
  let last: string | null = null
  for (const state of states) {
    const isWanted = !state.isSuperseded || state.isOpen
    if (isWanted && !page.add(state)) return last
    last = state.source.streamId.toString('hex')
  }
  return isLastPage ? null : last
}

function lookup(text: string, caller: Caller, { log, gate }: ConversationDependencies): ServerResponse {
  const request = parseJson(lookupRequestSchema, text, 'lookup')
  checkAgentId(caller, request.agentId)
  gate.checkOpen()
  // All files share one answer: each gets its part of the cap, so that a file of many copies can't crowd out the rest.
  const bytesMax = Math.floor(PAGE_BYTES_MAX / Math.max(1, request.files.length))
  const files = request.files.map(({ topic, inode, birthtimeNs, head }) => {
    const page = new StreamPage({ countMax: STREAMS_PER_FILE_MAX, bytesMax })
    const wanted = { topic, inode: uint64(inode), birthtimeNs: uint64(birthtimeNs), head: Buffer.from(head, 'base64') }
    for (const state of newestFirst(log.streams.find(request.agentId, wanted))) {
      if (!page.add(state)) break
    }
    return { streams: page.streams }
  })
  return jsonResponse({ files } satisfies LookupResponse)
}

function newestFirst(states: readonly StreamState[]): readonly StreamState[] {
  return [...states].sort((a, b) => b.source.generation - a.source.generation || b.lastAppendMs - a.lastAppendMs)
}

/** The schema takes 20 digits, which is a little more than 64 bits hold. */
function uint64(decimal: string): bigint {
  const value = BigInt(decimal)
  if (value !== BigInt.asUintN(64, value)) throw new AppError('BAD_REQUEST', `${decimal} does not fit into 64 bits`)
  return value
}

function close(text: string, caller: Caller, { log }: ConversationDependencies): ServerResponse {
  const request = parseJson(closeRequestSchema, text, 'close')
  checkAgentId(caller, request.agentId)
  const closed: string[] = []
  for (const { id, position } of request.streams) {
    const streamId = Buffer.from(id, 'hex')
    if (log.streams.get(streamId)?.source.agentId !== request.agentId) continue
    if (log.streams.close(streamId, toPosition(position))) closed.push(id)
  }
  return jsonResponse({ closed } satisfies CloseResponse)
}
