/**
 * Settings of the collector: the table that the YAML reader and the flags are made of, the rules between keys, and the
 * typed config that everything else sees. Reading files (certificates, the config itself) is main.ts's part.
 */
import { isIP } from 'node:net'
import { AppError } from '../shared/errors.ts'
import { inFileOrder, soundValues, type ParsedSettings, type SettingProblem, type SettingTable, type SettingValues } from '../shared/settings.ts'
import { COLLECTOR_PORT, wireLimits } from '../shared/wire.ts'
import { parseHdfsUrl, type StoreOptions } from './export/open-store.ts'
import type { TopicConfig } from './storage/topic-log.ts'

const KIB = 1024
const MIB = 1024 * KIB
const GIB = 1024 * MIB

export const collectorSettings = {
  data: { kind: 'string', required: true, help: 'folder of the logs; made when it is not there' },
  listen: { kind: 'string', default: `127.0.0.1:${COLLECTOR_PORT}`, help: 'address and port; port 0 = any free one' },
  partitions: { kind: 'integer', default: 4, min: 1, max: 1024, help: 'partitions of a topic that is made on first use' },
  segmentBytes: { kind: 'bytes', default: '256MiB', min: 64 * KIB, max: GIB, help: 'a segment is rolled at this size' },
  segmentAge: { kind: 'duration', default: '1h', min: 1000, help: 'a segment is rolled at this age, also on quiet topics' },
  retentionBytes: { kind: 'bytes', min: MIB, help: 'what each partition keeps on this disk (default: everything)' },
  retentionAge: { kind: 'duration', min: 1000, help: 'how long records stay on this disk, by append time (default: for ever)' },
  autoCreateTopics: { kind: 'boolean', default: true, help: 'make a topic when something is sent to it' },
  exportTo: { kind: 'string', help: 'where rolled segments are copied to: file:///folder' },
  hdfs: { kind: 'string', help: 'the same over WebHDFS: http://namenode:9870/folder, several NameNodes with commas between' },
  hdfsMode: { kind: 'choice', choices: ['webhdfs', 'httpfs'], default: 'webhdfs', help: 'what answers at the hdfs address' },
  hdfsAuth: { kind: 'choice', choices: ['simple', 'kerberos'], default: 'simple', help: 'simple: hdfsUser is believed; kerberos: SPNEGO, by the npm package kerberos' },
  hdfsUser: { kind: 'string', help: 'user.name for clusters with simple authentication' },
  hdfsDoAs: { kind: 'string', help: 'user to act for' },
  hdfsTokenFile: { kind: 'string', help: 'file with a delegation token' },
  hdfsCaFile: { kind: 'string', help: 'certificates that the cluster may be signed by' },
  hdfsAllowedHosts: { kind: 'list', help: 'where a NameNode may redirect to: names, .suffixes, addresses, CIDR blocks (default: its neighbours)' },
  hdfsDataNodes: { kind: 'map', help: 'DataNode host or host:port, and what to connect to instead' },
  exportParallel: { kind: 'integer', default: 4, min: 1, max: 64, help: 'partitions that upload at the same time' },
  tables: { kind: 'choice', choices: ['none', 'jsonl', 'parquet'], default: 'none', help: 'warehouse tables beside the exported segments, in folders by day and hour' },
  tableLateness: { kind: 'duration', default: '10m', min: 0, max: 7 * 24 * 3_600_000, help: 'how long an hour of the tables waits for late lines before it counts as complete' },
  readBackCacheBytes: { kind: 'bytes', default: '1GiB', min: 0, max: 1024 * GIB, help: 'disk for what is read back from HDFS after it was dropped here; 0 = none' },
  auth: { kind: 'choice', choices: ['none', 'tokens'], default: 'none', help: 'whether callers need a bearer token' },
  tlsCert: { kind: 'string', help: 'file with the certificate of this collector' },
  tlsKey: { kind: 'string', help: 'file with its key' },
  tlsClientCa: { kind: 'string', help: 'file with the authority of client certificates; their names fix agent id and host' },
  adminNames: { kind: 'list', help: 'names in client certificates that may do everything' },
  readNames: { kind: 'list', help: 'names in client certificates that may read' },
  allowedHosts: { kind: 'list', help: 'names in Host headers that are ours, beside the loopback names and the address listened on' },
  insecure: { kind: 'boolean', help: 'allow listening beyond loopback without TLS and authentication' },
  memory: { kind: 'bytes', default: '128MiB', min: 32 * MIB, max: 64 * GIB, help: 'bytes of requests held at once; more are told to come back' },
  maxConnections: { kind: 'integer', default: 4096, min: 16, max: 100_000, help: 'connections held at once' },
  drainTimeout: { kind: 'duration', default: '10s', min: 0, max: 600_000, help: 'time for requests under way when stopping' },
  acceptDuplicates: { kind: 'boolean', help: 'take lines although the positions of streams are lost; files are stored twice' },
  logLevel: { kind: 'choice', choices: ['debug', 'info', 'warn', 'error'], default: 'info', help: 'what the collector says about itself' },
} as const satisfies SettingTable

export type CollectorSettings = SettingValues<typeof collectorSettings>

export interface ListenAddress {
  readonly host: string
  readonly port: number
}

export interface TlsFiles {
  readonly certFile: string
  readonly keyFile: string
  readonly clientCaFile: string | undefined
}

export interface ExportConfig {
  readonly url: string
  readonly caFile: string | undefined
  readonly parallel: number
  /** 0 (default) = nothing is kept. */
  readonly readBackCacheBytes?: number
  /** Default: none. */
  readonly tables?: { readonly format: 'jsonl' | 'parquet'; readonly latenessMs: number }
  readonly store: StoreOptions
}

export interface CollectorConfig {
  readonly dataDirectory: string
  readonly listen: ListenAddress
  readonly topicDefaults: TopicConfig
  readonly autoCreateTopics: boolean
  readonly export: ExportConfig | undefined
  readonly hasTokens: boolean
  readonly tls: TlsFiles | undefined
  readonly adminNames: readonly string[]
  readonly readNames: readonly string[]
  readonly allowedHosts: readonly string[]
  readonly memoryBytes: number
  readonly maxConnections: number
  readonly drainMs: number
  readonly acceptDuplicates: boolean
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error'
}

/** The config, or every mistake at once: those of single values and those between keys. */
export function toCollectorConfig(
  parsed: ParsedSettings<typeof collectorSettings>,
): { readonly config: CollectorConfig } | { readonly problems: readonly SettingProblem[] } {
  const sound = soundValues(parsed)
  const problems = [...parsed.problems]
  const complain = (key: keyof CollectorSettings, message: string): void => {
    problems.push({ line: parsed.lines.get(key), key, message })
  }
  const listen = sound.listen === undefined ? undefined : parseListen(sound.listen)
  if (listen === undefined && sound.listen !== undefined) complain('listen', `${JSON.stringify(sound.listen)} is not an address such as 127.0.0.1:4280 or [::1]:4280`)
  checkTls(sound, complain)
  if (listen !== undefined) checkExposure(sound, listen, complain)
  checkExport(sound, complain)
  if (problems.length > 0 || listen === undefined) return { problems: inFileOrder(problems) }
  return { config: build(parsed.values, listen) }
}

/** Without what is wrong by itself. */
type SoundSettings = Partial<CollectorSettings>
type Complain = (key: keyof CollectorSettings, message: string) => void

/** `host:port`, `[v6]:port`, `:port` (every address). */
export function parseListen(text: string): ListenAddress | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]*)):([0-9]{1,5})$/.exec(text)
  if (match === null) return undefined
  const port = Number(match[3])
  if (port > 65_535) return undefined
  if (match[1] !== undefined) return isIP(match[1]) === 6 ? { host: match[1], port } : undefined
  return { host: match[2] === '' ? '::' : (match[2] ?? ''), port }
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}

function checkTls({ tlsCert, tlsKey, tlsClientCa, adminNames, readNames }: SoundSettings, complain: Complain): void {
  if (tlsCert !== undefined && tlsKey === undefined) complain('tlsCert', 'needs tlsKey as well')
  if (tlsKey !== undefined && tlsCert === undefined) complain('tlsKey', 'needs tlsCert as well')
  if (tlsClientCa !== undefined && tlsCert === undefined) complain('tlsClientCa', 'needs tlsCert and tlsKey: there are no client certificates without TLS')
  if (tlsClientCa !== undefined) return
  if ((adminNames?.length ?? 0) > 0) complain('adminNames', 'needs tlsClientCa: the names are those of client certificates')
  if ((readNames?.length ?? 0) > 0) complain('readNames', 'needs tlsClientCa: the names are those of client certificates')
}

/** Log lines hold secrets, and whoever can write may fill the disk: beyond loopback only with both, or knowingly. */
function checkExposure(values: SoundSettings, { host }: ListenAddress, complain: Complain): void {
  if (isLoopback(host) || values.insecure !== false) return
  const missing = [
    ...(values.tlsCert === undefined ? ['TLS (tlsCert, tlsKey)'] : []),
    ...(values.auth === 'none' && values.tlsClientCa === undefined ? ['authentication (auth: tokens, or tlsClientCa)'] : []),
  ]
  if (missing.length > 0) complain('listen', `${host} is reachable from other machines, and there is no ${missing.join(' and no ')}; add it, or say insecure`)
}

function checkExport({ exportTo, hdfs, hdfsAuth, hdfsTokenFile, tables, retentionBytes, segmentBytes }: SoundSettings, complain: Complain): void {
  if (exportTo !== undefined && hdfs !== undefined) complain('exportTo', 'there is one export: give exportTo or hdfs')
  if (exportTo !== undefined && !exportTo.startsWith('file:///')) complain('exportTo', `${JSON.stringify(exportTo)} is not a URL such as file:///srv/tailrace`)
  if (hdfsAuth === 'kerberos' && hdfsTokenFile !== undefined) complain('hdfsTokenFile', 'is another way to authenticate than hdfsAuth: kerberos; give one of the two')
  if (hdfs !== undefined) {
    try {
      parseHdfsUrl(hdfs)
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      complain('hdfs', `${error.message}${error.hint === undefined ? '' : `; ${error.hint}`}`)
    }
  }
  if (tables !== undefined && tables !== 'none' && exportTo === undefined && hdfs === undefined) complain('tables', 'needs an export: give hdfs or exportTo')
  // Retention drops whole segments, and never the active one.
  if (retentionBytes !== undefined && segmentBytes !== undefined && retentionBytes < segmentBytes) complain('retentionBytes', 'is less than one segment (segmentBytes)')
}

function build(values: CollectorSettings, listen: ListenAddress): CollectorConfig {
  const { tlsCert, tlsKey } = values
  return {
    dataDirectory: values.data,
    listen,
    topicDefaults: {
      partitions: values.partitions,
      segmentBytes: values.segmentBytes,
      segmentAgeMs: values.segmentAge,
      retentionBytes: values.retentionBytes,
      retentionAgeMs: values.retentionAge,
    },
    autoCreateTopics: values.autoCreateTopics,
    export: exportOf(values),
    hasTokens: values.auth === 'tokens',
    tls: tlsCert === undefined || tlsKey === undefined ? undefined : { certFile: tlsCert, keyFile: tlsKey, clientCaFile: values.tlsClientCa },
    adminNames: values.adminNames,
    readNames: values.readNames,
    allowedHosts: values.allowedHosts,
    memoryBytes: Math.max(values.memory, 2 * wireLimits.batchesRequestBytesMax),
    maxConnections: values.maxConnections,
    drainMs: values.drainTimeout,
    acceptDuplicates: values.acceptDuplicates,
    logLevel: values.logLevel,
  }
}

function exportOf(values: CollectorSettings): ExportConfig | undefined {
  const url = values.exportTo ?? values.hdfs
  if (url === undefined) return undefined
  return {
    url,
    caFile: values.hdfsCaFile,
    parallel: values.exportParallel,
    ...(values.tables === 'none' ? {} : { tables: { format: values.tables, latenessMs: values.tableLateness } }),
    // A folder of this machine is as near as its cache would be.
    readBackCacheBytes: url.startsWith('file:') ? 0 : values.readBackCacheBytes,
    store: {
      mode: values.hdfsMode,
      auth: values.hdfsAuth,
      ...(values.hdfsUser === undefined ? {} : { userName: values.hdfsUser }),
      ...(values.hdfsDoAs === undefined ? {} : { doAs: values.hdfsDoAs }),
      ...(values.hdfsTokenFile === undefined ? {} : { delegationTokenFile: values.hdfsTokenFile }),
      allowedHosts: values.hdfsAllowedHosts,
      dataNodeHosts: values.hdfsDataNodes,
    },
  }
}
