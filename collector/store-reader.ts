/**
 * The reading half of a collector over an export store, in this process and without a port: what `--from URL` of the
 * CLI talks to. The same routes and the same query engine, so that the same question has the same answer. It answers
 * what a reader may ask and nothing else.
 */
import type { Handler, ServerRequest, ServerResponse } from '../shared/http-handler.ts'
import type { HttpClient, HttpRequest, HttpResponse, System } from '../shared/system.ts'
import type { Zstd } from '../shared/zstd.ts'
import { ExportedFiles } from './export/exported-files.ts'
import { ExportedLog } from './export/exported-log.ts'
import { partitionName } from './export/journal-format.ts'
import { openRemoteStore, type StoreOptions } from './export/open-store.ts'
import { readCatalog } from './export/store-catalog.ts'
import { StoreLog } from './export/store-log.ts'
import type { WebHdfsTransport } from './export/webhdfs-client.ts'
import type { Role } from './http/auth.ts'
import { createListingsRoutes } from './http/listings.ts'
import { createReadRoutes } from './http/read.ts'
import { createRouter } from './http/router.ts'
import { createTopicListingRoutes } from './http/topics.ts'
import { createInProcessExecutor } from './query/in-process-executor.ts'
import { QueryEngine } from './query/query-engine.ts'

export interface StoreReaderOptions {
  /** As of the collector's `hdfs` or `exportTo`. */
  readonly url: string
  readonly store: StoreOptions
  readonly transport: WebHdfsTransport
  readonly zstd: Zstd
  readonly signal: AbortSignal
  readonly onProgress: (manifests: number) => Promise<void>
}

const reader = { name: 'reader', roles: new Set<Role>(['read']), identity: undefined }

/** Reads the manifests; NOT_FOUND where nothing was exported. Failures of handlers come as they are, not as answers. */
export async function openStoreReader(system: System, options: StoreReaderOptions): Promise<HttpClient> {
  const store = openRemoteStore(options.url, options.store, { system, ...options.transport })
  const catalog = await readCatalog({ store, log: system.log, signal: options.signal, onProgress: options.onProgress })
  const files = new ExportedFiles(system, { store, cache: undefined })
  const log = new StoreLog(catalog, new ExportedLog(system, { files, segments: (topic, partition) => catalog.partitions.get(partitionName({ topic, partition })) ?? new Map() }))
  const engine = new QueryEngine({ log, executor: createInProcessExecutor(options.zstd), clock: system.clock })
  const handler = createRouter({
    routes: [...createReadRoutes({ log, engine }), ...createListingsRoutes({ log, exports: undefined }), ...createTopicListingRoutes(log)],
    authenticate: () => reader,
    isKnownHost: () => true,
  })
  return { request: async (request) => toHttpResponse(await ask(handler, request)), close: () => store.close() }
}

function ask(handler: Handler, { method, url, headers, body, signal }: HttpRequest): Promise<ServerResponse> {
  const { pathname, searchParams } = new URL(url)
  const request: ServerRequest = {
    method,
    path: pathname,
    query: searchParams,
    headers: new Map(Object.entries(headers ?? {}).map(([name, value]) => [name.toLowerCase(), value])),
    contentLength: undefined,
    body: bodyOf(body),
    remoteAddress: '127.0.0.1',
    certificateNames: [],
    signal: signal ?? new AbortController().signal,
  }
  return handler(request)
}

async function* bodyOf(body: HttpRequest['body']): AsyncGenerator<Uint8Array> {
  if (body !== undefined) yield* 'stream' in body ? body.stream : body
}

function toHttpResponse({ status, headers, body }: ServerResponse): HttpResponse {
  return { status, headers: new Map(Object.entries(headers ?? {})), body: piecesOf(body) }
}

async function* piecesOf(body: ServerResponse['body']): AsyncGenerator<Uint8Array> {
  if (typeof body === 'string') yield Buffer.from(body)
  else if (body instanceof Uint8Array) yield body
  else if (body !== undefined) yield* body
}
