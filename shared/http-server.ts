/**
 * HTTP(S) on node:http around one `Handler`: limits on connections, headers and bodies; errors as JSON; draining. It
 * knows no routes and no roles. Everything may be called at any time.
 */
import * as http from 'node:http'
import type * as https from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { AppError, BugError, errnoOf } from './errors.ts'
import { errorResponse } from './http-body.ts'
import { sendResponse, toServerRequest, type BodyLimits } from './http-exchange.ts'
import type { Handler, ServerResponse } from './http-handler.ts'
import { nodeHttps } from './node/https.ts'
import type { Clock, Log } from './system.ts'

/** PEM texts. With `clientCa` clients are asked for a certificate; who has none is anonymous, and the handler decides. */
export interface ServerTls {
  readonly cert: string
  readonly key: string
  readonly clientCa?: string
}

export interface ServeOptions extends Partial<BodyLimits> {
  readonly host: string
  /** 0 = any free port. */
  readonly port: number
  readonly tls?: ServerTls
  readonly clock: Clock
  readonly log: Log
  /** Default 4096. */
  readonly maxConnections?: number
  /** Default 1024. */
  readonly maxConnectionsPerAddress?: number
  /** Default 10,000. */
  readonly headersTimeoutMs?: number
  /** Called with a broken assertion out of a handler, after its client was answered. */
  readonly onBug?: (error: BugError) => void
}

export interface RunningServer {
  readonly host: string
  readonly port: number
  /** `http://127.0.0.1:4280` */
  readonly url: string
  /** New connections use these from now on. */
  reloadTls(tls: ServerTls): void
  /** Takes no more, ends long answers, lets the others finish for `drainMs`, then cuts them. Resolves when all are gone. */
  close(options: { drainMs: number }): Promise<void>
}

const HEADER_BYTES_MAX = 16 * 1024
const HEADERS_MAX = 100
const KEEP_ALIVE_MS = 65_000
/** Above any time that the body limits give: the platform's own net behind ours. */
const REQUEST_TIMEOUT_MS = 600_000
/** Given as a reason, since without one each abort makes an error with a stack: after every request, for nobody. */
const CLOSED = 'closed'

export async function serveHttp(handler: Handler, options: ServeOptions): Promise<RunningServer> {
  const state: ServerState = { isDraining: false, open: new Set(), addresses: new Map() }
  const server = createServer(options)
  server.maxConnections = options.maxConnections ?? 4096
  server.maxHeadersCount = HEADERS_MAX
  server.on('connection', (socket: Socket) => limitAddress(socket, state, options.maxConnectionsPerAddress ?? 1024))
  server.on('clientError', answerParserError)
  server.on('request', (message, target) => {
    // Never rejects: an answer that can't be given ends in a cut connection.
    void exchange({ message, target, handler, options, state })
  })
  await listen(server, options)
  server.on('error', (error) => options.log.error('listening socket failed', { error })) // such as no more descriptors: the next accept may work
  const { address, port } = server.address() as AddressInfo
  const host = address.includes(':') ? `[${address}]` : address
  return {
    host: address,
    port,
    url: `${options.tls === undefined ? 'http' : 'https'}://${host}:${port}`,
    reloadTls: (tls) => {
      if ('setSecureContext' in server) server.setSecureContext(secureContext(tls))
    },
    close: (closing) => close(server, state, options.clock, closing.drainMs),
  }
}

interface ServerState {
  isDraining: boolean
  /** One per request that has no whole answer yet. */
  readonly open: Set<AbortController>
  /** Open connections of each remote address. */
  readonly addresses: Map<string, number>
}

function createServer(options: ServeOptions): http.Server | https.Server {
  const limits = {
    maxHeaderSize: HEADER_BYTES_MAX,
    headersTimeout: options.headersTimeoutMs ?? 10_000,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionsCheckingInterval: 2000,
  }
  return options.tls === undefined ? http.createServer(limits) : nodeHttps().createServer({ ...limits, ...secureContext(options.tls) })
}

function secureContext(tls: ServerTls): https.ServerOptions {
  const base = { cert: tls.cert, key: tls.key, minVersion: 'TLSv1.3' } as const
  // Not rejected here: a client with a token needs no certificate. Only a verified one counts (certificateNames).
  return tls.clientCa === undefined ? base : { ...base, ca: tls.clientCa, requestCert: true, rejectUnauthorized: false }
}

function listen(server: http.Server, { host, port }: ServeOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen(error, `${host}:${port}`)))
    server.listen({ host, port }, () => {
      server.removeAllListeners('error')
      resolve()
    })
  })
}

function cannotListen(error: Error, address: string): AppError {
  const errno = errnoOf(error)
  const hints: Readonly<Record<string, string>> = {
    EADDRINUSE: 'another process listens there: stop it, or listen on another port',
    EACCES: 'ports below 1024 need a privilege: choose a higher one',
    EADDRNOTAVAIL: 'this machine does not have that address',
    ENOTFOUND: 'the name does not resolve to an address of this machine',
  }
  const hint = hints[errno ?? '']
  return new AppError('CANNOT_LISTEN', `cannot listen on ${address}: ${errno ?? error.message}`, {
    cause: error,
    ...(hint === undefined ? {} : { hint }),
  })
}

function limitAddress(socket: Socket, { addresses }: ServerState, max: number): void {
  const address = socket.remoteAddress ?? ''
  const count = (addresses.get(address) ?? 0) + 1
  addresses.set(address, count)
  socket.once('close', () => {
    const rest = (addresses.get(address) ?? 1) - 1
    if (rest === 0) addresses.delete(address)
    else addresses.set(address, rest)
  })
  if (count > max) socket.destroy()
}

interface Exchange {
  readonly message: http.IncomingMessage
  readonly target: http.ServerResponse
  readonly handler: Handler
  readonly options: ServeOptions
  readonly state: ServerState
}

async function exchange(context: Exchange): Promise<void> {
  const { message, target, state, options } = context
  const gone = new AbortController()
  state.open.add(gone)
  target.once('close', () => gone.abort(CLOSED))
  try {
    const response = await answer(context, gone.signal)
    await sendResponse({ message, target, clock: options.clock }, response, { isLast: state.isDraining })
  } catch (error) {
    // The head is out already, so the only honest end is a cut: the client must not take half an answer for a whole one.
    const isClientGone = target.destroyed || (error instanceof AppError && error.code === 'ABORTED')
    options.log[isClientGone ? 'debug' : 'warn']('answer was cut', { method: message.method, path: pathOf(message), error })
    target.destroy()
    reportBug(error, options)
  } finally {
    state.open.delete(gone)
  }
}

async function answer(context: Exchange, signal: AbortSignal): Promise<ServerResponse> {
  const { message, handler, options, state } = context
  try {
    if (state.isDraining) throw new AppError('UNAVAILABLE', 'this server is about to stop', { retryAfterMs: 2000 })
    const limits = { bodyGraceMs: options.bodyGraceMs ?? 15_000, bodyBytesPerSecondMin: options.bodyBytesPerSecondMin ?? 64 * 1024 }
    return await handler(toServerRequest(message, { clock: options.clock, limits, signal }))
  } catch (error) {
    const response = errorResponse(error)
    if (!(error instanceof AppError)) options.log.error('request failed', { method: message.method, path: pathOf(message), error })
    reportBug(error, options)
    return response
  }
}

function reportBug(error: unknown, options: ServeOptions): void {
  if (error instanceof BugError) options.onBug?.(error)
}

/** Without the query: it may hold what somebody searched for. */
function pathOf(message: http.IncomingMessage): string {
  return (message.url ?? '').split('?', 1)[0]?.slice(0, 200) ?? ''
}

const parserErrors: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
}

/** What is not HTTP gets the one answer that can still be given, and the connection ends. */
function answerParserError(error: Error, socket: { writable: boolean; end(text: string): unknown; destroy(): unknown }): void {
  if (!socket.writable) {
    socket.destroy()
    return
  }
  const status = parserErrors[String(Reflect.get(error, 'code'))] ?? '400 Bad Request'
  const body = `${JSON.stringify({ error: { code: 'BAD_REQUEST', message: 'this is not a request that can be read', retryable: false } })}\n`
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
}

async function close(server: http.Server, state: ServerState, clock: Clock, drainMs: number): Promise<void> {
  state.isDraining = true
  const closed = new Promise<void>((resolve) => {
    server.close(() => resolve())
  })
  server.closeIdleConnections()
  for (const request of state.open) request.abort()
  const stop = new AbortController()
  const cut = clock.sleep(drainMs, stop.signal).then(
    () => server.closeAllConnections(),
    () => undefined,
  )
  await closed
  stop.abort()
  await cut
}
