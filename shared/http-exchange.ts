/**
 * One request and its answer on node:http: from IncomingMessage to ServerRequest, and from ServerResponse to the
 * socket, with backpressure both ways. Which requests are taken, and when the server ends, is http-server.ts's part.
 */
import type { IncomingMessage, ServerResponse as NodeResponse } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { AppError } from './errors.ts'
import type { ServerRequest, ServerResponse } from './http-handler.ts'
import type { Clock } from './system.ts'

export interface BodyLimits {
  /** Time for any body; a larger one gets the time that it needs at the least rate. */
  readonly bodyGraceMs: number
  readonly bodyBytesPerSecondMin: number
}

/** An unread rest of at most this is swallowed and the connection lives on. */
const SWALLOWED_BYTES_MAX = 64 * 1024
/** How long a client that is still sending may go on after its answer, so that it sees the answer and not a reset. */
const LINGER_MS = 1000
/** Given as a reason, since without one each abort makes an error with a stack. */
const BODY_ENDED = 'body ended'

export function toServerRequest(message: IncomingMessage, context: { clock: Clock; limits: BodyLimits; signal: AbortSignal }): ServerRequest {
  const target = message.url ?? '/'
  const question = target.indexOf('?')
  const contentLength = contentLengthOf(message)
  return {
    method: message.method ?? 'GET',
    path: question < 0 ? target : target.slice(0, question),
    query: new URLSearchParams(question < 0 ? '' : target.slice(question + 1)),
    headers: headerMap(message.rawHeaders),
    contentLength,
    body: bodyOf(message, context.clock, bodyTimeMs(contentLength, context.limits)),
    remoteAddress: message.socket.remoteAddress ?? '',
    certificateNames: certificateNames(message),
    signal: context.signal,
  }
}

/** A Map, not an object: `__proto__` is a header like any other. Repeated ones are joined, so that two never pass as one. */
function headerMap(raw: readonly string[]): ReadonlyMap<string, string> {
  const headers = new Map<string, string>()
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = (raw[at] ?? '').toLowerCase()
    const value = raw[at + 1] ?? ''
    const before = headers.get(name)
    headers.set(name, before === undefined ? value : `${before}, ${value}`)
  }
  return headers
}

/** Node's parser has refused anything but digits, and two of them. */
function contentLengthOf(message: IncomingMessage): number | undefined {
  const header = message.headers['content-length']
  return header === undefined ? undefined : Number(header)
}

function bodyTimeMs(contentLength: number | undefined, limits: BodyLimits): number {
  return limits.bodyGraceMs + ((contentLength ?? 0) / limits.bodyBytesPerSecondMin) * 1000
}

/**
 * The body as it comes; reading on is what lets the client send on. Throws REQUEST_TIMED_OUT when it is not there in
 * time: a client that sends a byte a minute would hold its memory for ever.
 */
async function* bodyOf(message: IncomingMessage, clock: Clock, timeMs: number): AsyncIterable<Uint8Array> {
  if (message.complete && message.readableLength === 0) return
  const done = new AbortController()
  const late = clock.sleep(timeMs, done.signal).then(
    () => 'late' as const,
    () => 'late' as const,
  )
  // Not destroyed on return: the answer still has to go out through the same socket.
  const pieces = message.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>
  try {
    for (;;) {
      const next = await Promise.race([pieces.next(), late])
      if (next === 'late') throw new AppError('REQUEST_TIMED_OUT', `the body was not there after ${Math.ceil(timeMs / 1000)} s`)
      if (next.done === true) return
      yield next.value
    }
  } catch (error) {
    if (error instanceof AppError) throw error
    throw new AppError('ABORTED', 'the client went away before its body ended', { cause: error })
  } finally {
    done.abort(BODY_ENDED)
  }
}

/** Names that the client certificate proves; none when there is none, or it was not signed by our authority. */
function certificateNames(message: IncomingMessage): readonly string[] {
  if (!('getPeerCertificate' in message.socket)) return []
  const socket = message.socket as TLSSocket
  if (!socket.authorized) return []
  const certificate = socket.getPeerCertificate()
  const common: unknown = Reflect.get(certificate.subject, 'CN')
  const alternative = (certificate.subjectaltname ?? '').split(', ').filter((name) => name.startsWith('DNS:'))
  const names = [...(typeof common === 'string' ? [common] : []), ...alternative.map((name) => name.slice(4))]
  // A quoted name may hold a comma, and splitting it would forge a second one.
  return names.filter((name) => /^[A-Za-z0-9._:@-]{1,255}$/.test(name))
}

/** Writes the whole answer; resolves when it is handed over or the client is gone. Rejects when the body's source fails. */
export async function sendResponse(
  exchange: { message: IncomingMessage; target: NodeResponse; clock: Clock },
  response: ServerResponse,
  options: { isLast: boolean },
): Promise<void> {
  const { message, target } = exchange
  if (target.destroyed) return abandon(response)
  const isLate = response.status === 408 // its rest may never come
  const mustLinger = !message.complete && (isLate || !isSmallRest(message))
  const headers: Record<string, string> = { 'x-content-type-options': 'nosniff', 'cache-control': 'no-store', ...response.headers }
  if (options.isLast || mustLinger) headers['connection'] = 'close'
  const { body } = response
  if (body === undefined || typeof body === 'string' || body instanceof Uint8Array) {
    const bytes = typeof body === 'string' ? Buffer.from(body, 'utf8') : (body ?? Buffer.alloc(0))
    target.writeHead(response.status, { ...headers, 'content-length': String(bytes.length) })
    if (mustLinger) {
      target.write(bytes)
      await linger(message, exchange.clock)
      target.end()
    } else {
      target.end(bytes)
    }
    return
  }
  target.writeHead(response.status, headers)
  if (message.method === 'HEAD') await abandon(response)
  else await pump(body, target)
  target.end()
}

function isSmallRest(message: IncomingMessage): boolean {
  const length = contentLengthOf(message)
  return length !== undefined && length <= SWALLOWED_BYTES_MAX
}

async function pump(body: AsyncIterable<Uint8Array>, target: NodeResponse): Promise<void> {
  // The head goes out at once: a follower of a quiet log must see that it is connected.
  target.flushHeaders()
  for await (const piece of body) {
    if (target.destroyed) return
    if (!target.write(piece)) await writable(target)
  }
}

function writable(target: NodeResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      target.off('drain', done)
      target.off('close', done)
      resolve()
    }
    target.on('drain', done)
    target.on('close', done)
    if (target.destroyed) done()
  })
}

/** Tells a body that nobody will read that it is not wanted: it may hold a permit or a file. */
async function abandon({ body }: ServerResponse): Promise<void> {
  if (body === undefined || typeof body === 'string' || body instanceof Uint8Array) return
  await body[Symbol.asyncIterator]().return?.()
}

/** Reads and drops what the client still sends. Closing with unread input would reset the connection under the answer. */
async function linger(message: IncomingMessage, clock: Clock): Promise<void> {
  const over = new AbortController()
  const stop = (): void => over.abort()
  message.once('close', stop)
  message.once('end', stop)
  message.resume()
  await clock.sleep(LINGER_MS, over.signal).then(stop, stop)
}
