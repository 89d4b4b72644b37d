/**
 * The agent's side of the conversation, one function per request. Every answer is capped and parsed by its schema before
 * anybody sees it: the collector may be hostile or not a collector at all. No retries here; session.ts does that.
 */
import { AppError, isErrorCode } from '../shared/errors.ts'
import type { HttpClient, HttpRequest, HttpResponse } from '../shared/system.ts'
import {
  batchesResponseSchema,
  closeResponseSchema,
  contentTypes,
  encodeFrame,
  errorBodySchema,
  helloResponseSchema,
  lookupResponseSchema,
  parseJson,
  paths,
  PROTOCOL_VERSION,
  streamHashesResponseSchema,
  wireLimits,
  type BatchesResponse,
  type BatchFrame,
  type CloseRequest,
  type HelloResponse,
  type LookupRequest,
  type StreamHashesResponse,
  type StreamInfo,
} from '../shared/wire.ts'
import { MISSING_PATH, toldResponseSchema, type ToldRequest } from '../shared/wire-missing.ts'
import { knownStream, type KnownStream } from './known-stream.ts'

/** Streams that one agent may have: 1,000 pages of 1,000. More is not a collector that we understand. */
const PAGES_MAX = 1000

export interface ClientOptions {
  /** `http://host:port`, no slash at the end. */
  readonly url: string
  readonly agentId: string
  readonly host: string
  /** Random per process. */
  readonly session: string
  /** Read anew for each request, so that a renewed token file is seen. */
  readonly token: () => string | undefined
}

export interface Greeting {
  readonly clusterId: string
  readonly logEpoch: number
  /** Of the collector's process, where it tells. */
  readonly instance: string | undefined
  readonly limits: HelloResponse['limits']
  readonly streams: readonly KnownStream[]
}

export class CollectorClient {
  private readonly http: HttpClient
  private readonly options: ClientOptions

  constructor(http: HttpClient, options: ClientOptions) {
    this.http = http
    this.options = options
  }

  /** All pages. Positions in the answer are synced. */
  async hello(signal: AbortSignal): Promise<Greeting> {
    const { agentId, host, session } = this.options
    const streams: KnownStream[] = []
    let after: string | undefined
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const request = { protocol: PROTOCOL_VERSION, agentId, host, session, ...(after === undefined ? {} : { after }) }
      const answer = parseAnswer(helloResponseSchema, await this.postJson(paths.hello, request, signal), 'answer to hello')
      for (const info of answer.streams) streams.push(this.own(info))
      if (answer.next === null) return { clusterId: answer.clusterId, logEpoch: answer.logEpoch, instance: answer.instance, limits: answer.limits, streams }
      after = answer.next
    }
    throw new AppError('REMOTE_ERROR', `the collector lists more than ${PAGES_MAX} pages of streams`)
  }

  /** Per file asked for, the streams that could be meant. At most 256 files. */
  async lookup(files: LookupRequest['files'], signal: AbortSignal): Promise<KnownStream[][]> {
    const request: LookupRequest = { agentId: this.options.agentId, files }
    const answer = parseAnswer(lookupResponseSchema, await this.postJson(paths.lookup, request, signal), 'answer to lookup')
    if (answer.files.length !== files.length) {
      throw new AppError('REMOTE_ERROR', `lookup of ${files.length} files was answered for ${answer.files.length}`)
    }
    return answer.files.map((file) => file.streams.map((info) => this.own(info)))
  }

  /** Ids of the streams that are closed now. At most 1000 streams. */
  async close(streams: CloseRequest['streams'], signal: AbortSignal): Promise<readonly string[]> {
    const request: CloseRequest = { agentId: this.options.agentId, streams }
    return parseAnswer(closeResponseSchema, await this.postJson(paths.close, request, signal), 'answer to close').closed
  }

  /** What was acknowledged to us, for a collector that may have lost some of it. */
  async tell(streams: ToldRequest['streams'], signal: AbortSignal): Promise<number> {
    const { agentId, host } = this.options
    const request: ToldRequest = { agentId, host, streams }
    return parseAnswer(toldResponseSchema, await this.postJson(MISSING_PATH, request, signal), 'answer to told positions').missing
  }

  /** One page of what is stored of a stream; undefined from a collector that has no such answer. */
  async hashes(wanted: { stream: string; from: number; offset: number | undefined }, signal: AbortSignal): Promise<StreamHashesResponse | undefined> {
    const after = wanted.offset === undefined ? '' : `&offset=${wanted.offset}`
    const path = `${paths.streams}/${wanted.stream}/hashes?from=${wanted.from}${after}`
    try {
      const answer = parseAnswer(streamHashesResponseSchema, await this.ask({ method: 'GET', path, signal }), 'answer to hashes')
      // What is between us may answer twice, and the second answer meets the next question.
      if (answer.stream !== wanted.stream || answer.from !== wanted.from) throw new AppError('UNKNOWN_OUTCOME', 'hashes of another stream came for an answer')
      return answer
    } catch (error) {
      if (error instanceof AppError && error.code === 'NOT_FOUND') return undefined
      throw error
    }
  }

  /** One result per frame, in their order. The buffers must not change before the answer. */
  async sendBatches(frames: readonly BatchFrame[], signal: AbortSignal): Promise<BatchesResponse> {
    const body = frames.flatMap(encodeFrame)
    const text = await this.post(paths.batches, { body, contentType: contentTypes.batches, signal })
    const answer = parseAnswer(batchesResponseSchema, text, 'answer to batches')
    if (answer.frames.length !== frames.length) {
      throw new AppError('REMOTE_ERROR', `${frames.length} frames were answered by ${answer.frames.length} results`)
    }
    return answer
  }

  /** A proxy may mix up answers: what is said to another agent is not for us. */
  private own(info: StreamInfo): KnownStream {
    const { agentId } = this.options
    if (info.agentId !== agentId) throw new AppError('REMOTE_ERROR', `an answer about agent ${JSON.stringify(info.agentId)} came to ${JSON.stringify(agentId)}`)
    return knownStream(info)
  }

  private postJson(path: string, value: unknown, signal: AbortSignal): Promise<string> {
    return this.post(path, { body: [Buffer.from(JSON.stringify(value))], contentType: contentTypes.json, signal })
  }

  private post(path: string, { body, contentType, signal }: { body: readonly Uint8Array[]; contentType: string; signal: AbortSignal }): Promise<string> {
    return this.ask({ method: 'POST', path, headers: { 'content-type': contentType }, body, signal })
  }

  private async ask({ path, headers, ...rest }: Omit<HttpRequest, 'url'> & { path: string }): Promise<string> {
    const token = this.options.token()
    const credentials = token === undefined ? {} : { authorization: `Bearer ${token}` }
    const response = await this.http.request({ ...rest, url: this.options.url + path, headers: { ...headers, ...credentials } })
    const text = await readCapped(response)
    if (response.status === 200) return text
    throw refusal(response, text, path)
  }
}

async function readCapped(response: HttpResponse): Promise<string> {
  const pieces: Uint8Array[] = []
  let length = 0
  for await (const piece of response.body) {
    length += piece.length
    if (length > wireLimits.jsonResponseBytesMax) {
      throw new AppError('REMOTE_ERROR', `the answer is longer than ${wireLimits.jsonResponseBytesMax} bytes`)
    }
    pieces.push(piece)
  }
  return Buffer.concat(pieces, length).toString('utf8')
}

/** What does not fit its schema is the server's fault, not a bad request of ours. */
function parseAnswer<S extends Parameters<typeof parseJson>[0]>(schema: S, text: string, what: string): ReturnType<typeof parseJson<S>> {
  try {
    return parseJson(schema, text, what)
  } catch (error) {
    throw new AppError('REMOTE_ERROR', error instanceof Error ? error.message : what, {
      cause: error,
      hint: 'is this the address of a tailrace collector of the same version',
    })
  }
}

/** An answer other than 200 as an error that says whether trying again can help. */
function refusal(response: HttpResponse, text: string, path: string): AppError {
  const retryAfterMs = retryAfter(response.headers.get('retry-after'))
  const wait = retryAfterMs === undefined ? {} : { retryAfterMs }
  const isLater = response.status >= 500 || response.status === 429 || response.status === 408
  let body
  try {
    body = parseJson(errorBodySchema, text, 'error').error
  } catch (error) {
    // Not one of ours, perhaps a proxy's page: the status has to do.
    return new AppError(isLater ? 'REMOTE_ERROR' : 'REMOTE_REFUSED', `${path} was answered with status ${response.status}`, {
      cause: error,
      ...wait,
    })
  }
  const code = isErrorCode(body.code) ? body.code : isLater ? 'REMOTE_ERROR' : 'REMOTE_REFUSED'
  return new AppError(code, body.message, {
    retryable: body.retryable ?? isLater,
    ...(body.hint === undefined ? {} : { hint: body.hint }),
    ...wait,
  })
}

/** Seconds only; the date form is not used by our collector, and a wrong clock would make nonsense of it. */
function retryAfter(value: string | undefined): number | undefined {
  return value !== undefined && /^[0-9]{1,6}$/.test(value) ? Number(value) * 1000 : undefined
}
