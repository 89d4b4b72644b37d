/**
 * An HttpClient on node:http(s) for uploads to HDFS DataNodes. A DataNode always sends `100 Continue`, asked or not;
 * undici destroys the connection then, node:http takes it as the `continue` event it is. Everything else goes through
 * undici (`System.http`).
 *
 * One connection per request, closed afterwards: a DataNode closes it anyway. A source is read only as fast as the peer
 * takes it. An answer that comes while the body is still being sent (a DataNode reports a full quota so) ends the
 * sending and is the result. Time limits are on progress, not on the whole: a slow upload that moves is left alone.
 */
import http from 'node:http'
import https from 'node:https'
import { AppError, errnoOf } from './errors.ts'
import type { HttpClient, HttpRequest, HttpResponse } from './system.ts'

export interface StreamingHttpOptions {
  /** PEM. Certificates are always verified; `ca` replaces the system's authorities. */
  readonly tls?: { readonly ca?: string | Buffer; readonly cert?: string | Buffer; readonly key?: string | Buffer }
}

const IDLE_TIMEOUT_MS = 30_000

export function createStreamingHttpClient(options: StreamingHttpOptions = {}): HttpClient {
  const live = new Set<http.ClientRequest>()
  return {
    request: (request) => send(request, options, live),
    close: () => {
      for (const each of live) each.destroy(new AppError('ABORTED', 'the client was closed'))
      return Promise.resolve()
    },
  }
}

function send(request: HttpRequest, options: StreamingHttpOptions, live: Set<http.ClientRequest>): Promise<HttpResponse> {
  return new Promise<HttpResponse>((resolve, reject) => {
    if (request.signal?.aborted === true) {
      reject(aborted())
      return
    }
    const outgoing = open(request, options)
    const state = { isConnected: false, isAnswered: false }
    const onAbort = (): void => void outgoing.destroy(aborted())
    live.add(outgoing)
    request.signal?.addEventListener('abort', onAbort, { once: true })
    outgoing.once('close', () => {
      live.delete(outgoing)
      request.signal?.removeEventListener('abort', onAbort)
    })
    outgoing.once('socket', (socket) => {
      const event = 'encrypted' in socket ? 'secureConnect' : 'connect'
      socket.once(event, () => (state.isConnected = true))
    })
    outgoing.once('response', (answer) => {
      state.isAnswered = true
      outgoing.setTimeout(request.bodyTimeoutMs ?? IDLE_TIMEOUT_MS)
      resolve({ status: answer.statusCode ?? 0, headers: headersOf(answer), body: bodyOf(answer) })
    })
    outgoing.once('timeout', () => outgoing.destroy(new Error('no progress on the connection')))
    // Also after the answer: a broken pipe of a body that nobody wants any more must not become uncaught.
    outgoing.on('error', (error) => reject(translate(error, { ...state, host: outgoing.host })))
    outgoing.setTimeout(request.headersTimeoutMs ?? IDLE_TIMEOUT_MS)
    // A source that fails ends the connection with its own error, which the handler above passes on.
    sendBody(outgoing, request.body, state).catch((error: unknown) => outgoing.destroy(asError(error)))
  })
}

function open(request: HttpRequest, options: StreamingHttpOptions): http.ClientRequest {
  const url = new URL(request.url)
  const isTls = url.protocol === 'https:'
  const settings: https.RequestOptions = {
    method: request.method,
    hostname: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? (isTls ? 443 : 80) : Number(url.port),
    path: rawPath(request.url),
    headers: { ...request.headers, 'content-length': String(lengthOf(request.body)), connection: 'close' },
    agent: false,
  }
  return isTls ? https.request({ ...settings, ...options.tls, rejectUnauthorized: true }) : http.request(settings)
}

/** Path and query as they were given: URL would encode some characters anew, and a token in there must stay as it is. */
function rawPath(url: string): string {
  const path = url.replace(/^https?:\/\/[^/?#]*/i, '').replace(/#.*$/, '')
  return path.startsWith('/') ? path : `/${path}`
}

function lengthOf(body: HttpRequest['body']): number {
  if (body === undefined) return 0
  return 'stream' in body ? body.length : body.reduce((sum, piece) => sum + piece.length, 0)
}

async function sendBody(outgoing: http.ClientRequest, body: HttpRequest['body'], state: { isAnswered: boolean }): Promise<void> {
  const expected = lengthOf(body)
  let sent = 0
  if (expected > 0 && body !== undefined) {
    for await (const piece of 'stream' in body ? body.stream : body) {
      if (state.isAnswered || outgoing.destroyed) return
      sent += piece.length
      if (sent > expected) break
      if (!outgoing.write(piece)) await drained(outgoing)
    }
  }
  if (sent !== expected && !state.isAnswered && !outgoing.destroyed) {
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

async function* bodyOf(answer: http.IncomingMessage): AsyncGenerator<Uint8Array> {
  try {
    for await (const piece of answer) yield piece as Buffer
  } catch (error) {
    throw error instanceof AppError ? error : new AppError('UNKNOWN_OUTCOME', 'the answer broke off', { cause: error })
  } finally {
    answer.destroy()
  }
}

function translate(error: Error, state: { isConnected: boolean; host: string }): AppError {
  if (error instanceof AppError) return error
  const detail = errnoOf(error) ?? error.message
  if (!state.isConnected) return new AppError('CANNOT_CONNECT', `cannot connect to ${state.host}: ${detail}`, { cause: error })
  return new AppError('UNKNOWN_OUTCOME', `the connection broke: ${detail}`, { cause: error })
}

function aborted(): AppError {
  return new AppError('ABORTED', 'the request was stopped')
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
