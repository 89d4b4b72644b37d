/**
 * HttpClient on node:http(s), for all that we call: collectors, NameNodes, DataNodes. Not undici: its parser is
 * WebAssembly, which costs an agent 25 MiB (measured on Node 24), and it destroys the connection on the `100 Continue`
 * that a DataNode always sends, asked or not.
 *
 * A source is read only as fast as the peer takes it. An answer that comes while the body is still being sent (a DataNode
 * reports a full quota so) ends the sending and is the result. Time limits are on progress, not on the whole: a slow
 * upload that moves is left alone.
 */
import http from 'node:http'
import type * as https from 'node:https'
import type { Socket } from 'node:net'
import { AppError } from '../errors.ts'
import type { HttpClient, HttpRequest, HttpResponse } from '../system.ts'
import { nodeHttps } from './https.ts'

export interface TlsFiles {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
}

export interface HttpClientOptions {
  /** PEM texts. Certificates are always verified; with `ca` only that authority is trusted. */
  readonly tls?: TlsFiles
  /**
   * Default true. A DataNode closes every connection, and there may be thousands of DataNodes: for them each request has
   * its own.
   */
  readonly keepsConnections?: boolean
  /** Of one origin, at a time. Default 8. */
  readonly connectionsPerOrigin?: number
  /** Default 10,000. */
  readonly connectTimeoutMs?: number
}

const CONNECT_TIMEOUT_MS = 10_000
const PROGRESS_TIMEOUT_MS = 30_000
/** Servers close idle connections after 5 s (Node's default) or later: a request must not meet that. */
const IDLE_CONNECTION_MS = 4_000
/** Of an answer, read before anybody asks for it. */
const AHEAD_BYTES = 64 * 1024

export function createHttpClient(options: HttpClientOptions = {}): HttpClient {
  const { keepsConnections = true, connectionsPerOrigin = 8 } = options
  const live = new Set<http.ClientRequest>()
  const pool = { keepAlive: true, maxSockets: connectionsPerOrigin, timeout: IDLE_CONNECTION_MS }
  const agents: { plain: http.Agent; tls?: https.Agent } | undefined = keepsConnections ? { plain: new http.Agent(pool) } : undefined
  const tlsAgent = (): https.Agent | false => agents !== undefined && (agents.tls ??= new (nodeHttps().Agent)({ ...pool, ...options.tls }))
  const open = (request: HttpRequest): http.ClientRequest => {
    const url = new URL(request.url)
    const settings: http.RequestOptions = {
      method: request.method,
      hostname: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port === '' ? undefined : Number(url.port),
      path: rawPath(request.url),
      headers: { ...request.headers, ...lengthHeader(request), ...(agents === undefined ? { connection: 'close' } : {}) },
      timeout: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    }
    if (url.protocol !== 'https:') return http.request({ ...settings, agent: agents?.plain ?? false })
    return nodeHttps().request({ ...settings, ...options.tls, agent: tlsAgent(), rejectUnauthorized: true })
  }
  return {
    request: (request) => send(request, { open, live }),
    close: () => {
      for (const each of live) each.destroy(new AppError('ABORTED', 'the client was closed'))
      agents?.plain.destroy()
      agents?.tls?.destroy()
      return Promise.resolve()
    },
  }
}

interface Exchange {
  readonly outgoing: http.ClientRequest
  readonly origin: string
  isConnected: boolean
  isAnswered: boolean
}

function send(
  request: HttpRequest,
  client: { open: (request: HttpRequest) => http.ClientRequest; live: Set<http.ClientRequest> },
): Promise<HttpResponse> {
  return new Promise<HttpResponse>((resolve, reject) => {
    const { origin } = new URL(request.url)
    if (request.signal?.aborted === true) {
      reject(aborted(origin))
      return
    }
    const outgoing = client.open(request)
    const exchange: Exchange = { outgoing, origin, isConnected: false, isAnswered: false }
    const onAbort = (): void => void outgoing.destroy(aborted(origin))
    client.live.add(outgoing)
    request.signal?.addEventListener('abort', onAbort, { once: true })
    outgoing.once('close', () => {
      client.live.delete(outgoing)
      request.signal?.removeEventListener('abort', onAbort)
    })
    outgoing.once('socket', (socket) => {
      whenConnected(socket, () => {
        exchange.isConnected = true
        outgoing.setTimeout(request.headersTimeoutMs ?? PROGRESS_TIMEOUT_MS)
      })
    })
    outgoing.once('response', (answer) => {
      exchange.isAnswered = true
      outgoing.setTimeout(request.bodyTimeoutMs ?? PROGRESS_TIMEOUT_MS)
      resolve({ status: answer.statusCode ?? 0, headers: headersOf(answer), body: new AnswerBody(answer, exchange) })
    })
    outgoing.once('timeout', () => outgoing.destroy(new Error(exchange.isConnected ? 'nothing moved on the connection for too long' : 'no connection in time')))
    // Also after the answer: a broken pipe of a body that nobody wants any more must not become uncaught.
    outgoing.on('error', (error) => reject(translate(error, exchange)))
    // A source that fails ends the connection with its own error, which the handler above passes on.
    sendBody(request.body, exchange).catch((error: unknown) => outgoing.destroy(error instanceof Error ? error : new Error(String(error))))
  })
}

function whenConnected(socket: Socket, then: () => void): void {
  if (!socket.connecting) then()
  else socket.once('encrypted' in socket ? 'secureConnect' : 'connect', then)
}

/** Path and query as they were given: URL would encode some characters anew, and a token in there must stay as it is. */
function rawPath(url: string): string {
  const path = url.replace(/^https?:\/\/[^/?#]*/i, '').replace(/#.*$/, '')
  return path.startsWith('/') ? path : `/${path}`
}

function lengthHeader({ method, body }: HttpRequest): Readonly<Record<string, string>> {
  return body === undefined && method === 'GET' ? {} : { 'content-length': String(lengthOf(body)) }
}

function lengthOf(body: HttpRequest['body']): number {
  if (body === undefined) return 0
  return 'stream' in body ? body.length : body.reduce((sum, piece) => sum + piece.length, 0)
}

async function sendBody(body: HttpRequest['body'], exchange: Exchange): Promise<void> {
  const { outgoing } = exchange
  const expected = lengthOf(body)
  let sent = 0
  if (expected > 0 && body !== undefined) {
    for await (const piece of 'stream' in body ? body.stream : body) {
      if (exchange.isAnswered || outgoing.destroyed) return
      sent += piece.length
      if (sent > expected) break
      if (!outgoing.write(piece)) await drained(outgoing)
    }
  }
  if (sent !== expected && !exchange.isAnswered && !outgoing.destroyed) {
    throw new AppError('CORRUPT_DATA', `the body has other than the announced ${expected} bytes`)
  }
  outgoing.end()
}

/** Until the peer took what is buffered, or nobody will take anything any more. */
function drained(outgoing: http.ClientRequest): Promise<void> {
  return new Promise((resolve) => {
    const events = ['drain', 'close', 'response', 'error'] as const
    const done = (): void => {
      for (const event of events) outgoing.off(event, done)
      resolve()
    }
    for (const event of events) outgoing.once(event, done)
  })
}

function headersOf(answer: http.IncomingMessage): ReadonlyMap<string, string> {
  const headers = new Map<string, string>()
  for (const [name, value] of Object.entries(answer.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(', ') : value)
  }
  return headers
}

/**
 * Reads ahead a little, so that a short answer whose body nobody wants ends all the same: node:http gives a connection
 * back only when its answer was read to the end.
 */
class AnswerBody implements AsyncIterable<Uint8Array> {
  private readonly answer: http.IncomingMessage
  private readonly exchange: Exchange
  private readonly pieces: Uint8Array[] = []
  private aheadBytes = 0
  private isEnded = false
  private failure: AppError | undefined
  private wake: () => void = () => undefined

  constructor(answer: http.IncomingMessage, exchange: Exchange) {
    this.answer = answer
    this.exchange = exchange
    answer.on('data', (piece: Buffer) => this.take(piece))
    answer.once('end', () => this.end())
    answer.on('error', (error) => this.fail(error))
    answer.once('close', () => this.fail(new Error('the answer broke off')))
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        for (let piece = this.pieces.shift(); piece !== undefined; piece = this.pieces.shift()) {
          this.aheadBytes -= piece.length
          if (this.aheadBytes < AHEAD_BYTES) this.answer.resume()
          yield piece
        }
        if (this.isEnded) return
        if (this.failure !== undefined) throw this.failure
        await new Promise<void>((resolve) => (this.wake = resolve))
      }
    } finally {
      if (!this.isEnded) this.answer.destroy()
    }
  }

  private take(piece: Buffer): void {
    this.pieces.push(piece)
    this.aheadBytes += piece.length
    if (this.aheadBytes >= AHEAD_BYTES) this.answer.pause()
    this.wake()
  }

  private end(): void {
    this.isEnded = true
    // Answered before the body was sent: the connection is in the middle of it and is of no more use.
    if (!this.exchange.outgoing.writableEnded) this.exchange.outgoing.destroy()
    this.wake()
  }

  private fail(error: Error): void {
    if (this.isEnded) return
    this.failure ??= translate(error, this.exchange)
    this.wake()
  }
}

/** Before the connection stands the request was certainly not processed; afterwards nobody knows. */
function translate(error: Error, { isConnected, origin }: Exchange): AppError {
  if (error instanceof AppError) return error
  if (isConnected) return new AppError('UNKNOWN_OUTCOME', `connection to ${origin} broke: ${describe(error)}`, { cause: error })
  if (isTlsFailure(codeOf(error))) {
    return new AppError('CANNOT_CONNECT', `TLS to ${origin} failed: ${describe(error)}`, {
      cause: error,
      hint: 'check the CA file and the name in the certificate',
    })
  }
  return new AppError('CANNOT_CONNECT', `cannot connect to ${origin}: ${describe(error)}`, {
    cause: error,
    hint: 'check the address, and that the other side is running',
  })
}

/** With several addresses Node reports all attempts as one error without a message. */
function describe(error: Error): string {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error
  return first instanceof Error && first.message !== '' ? first.message : codeOf(error)
}

function codeOf(error: Error): string {
  const code: unknown = Reflect.get(error, 'code')
  return typeof code === 'string' ? code : error.name
}

/** Node's codes for what OpenSSL finds wrong with a certificate have no common prefix. */
function isTlsFailure(code: string): boolean {
  return code.startsWith('ERR_TLS') || code.startsWith('ERR_SSL') || code.includes('CERT') || code.startsWith('UNABLE_TO') || code === 'EPROTO'
}

function aborted(origin: string): AppError {
  return new AppError('ABORTED', `request to ${origin} was given up`)
}
