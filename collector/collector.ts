/**
 * The collector put together: log, export, queries, API. Start order: the log recovers, the export asks whose its store
 * is, only then the port opens; so whoever is answered is answered by a whole collector. It stops the other way round.
 * Nothing that was acknowledged depends on stopping in order.
 *
 * Used by main.ts, and by tests and programs that want a collector in their own process.
 */
import { assert, toAppError, type AppError } from '../shared/errors.ts'
import { readTextFile } from '../shared/files.ts'
import type { Handler } from '../shared/http-handler.ts'
import { serveHttp, type RunningServer, type ServeOptions, type ServerTls } from '../shared/http-server.ts'
import type { HttpClient, System } from '../shared/system.ts'
import { wireLimits, type CollectorStatus, type ExportInfo } from '../shared/wire.ts'
import { VERSION } from '../shared/version.ts'
import type { Zstd } from '../shared/zstd.ts'
import type { CollectorConfig, ExportConfig, TlsFiles } from './config.ts'
import { openBlockCache } from './export/block-cache.ts'
import { ExportedFiles } from './export/exported-files.ts'
import { ExportedLog } from './export/exported-log.ts'
import { createExporter, type Exporter } from './export/exporter.ts'
import { openRemoteStore } from './export/open-store.ts'
import type { EncoderHost } from './export/tables/encoder-host.ts'
import { TieredLog } from './export/tiered-log.ts'
import { createHostCheck } from './host-names.ts'
import type { ExportView } from './http/listings.ts'
import { createReadRoutes } from './http/read.ts'
import { createCollectorHandler } from './http/server.ts'
import { SetBackBook } from './http/set-back.ts'
import { loadTokens, type StoredToken } from './http/tokens.ts'
import { QueryEngine } from './query/query-engine.ts'
import type { ScanExecutor } from './query/scan-types.ts'
import type { ReadableLog } from './storage/topic-log.ts'
import { openTopicStore, type TopicStore } from './storage/topic-store.ts'

export interface CollectorDependencies {
  readonly zstd: Zstd
  readonly executor: ScanExecutor
  /** Where table files are made; needed where the config asks for tables. */
  readonly tableEncoder?: EncoderHost
  /** Clients for the export store; not needed for a `file://` one. */
  readonly exportHttp: { readonly http: HttpClient; readonly streamingHttp: HttpClient }
  /** Something broke that only a restart can judge: a failed sync, a bug. Called once or more; the process should end. */
  readonly onFatal: (error: unknown) => void
  /** How the API is offered. Default: on a port; the simulation takes the handler as it is. */
  readonly serve?: (handler: Handler, options: ServeOptions) => Promise<RunningServer>
}

export interface RunningCollector {
  readonly port: number
  readonly url: string
  /** Tokens and certificates are read anew. */
  reload(): Promise<void>
  /** Rolls every partition and exports all there is; nothing where no export is configured. */
  exportNow(): Promise<void>
  close(): Promise<void>
}

const TLS_FILE_BYTES_MAX = 1024 * 1024
const MAINTAIN_EVERY_MS = 1000

export async function startCollector(system: System, config: CollectorConfig, deps: CollectorDependencies): Promise<RunningCollector> {
  // In reverse on a failed start and on close: whoever was opened last goes first.
  const closers: (() => Promise<void>)[] = []
  try {
    return await assemble(system, config, { ...deps, closers })
  } catch (error) {
    await closeAll(closers, system)
    throw error
  }
}

type Assembly = CollectorDependencies & { readonly closers: (() => Promise<void>)[] }

async function assemble(system: System, config: CollectorConfig, deps: Assembly): Promise<RunningCollector> {
  const { closers, zstd } = deps
  const tokens = { list: await readTokens(system, config) }
  const tls = config.tls === undefined ? undefined : await readTls(system, config.tls)
  const log = await openTopicStore(system, {
    dataDir: config.dataDirectory,
    zstd,
    defaults: config.topicDefaults,
    batchContentBytesMax: wireLimits.batchContentBytesMax,
    acceptDuplicates: config.acceptDuplicates,
    onFatal: deps.onFatal,
  })
  closers.push(() => log.close())
  const exporting = config.export === undefined ? undefined : await startExport(system, config, { ...deps, log, export: config.export })
  const exporter = exporting?.exporter
  if (exporter !== undefined) closers.push(() => exporter.close())
  closers.push(startMaintenance(system, log, deps.onFatal))
  closers.push(() => deps.executor.close())
  const readable = exporting?.readable ?? log
  const engine = new QueryEngine({ log: readable, executor: deps.executor, clock: system.clock })
  const server = await listen(system, config, {
    ...deps,
    log,
    readable,
    exporter,
    tls,
    tokens: config.hasTokens ? () => tokens.list : undefined,
    engine,
    setBack: await SetBackBook.open(system, log, config.dataDirectory),
  })
  closers.push(() => server.close({ drainMs: config.drainMs }))
  system.log.info('collector is ready', { url: server.url, data: config.dataDirectory, clusterId: log.clusterId, exportTo: exporter?.description })
  return {
    port: server.port,
    url: server.url,
    reload: async () => {
      tokens.list = await readTokens(system, config)
      if (config.tls !== undefined) server.reloadTls(await readTls(system, config.tls))
    },
    exportNow: async () => exporter?.exportNow(),
    close: () => closeAll(closers, system),
  }
}

async function readTokens(system: System, config: CollectorConfig): Promise<readonly StoredToken[]> {
  if (!config.hasTokens) return []
  const tokens = await loadTokens(system, config.dataDirectory)
  if (tokens.length === 0) system.log.warn('there is no token yet, so nobody gets in', { hint: 'tailrace-collector token create' })
  return tokens
}

async function readTls(system: System, files: TlsFiles): Promise<ServerTls> {
  const read = (path: string): Promise<string> => readTextFile(system.fs, path, TLS_FILE_BYTES_MAX)
  const [cert, key] = await Promise.all([read(files.certFile), read(files.keyFile)])
  return files.clientCaFile === undefined ? { cert, key } : { cert, key, clientCa: await read(files.clientCaFile) }
}

interface ExportParts extends CollectorDependencies {
  readonly log: TopicStore
  readonly export: ExportConfig
}

interface Exporting {
  readonly exporter: Exporter
  /** The log with what was exported and dropped here. */
  readonly readable: ReadableLog
}

async function startExport(system: System, config: CollectorConfig, { log, zstd, exportHttp, tableEncoder, onFatal, export: wanted }: ExportParts): Promise<Exporting> {
  const store = openRemoteStore(wanted.url, wanted.store, { system, ...exportHttp })
  assert(wanted.tables === undefined || tableEncoder !== undefined, 'tables need an encoder')
  const tables = wanted.tables === undefined || tableEncoder === undefined ? {} : { tables: { ...wanted.tables, encoder: tableEncoder } }
  const exporter = createExporter(system, { log, store, zstd, dataDir: config.dataDirectory, parallel: wanted.parallel, onFatal, ...tables })
  // Before anything maintains the log: retention must never run without knowing what is exported.
  log.setExportedOffset((topic, partition) => exporter.exportedOffset(topic, partition))
  await exporter.start()
  const bytesMax = wanted.readBackCacheBytes ?? 0
  const cache = bytesMax === 0 ? undefined : await openBlockCache(system, { directory: `${config.dataDirectory}/cache`, bytesMax })
  const files = new ExportedFiles(system, { store, cache })
  const exported = new ExportedLog(system, { files, segments: (topic, partition) => exporter.segments(topic, partition) })
  return { exporter, readable: new TieredLog(log, exported) }
}

interface Served extends CollectorDependencies {
  readonly log: TopicStore
  readonly readable: ReadableLog
  readonly exporter: Exporter | undefined
  readonly tls: ServerTls | undefined
  readonly tokens: (() => readonly StoredToken[]) | undefined
  readonly engine: QueryEngine
  readonly setBack: SetBackBook
}

function listen(system: System, config: CollectorConfig, parts: Served): Promise<RunningServer> {
  const { log, readable, exporter, tls } = parts
  const handler = createCollectorHandler({
    system,
    log,
    readable,
    zstd: parts.zstd,
    auth: {
      tokens: parts.tokens,
      hasCertificates: config.tls?.clientCaFile !== undefined,
      adminNames: config.adminNames,
      readNames: config.readNames,
    },
    isKnownHost: createHostCheck(config),
    allowsNewTopics: config.autoCreateTopics,
    memoryBytes: config.memoryBytes,
    version: VERSION,
    dataDirectory: config.dataDirectory,
    exports: exporter === undefined ? undefined : exportView(exporter),
    exportTo: exporter?.description,
    alarms: (): CollectorStatus['alarms'] => [...log.alarms(), ...(exporter?.alarms() ?? [])],
    confirmClock: () => log.confirmClock(),
    setBack: parts.setBack,
    closedBecause: (): AppError | undefined => exporter?.refusal(),
    readRoutes: createReadRoutes({ log: readable, engine: parts.engine }),
  })
  return (parts.serve ?? serveHttp)(handler, {
    ...config.listen,
    clock: system.clock,
    log: system.log,
    maxConnections: config.maxConnections,
    onBug: parts.onFatal,
    ...(tls === undefined ? {} : { tls }),
  })
}

/** Segments listed for each partition where nobody asked for a check: the newest are what people look at. */
const SEGMENTS_LISTED_MAX = 1000

function exportView(exporter: Exporter): ExportView {
  return {
    list: async ({ check, signal }) => {
      const list = exporter.status(check === undefined ? { segmentsMax: SEGMENTS_LISTED_MAX } : {})
      return check === undefined ? list : withChecks(list, exporter, { isDeep: check === 'deep', signal })
    },
    exportNow: () => exporter.exportNow(),
    skippable: (topic, partition) => exporter.skippable(topic, partition),
    skip: (topic, partition, range) => exporter.skip(topic, partition, range),
  }
}

async function withChecks(list: readonly ExportInfo[], exporter: Exporter, options: { isDeep: boolean; signal: AbortSignal }): Promise<readonly ExportInfo[]> {
  const found = new Map<string, ExportInfo['segments'][number]['check']>()
  for await (const { topic, partition, baseOffset, result } of exporter.verify({ deep: options.isDeep, signal: options.signal })) {
    found.set(`${topic}/${partition}/${baseOffset}`, result)
  }
  return list.map((each) => ({
    ...each,
    segments: each.segments.map((segment) => {
      const check = found.get(`${each.topic}/${each.partition}/${segment.baseOffset}`)
      return check === undefined ? segment : { ...segment, check }
    }),
  }))
}

/** Rolling by age, retention, snapshots: once a second until closed, never twice at once. */
function startMaintenance(system: System, log: TopicStore, onFatal: (error: unknown) => void): () => Promise<void> {
  const stop = new AbortController()
  const loop = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      await system.clock.sleep(MAINTAIN_EVERY_MS, stop.signal).catch(ignoreAbort)
      if (stop.signal.aborted) return
      try {
        await log.maintain()
      } catch (error) {
        const failure = toAppError(error)
        if (!failure.retryable) throw error
        // Such as a full disk: the next round tries again.
        system.log.warn('maintenance has to wait', { error: failure })
      }
    }
  }
  const ended = loop().catch(onFatal)
  return async () => {
    stop.abort()
    await ended
  }
}

function ignoreAbort(error: unknown): void {
  if (toAppError(error).code !== 'ABORTED') throw error
}

/** Every one gets its turn, whatever the others do; the first failure is told at the end. */
async function closeAll(closers: (() => Promise<void>)[], { log }: Pick<System, 'log'>): Promise<void> {
  const failures: unknown[] = []
  for (const close of closers.splice(0).reverse()) {
    try {
      await close()
    } catch (error) {
      log.error('a part did not close', { error })
      failures.push(error)
    }
  }
  if (failures.length > 0) throw failures[0]
}
