/**
 * HttpClient on undici: one pool per origin. Never for the data leg to an HDFS DataNode, which answers `100 Continue`
 * unasked and undici destroys the socket on it: that leg has a client on node:http (streaming-http.ts).
 */
import { Readable } from 'node:stream'
import type { Pool } from 'undici'
import request from 'undici/lib/api/api-request.js'
import PoolClass from 'undici/lib/dispatcher/pool.js'
import { AppError, assert } from '../errors.ts'
import type { HttpClient, HttpRequest, HttpResponse } from '../system.ts'

export interface TlsFiles {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
}

export interface HttpClientOptions {
  /** PEM texts. With `ca` only that authority is trusted. */
  readonly tls?: TlsFiles
  /** Default 8. */
  readonly connectionsPerOrigin?: number
  /** Default 10,000. */
  readonly connectTimeoutMs?: number
}

const DEFAULT_TIMEOUT_MS = 30_000
const ORIGINS_MAX = 64

export function undiciHttpClient(options: HttpClientOptions = {}): HttpClient {
  const pools = new Map<string, Pool>()
  const poolOf = (origin: string): Pool => {
    const known = pools.get(origin)
    if (known !== undefined) return known
    assert(pools.size < ORIGINS_MAX, 'a process talks to a handful of origins')
    const pool = new PoolClass(origin, {
      connections: options.connectionsPerOrigin ?? 8,
      pipelining: 1,
      connect: { timeout: options.connectTimeoutMs ?? 10_000, ...options.tls },
    })
    pools.set(origin, pool)
    return pool
  }
  return {
    request: async (wanted) => {
      const url = new URL(wanted.url)
      const body = bodyOf(wanted.body)
      try {
        const answer = await request.call(poolOf(url.origin), {
          path: url.pathname + url.search,
          method: wanted.method,
          headers: { ...wanted.headers, ...(body === undefined ? {} : { 'content-length': String(body.length) }) },
          body: body?.content ?? null,
          signal: wanted.signal ?? null,
          headersTimeout: wanted.headersTimeoutMs ?? DEFAULT_TIMEOUT_MS,
          bodyTimeout: wanted.bodyTimeoutMs ?? DEFAULT_TIMEOUT_MS,
        })
        return { status: answer.statusCode, headers: joinHeaders(answer.headers), body: translateErrors(answer.body, url.origin) }
      } catch (error) {
        throw translate(error, url.origin)
      }
    },
    close: async () => {
      await Promise.all([...pools.values()].map((pool) => pool.destroy()))
      pools.clear()
    },
  }
}

function bodyOf(body: HttpRequest['body']): { length: number; content: Buffer | Readable } | undefined {
  if (body === undefined) return undefined
  if ('stream' in body) return { length: body.length, content: Readable.from(body.stream, { objectMode: false }) }
  const length = body.reduce((sum, piece) => sum + piece.length, 0)
  const only = body.length === 1 ? body[0] : undefined
  if (only !== undefined) return { length, content: Buffer.from(only.buffer, only.byteOffset, only.byteLength) }
  return { length, content: Readable.from(body, { objectMode: false }) }
}

function joinHeaders(headers: Readonly<Record<string, string | string[] | undefined>>): HttpResponse['headers'] {
  const out = new Map<string, string>()
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) out.set(name.toLowerCase(), Array.isArray(value) ? value.join(', ') : value)
  }
  return out
}

async function* translateErrors(body: AsyncIterable<Uint8Array>, origin: string): AsyncIterable<Uint8Array> {
  try {
    yield* body
  } catch (error) {
    throw translate(error, origin)
  }
}

/** What undici and the socket throw before a connection stands: the request was certainly not processed. */
const notConnected = new Set([
  'ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'EADDRNOTAVAIL', 'UND_ERR_CONNECT_TIMEOUT',
])

function translate(error: unknown, origin: string): AppError {
  if (error instanceof AppError) return error
  const code = codeOf(error)
  const message = error instanceof Error ? error.message : String(error)
  if (code === 'ABORT_ERR' || code === 'UND_ERR_ABORTED' || (error instanceof Error && error.name === 'AbortError')) {
    return new AppError('ABORTED', `request to ${origin} was given up`, { cause: error })
  }
  if (notConnected.has(code)) {
    return new AppError('CANNOT_CONNECT', `cannot connect to ${origin}: ${message}`, {
      cause: error,
      hint: 'check the address, and that the other side is running',
    })
  }
  if (code.startsWith('ERR_TLS') || code.includes('CERT') || code.startsWith('ERR_SSL')) {
    return new AppError('CANNOT_CONNECT', `TLS to ${origin} failed: ${message}`, {
      cause: error,
      hint: 'check the CA file and the name in the certificate',
    })
  }
  return new AppError('UNKNOWN_OUTCOME', `connection to ${origin} broke: ${message}`, { cause: error })
}

function codeOf(error: unknown): string {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; depth += 1) {
    const code: unknown = Reflect.get(at, 'code')
    if (typeof code === 'string') return code
    at = at instanceof AggregateError ? at.errors[0] : at.cause
  }
  return ''
}
