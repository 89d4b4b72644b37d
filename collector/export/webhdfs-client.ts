/**
 * The NameNode side of WebHDFS (and HttpFS, which speaks the same): one operation, one answer, with failover over a list
 * of NameNodes. File contents travel elsewhere (webhdfs-store.ts).
 *
 * Stateless but for which NameNode answered last and the token in hand; calls may run at the same time. A call that may
 * be repeated is, a few times with jitter; one that may not (RENAME, DELETE) is only where it certainly was not done.
 * Retrying for hours is the exporter's business. URLs hold tokens: they are never logged nor put into an error.
 */
import * as v from 'valibot'
import { AppError, toAppError } from '../../shared/errors.ts'
import { backoffMs } from '../../shared/retry.ts'
import type { HttpClient, HttpRequest, HttpResponse, System } from '../../shared/system.ts'
import type { Negotiator } from './spnego.ts'
import { classifyFailure, failureToError, type RemoteFailure } from './webhdfs-errors.ts'
import { checkRedirect, type RedirectRules } from './webhdfs-redirect.ts'

export interface WebHdfsOptions {
  /** `http://nn1:9870`, without a path; the active one is found. */
  readonly nameNodes: readonly string[]
  /** HDFS path of the store's root, `/tailrace`. */
  readonly root: string
  readonly mode: 'webhdfs' | 'httpfs'
  readonly userName?: string
  readonly doAs?: string
  /** Read again whenever the server calls the token invalid. */
  readonly readToken?: () => Promise<string>
  /** Kerberos, where the cluster wants it. */
  readonly negotiator?: Negotiator
  readonly redirects: RedirectRules
}

export interface WebHdfsCall {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE'
  readonly op: string
  /** Relative to the root. */
  readonly path: string
  readonly params?: Readonly<Record<string, string>>
  /** Whether doing it twice is the same as doing it once. */
  readonly isRepeatable: boolean
  readonly signal?: AbortSignal
}

export interface WebHdfsTransport {
  /** NameNodes and HttpFS, with kept connections. */
  readonly http: HttpClient
  /** DataNodes, both ways: a connection for each request. They close every one, and there may be thousands of them. */
  readonly streamingHttp: HttpClient
}

export type CallAnswer =
  | { readonly kind: 'redirect'; readonly url: string }
  | { readonly kind: 'answer'; readonly response: HttpResponse }

export const SMALL_BODY_BYTES_MAX = 64 * 1024
/** LISTSTATUS of a folder that somebody filled: 300 bytes a name. */
export const LIST_BODY_BYTES_MAX = 64 * 1024 * 1024
const ATTEMPTS_MAX = 4
const RETRY = { baseMs: 500, maxMs: 15_000 }
/** Where the name of a DataNode is the trouble, most often because it is that of a container. */
const dataNodeHint = 'add the name to the DNS of this machine, map it with hdfsDataNodes, or go through HttpFS (hdfsMode: httpfs)'
const TOKEN_CHARACTERS_MAX = 16 * 1024

const locationSchema = v.object({ Location: v.pipe(v.string(), v.maxLength(32 * 1024)) })

/** Which NameNode, and what to do when it can't serve. */
type Verdict = { readonly kind: 'next-name-node' } | { readonly kind: 'wait' } | { readonly kind: 'new-credentials' } | { readonly kind: 'give-up' }

interface Attempt {
  readonly error: AppError
  readonly verdict: Verdict
}

export class WebHdfsClient {
  readonly options: WebHdfsOptions
  private readonly system: Pick<System, 'clock' | 'random' | 'log'>
  private readonly transport: WebHdfsTransport
  private readonly closing = new AbortController()
  private active = 0
  private token: string | undefined

  constructor(system: Pick<System, 'clock' | 'random' | 'log'>, transport: WebHdfsTransport, options: WebHdfsOptions) {
    this.system = system
    this.transport = transport
    this.options = options
  }

  /** Ends every call under way that has no signal of its own. */
  close(): void {
    this.closing.abort()
  }

  /** The server's answer with a JSON body that fits `schema`. */
  async json<S extends v.GenericSchema>(call: WebHdfsCall, schema: S, bytesMax = SMALL_BODY_BYTES_MAX): Promise<v.InferOutput<S>> {
    const answer = await this.call(call)
    if (answer.kind === 'redirect') {
      const followed = await this.getFrom(answer.url, call)
      return parseBody(await readBody(followed, bytesMax), schema, describe(this.options, call))
    }
    return parseBody(await readBody(answer.response, bytesMax), schema, describe(this.options, call))
  }

  /** A read of a DataNode URL that `call` answered. */
  async getFrom(url: string, call: WebHdfsCall): Promise<HttpResponse> {
    return this.askDataNode({ method: 'GET', url, signal: this.signalOf(call) }, call)
  }

  /** The data leg of `call`. CANNOT_CONNECT names the DataNode and what can be done about its name. */
  async askDataNode(request: HttpRequest, call: WebHdfsCall): Promise<HttpResponse> {
    const what = describe(this.options, call)
    let response: HttpResponse
    try {
      response = await this.transport.streamingHttp.request(request)
    } catch (error) {
      const failure = toAppError(error)
      if (failure.code !== 'CANNOT_CONNECT' || this.options.mode === 'httpfs') throw error
      throw new AppError('CANNOT_CONNECT', `${what}: DataNode: ${failure.message}`, { cause: failure, hint: dataNodeHint })
    }
    if (response.status === 200 || response.status === 201) return response
    throw failureToError(await readFailure(response), what)
  }

  /** One operation until a NameNode took it or it is clear that none will now. A redirect is checked before it is given. */
  async call(call: WebHdfsCall): Promise<CallAnswer> {
    let isRenewed = false
    let waits = 0
    // Each NameNode may say `standby` once per round, and a round ends with a wait.
    const standbysMax = this.options.nameNodes.length * ATTEMPTS_MAX
    for (let standbys = 0; ; ) {
      const nameNode = this.nameNode()
      const attempt = await this.attempt(nameNode, call)
      if ('kind' in attempt) return attempt
      const { verdict, error } = attempt
      if (verdict.kind === 'give-up') throw error
      if (verdict.kind === 'new-credentials') {
        if (isRenewed || !this.forgetCredentials(nameNode)) throw error
        isRenewed = true
        continue
      }
      if (verdict.kind === 'next-name-node') {
        standbys += 1
        if (standbys >= standbysMax) throw error
        this.rotate(nameNode)
        if (standbys % this.options.nameNodes.length !== 0) continue
      }
      waits += 1
      if (waits >= ATTEMPTS_MAX) throw error
      await this.system.clock.sleep(backoffMs(waits, RETRY, this.system.random.next()), this.signalOf(call))
    }
  }

  /** Whether there are others to be had than those that were refused. */
  private forgetCredentials(nameNode: string): boolean {
    if (this.options.readToken === undefined) return this.options.negotiator?.forget(nameNode) === true
    this.token = undefined
    return true
  }

  private nameNode(): string {
    return this.options.nameNodes[this.active % this.options.nameNodes.length] ?? ''
  }

  /** Only if nobody else moved on already: two calls that fail together must not skip a NameNode. */
  private rotate(from: string): void {
    if (this.options.nameNodes.length < 2 || this.nameNode() !== from) return
    this.active = (this.active + 1) % this.options.nameNodes.length
    this.system.log.info('asking the next NameNode', { nameNode: this.nameNode() })
  }

  private async attempt(nameNode: string, call: WebHdfsCall): Promise<CallAnswer | Attempt> {
    let response: HttpResponse
    try {
      response = await this.transport.http.request(await this.toRequest(nameNode, call))
    } catch (error) {
      return judgeTransport(toAppError(error), call)
    }
    this.options.negotiator?.notice(nameNode, response)
    const location = await this.locationOf(response, call)
    if (location !== undefined) return { kind: 'redirect', url: checkRedirect(location, nameNode, this.options.redirects) }
    if (response.status >= 200 && response.status < 300) return { kind: 'answer', response }
    return judgeFailure(await readFailure(response), { call, what: describe(this.options, call) })
  }

  /** From a 307, or from the body of a 200 that `noredirect=true` asked for. */
  private async locationOf(response: HttpResponse, call: WebHdfsCall): Promise<string | undefined> {
    if (response.status === 307 || response.status === 302) {
      await readBody(response, SMALL_BODY_BYTES_MAX)
      const location = response.headers.get('location')
      if (location === undefined) throw new AppError('REMOTE_ERROR', `${describe(this.options, call)}: a redirect to nowhere`)
      return location
    }
    const isAsked = call.params?.['noredirect'] === 'true' && response.status === 200
    if (!isAsked || response.headers.get('content-type')?.startsWith('application/json') !== true) return undefined
    return parseBody(await readBody(response, SMALL_BODY_BYTES_MAX), locationSchema, describe(this.options, call)).Location
  }

  private async toRequest(nameNode: string, call: WebHdfsCall): Promise<HttpRequest> {
    const writes = call.method !== 'GET'
    return {
      method: call.method,
      url: await this.url(nameNode, call),
      // Proxies want a length on every PUT; the X-XSRF header is what a server with CSRF protection looks for.
      ...(writes ? { body: [] } : {}),
      headers: { ...(writes ? { 'x-xsrf-header': 'tailrace' } : {}), ...(await this.options.negotiator?.headersFor(nameNode)) },
      signal: this.signalOf(call),
    }
  }

  private signalOf(call: WebHdfsCall): AbortSignal {
    return call.signal ?? this.closing.signal
  }

  async url(nameNode: string, call: WebHdfsCall): Promise<string> {
    const params = new URLSearchParams({ op: call.op, ...call.params })
    const token = await this.currentToken()
    // With a token both users are inside it.
    if (token !== undefined) params.set('delegation', token)
    else if (this.options.userName !== undefined && this.options.negotiator === undefined) params.set('user.name', this.options.userName)
    if (token === undefined && this.options.doAs !== undefined) params.set('doas', this.options.doAs)
    return `${nameNode}/webhdfs/v1${encodePath(absolutePath(this.options, call.path))}?${params.toString().replaceAll('+', '%20')}`
  }

  /** For HttpFS, where contents go to the same host: with what it wants to see of us. */
  async activeTarget(call: WebHdfsCall): Promise<{ readonly url: string; readonly headers: Readonly<Record<string, string>> }> {
    const nameNode = this.nameNode()
    return { url: await this.url(nameNode, call), headers: (await this.options.negotiator?.headersFor(nameNode)) ?? {} }
  }

  /** The server that `activeTarget` names is gone: the next one, please. */
  reportUnreachable(): void {
    this.rotate(this.nameNode())
  }

  private async currentToken(): Promise<string | undefined> {
    if (this.token !== undefined || this.options.readToken === undefined) return this.token
    const token = (await this.options.readToken()).trim()
    if (token === '' || token.length > TOKEN_CHARACTERS_MAX || /\s/.test(token)) {
      throw new AppError('REMOTE_REFUSED', 'the delegation token file does not hold one token', { hint: 'write the url-safe token string into it' })
    }
    this.token = token
    return token
  }
}

function judgeTransport(error: AppError, call: WebHdfsCall): Attempt {
  if (error.code === 'CANNOT_CONNECT') return { error, verdict: { kind: 'next-name-node' } }
  if (error.retryable && call.isRepeatable) return { error, verdict: { kind: 'next-name-node' } }
  return { error, verdict: { kind: 'give-up' } }
}

function judgeFailure(failure: RemoteFailure, context: { call: WebHdfsCall; what: string }): Attempt {
  const error = failureToError(failure, context.what)
  if (failure.kind === 'standby') return { error, verdict: { kind: 'next-name-node' } }
  if (failure.kind === 'starting') return { error, verdict: { kind: 'wait' } }
  if (failure.kind === 'bad-token' || failure.kind === 'unauthenticated') return { error, verdict: { kind: 'new-credentials' } }
  if (failure.kind !== 'transient') return { error, verdict: { kind: 'give-up' } }
  if (context.call.isRepeatable) return { error, verdict: { kind: 'next-name-node' } }
  // A proxy's 502 after a RENAME leaves its outcome open.
  return { error: new AppError('UNKNOWN_OUTCOME', error.message, { cause: error }), verdict: { kind: 'give-up' } }
}

export function absolutePath(options: Pick<WebHdfsOptions, 'root'>, path: string): string {
  const root = options.root.replace(/\/+$/, '')
  return path === '' ? root || '/' : `${root}/${path}`
}

/** Each segment percent-encoded, `=` left as it is: some servers took `%3D` literally. */
function encodePath(path: string): string {
  return path
    .split('/')
    .map((part) => encodeURIComponent(part).replaceAll('%3D', '='))
    .join('/')
}

/** For error texts: no host, no query. */
export function describe(options: Pick<WebHdfsOptions, 'root'>, call: Pick<WebHdfsCall, 'op' | 'path'>): string {
  return `${call.op} ${absolutePath(options, call.path)}`
}

export async function readFailure(response: HttpResponse): Promise<RemoteFailure> {
  return classifyFailure(response.status, (await readBody(response, SMALL_BODY_BYTES_MAX)).toString('utf8'))
}

/** The whole body; REMOTE_ERROR when it is over `bytesMax`. */
export async function readBody(response: HttpResponse, bytesMax: number): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  let bytes = 0
  for await (const piece of response.body) {
    bytes += piece.length
    if (bytes > bytesMax) throw new AppError('REMOTE_ERROR', `an answer of more than ${bytesMax} bytes`)
    pieces.push(piece)
  }
  return Buffer.concat(pieces)
}

export function parseBody<S extends v.GenericSchema>(body: Buffer, schema: S, what: string): v.InferOutput<S> {
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch (error) {
    throw new AppError('REMOTE_ERROR', `${what}: the answer is not JSON`, { cause: error })
  }
  const result = v.safeParse(schema, value)
  if (result.success) return result.output
  throw new AppError('REMOTE_ERROR', `${what}: the answer is not what WebHDFS documents (${result.issues[0].message})`)
}
