/**
 * The CLI's HTTP client: addresses, the token, and the translation of every failure into one AppError. Bodies are
 * streamed to the caller; only listings are read whole, under a cap.
 */
import type * as v from 'valibot'
import { AppError, isErrorCode } from '../../shared/errors.ts'
import type { HttpClient, HttpRequest, HttpResponse } from '../../shared/system.ts'
import {
  errorBodySchema, exportsResponseSchema, parseJson, paths, statusSchema, streamsResponseSchema, topicsResponseSchema,
  type CollectorStatus, type ExportInfo, type StreamInfo, type TopicInfo,
} from '../../shared/wire.ts'
import { MISSING_PATH, missingResponseSchema, type MissingResponse } from '../../shared/wire-missing.ts'
import type { CommandInput } from './command.ts'
import type { CliContext } from './context.ts'
import { usageError } from './exit-codes.ts'
import { readWholeFile } from './local-file.ts'
import { Progress } from './progress.ts'

const DEFAULT_SERVER = 'http://127.0.0.1:4280'
const LISTING_BYTES_MAX = 256 * 1024 * 1024
const ERROR_BODY_BYTES_MAX = 64 * 1024
const SMALL_FILE_BYTES_MAX = 1024 * 1024
/** A million streams: far above what one collector holds, and it ends a server that would page for ever. */
const STREAM_PAGES_MAX = 1000
/** Commands that scan may be silent for long before their first byte. */
const HEADERS_TIMEOUT_MS = 120_000

export type QueryValues = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>

export interface OpenOptions {
  readonly query?: QueryValues
  readonly headers?: Readonly<Record<string, string>>
  readonly method?: HttpRequest['method']
  readonly body?: readonly Uint8Array[]
  readonly signal?: AbortSignal
  /** Longest silence inside the answer; 0 = no limit. Default 120 s. */
  readonly bodyTimeoutMs?: number
}

export interface StreamSelection {
  readonly host?: string
  readonly path?: string
  readonly topic?: string
  readonly id?: string
}

export class CollectorClient {
  readonly server: string
  readonly signal: AbortSignal
  private readonly http: HttpClient
  private readonly token: string | undefined

  constructor(options: { http: HttpClient; server: string; token: string | undefined; signal: AbortSignal }) {
    this.http = options.http
    this.server = options.server
    this.token = options.token
    this.signal = options.signal
  }

  /** The head of a good answer; the caller reads the body or gives it up. Throws what the server's error body says. */
  async open(path: string, options: OpenOptions = {}): Promise<HttpResponse> {
    const response = await this.http.request({
      method: options.method ?? 'GET',
      url: `${this.server}${path}${queryString(options.query ?? {})}`,
      headers: {
        ...(this.token === undefined ? {} : { authorization: `Bearer ${this.token}` }),
        ...options.headers,
      },
      ...(options.body === undefined ? {} : { body: options.body }),
      signal: options.signal ?? this.signal,
      headersTimeoutMs: HEADERS_TIMEOUT_MS,
      bodyTimeoutMs: options.bodyTimeoutMs ?? HEADERS_TIMEOUT_MS,
    })
    if (response.status >= 200 && response.status < 300) return response
    throw await this.failure(response)
  }

  async json<S extends v.GenericSchema>(path: string, schema: S, options: OpenOptions = {}): Promise<v.InferOutput<S>> {
    const response = await this.open(path, options)
    const text = (await readBounded(response.body, LISTING_BYTES_MAX)).toString('utf8')
    return parseJson(schema, text, `answer to ${path}`)
  }

  async topics(): Promise<readonly TopicInfo[]> {
    return (await this.json(paths.topics, topicsResponseSchema)).topics
  }

  async exports(check?: 'length' | 'deep'): Promise<readonly ExportInfo[]> {
    // The check reads every exported byte back before the answer begins.
    return (await this.json(paths.exports, exportsResponseSchema, { query: { check }, bodyTimeoutMs: 0 })).exports
  }

  async status(): Promise<CollectorStatus> {
    return this.json(paths.status, statusSchema)
  }

  /** What a set-back has cost, as far as agents know. A store read without a collector, and an older collector, know nothing. */
  async missing(): Promise<MissingResponse> {
    try {
      return await this.json(MISSING_PATH, missingResponseSchema)
    } catch (error) {
      if (error instanceof AppError && error.code === 'NOT_FOUND') return { sinceMs: null, missing: [], confirmed: [] }
      throw error
    }
  }

  async *streams(selection: StreamSelection = {}): AsyncGenerator<StreamInfo> {
    let after: string | undefined
    for (let page = 0; page < STREAM_PAGES_MAX; page += 1) {
      const answer = await this.json(paths.streams, streamsResponseSchema, { query: { ...selection, after } })
      yield* answer.streams
      if (answer.next === null) return
      after = answer.next
    }
    throw new AppError('REMOTE_ERROR', `the list of streams did not end after ${STREAM_PAGES_MAX} pages`)
  }

  private async failure(response: HttpResponse): Promise<AppError> {
    const text = (await readBounded(response.body, ERROR_BODY_BYTES_MAX)).toString('utf8')
    let body
    try {
      body = parseJson(errorBodySchema, text, 'error').error
    } catch (error) {
      return new AppError(codeOfStatus(response.status), `${this.server} answered ${response.status} and no error that tailrace knows`, {
        cause: error,
        hint: 'check that --server is a tailrace collector and not a proxy or something else',
      })
    }
    const code = isErrorCode(body.code) ? body.code : codeOfStatus(response.status)
    return new AppError(code, body.message, {
      ...(body.hint === undefined ? hintFor(response.status) : { hint: body.hint }),
    })
  }
}

function codeOfStatus(status: number): 'UNAUTHENTICATED' | 'FORBIDDEN' | 'REMOTE_REFUSED' | 'REMOTE_ERROR' {
  if (status === 401) return 'UNAUTHENTICATED'
  if (status === 403) return 'FORBIDDEN'
  return status < 500 ? 'REMOTE_REFUSED' : 'REMOTE_ERROR'
}

function hintFor(status: number): { hint?: string } {
  return status === 401 ? { hint: 'give a token with --token-file or TAILRACE_TOKEN' } : {}
}

function queryString(values: QueryValues): string {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined || value === false) continue
    if (typeof value === 'object') for (const item of value) query.append(name, item)
    else query.append(name, value === true ? '1' : String(value))
  }
  const text = query.toString()
  return text === '' ? '' : `?${text}`
}

export async function readBounded(body: AsyncIterable<Uint8Array>, bytesMax: number): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  let total = 0
  for await (const piece of body) {
    total += piece.length
    if (total > bytesMax) throw new AppError('REMOTE_ERROR', `the collector's answer is over ${bytesMax} bytes`)
    pieces.push(piece)
  }
  return Buffer.concat(pieces, total)
}

/** A client by the options and the environment of a command. */
export async function connect(input: CommandInput, context: CliContext): Promise<CollectorClient> {
  const url = storeUrlOf(input)
  if (url !== undefined) return connectStore(url, input, context)
  const server = checkServer(input.text('server') ?? context.env['TAILRACE_SERVER'] ?? DEFAULT_SERVER)
  const tokenFile = input.text('tokenFile')
  const fromEnvironment = context.env['TAILRACE_TOKEN']
  const token = tokenFile === undefined ? fromEnvironment : await readSmallFile(context, tokenFile)
  const caFile = input.text('caFile')
  return new CollectorClient({
    http: caFile === undefined ? context.system.http : context.openHttp({ ca: await readSmallFile(context, caFile) }),
    server,
    token: token === undefined || token.trim() === '' ? undefined : checkToken(token.trim()),
    signal: context.signal,
  })
}

/** `--from` takes the URL of a store and, where there are cursors, a cursor: only a URL has a scheme. */
export function storeUrlOf(input: CommandInput): string | undefined {
  const [url, ...more] = input.list('from').filter((text) => isStoreUrl(text))
  if (more.length > 0) throw usageError('--from takes one store', 'several NameNodes of one store stand in one URL, with commas between')
  if (url !== undefined && input.text('server') !== undefined) throw usageError('--from and --server do not go together')
  return url
}

/** The cursor among the values of `--from`. */
export function cursorOf(input: CommandInput): string | undefined {
  const [cursor, ...more] = input.list('from').filter((text) => !isStoreUrl(text))
  if (more.length > 0) throw usageError('--from takes one cursor', 'a cursor names several partitions with commas between')
  return cursor
}

function isStoreUrl(text: string): boolean {
  return /^[a-z]+:\/\//.test(text)
}

async function connectStore(url: string, input: CommandInput, context: CliContext): Promise<CollectorClient> {
  const caFile = input.text('caFile')
  const progress = new Progress(context, { alsoOnTty: true })
  const source = {
    url,
    mode: input.text('hdfsMode') === 'httpfs' ? ('httpfs' as const) : ('webhdfs' as const),
    auth: input.text('hdfsAuth') === 'kerberos' ? ('kerberos' as const) : ('simple' as const),
    userName: input.text('hdfsUser'),
    tokenFile: input.text('hdfsTokenFile'),
    allowedHosts: input.list('hdfsAllowedHosts'),
    ca: caFile === undefined ? undefined : await readSmallFile(context, caFile),
  }
  try {
    const http = await context.openStore(source, (manifests) => progress.update(() => `${manifests} manifests read`))
    return new CollectorClient({ http, server: 'http://store', token: undefined, signal: context.signal })
  } finally {
    await progress.clear()
  }
}

function checkServer(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:') || url.hostname === '') {
    throw usageError(`${JSON.stringify(text)} is not the URL of a collector`, 'write it like http://127.0.0.1:4280')
  }
  if (url.username !== '' || url.password !== '') {
    throw usageError('a URL with a password in it is refused', 'use --token-file or TAILRACE_TOKEN')
  }
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '')
}

/** A token with a line break in it would become a header of its own. */
function checkToken(token: string): string {
  if (/^[\x21-\x7e]{1,4096}$/.test(token)) return token
  throw usageError('the token holds spaces or characters that no token has', 'the file must hold the token alone')
}

async function readSmallFile(context: CliContext, path: string): Promise<string> {
  return (await readWholeFile(context.system.fs, path, SMALL_FILE_BYTES_MAX)).toString('utf8')
}
