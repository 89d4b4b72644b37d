/**
 * Settings of the agent: the table that the YAML reader and the flags are made of, and the typed config that everything
 * else sees. Rules between keys are checked here; reading the file is main.ts's.
 */
import { assert } from '../shared/errors.ts'
import { encodeLabels, labelProblems, type Labels } from '../shared/labels.ts'
import { inFileOrder, inSection, soundValues, type ParsedSettings, type SettingProblem, type SettingSection, type SettingTable, type SettingValues } from '../shared/settings.ts'
import { AGENT_ADMIN_PORT, isTopicName, wireLimits } from '../shared/wire.ts'

const KIB = 1024
const MIB = 1024 * KIB

/** What may differ between the inputs of one agent. What an input does not set is as it is at the top. */
const inputSettings = {
  topic: { kind: 'string', required: true, help: 'topic that the lines go to' },
  files: { kind: 'list', required: true, help: 'globs of the files to follow; ** spans directories' },
  exclude: { kind: 'list', help: 'globs of files to leave alone' },
  startAt: { kind: 'choice', choices: ['beginning', 'end'], help: 'where files begin that are unknown to the collector' },
  ignoreOlder: { kind: 'duration', min: 1000, help: 'leave unknown files alone that were not written for so long' },
  followSymlinks: { kind: 'boolean', help: 'follow symbolic links to files and directories' },
  labels: { kind: 'map', help: 'more static labels' },
} as const satisfies SettingTable

export const agentSettings = {
  collector: { kind: 'string', required: true, help: 'address of the collector, such as http://127.0.0.1:4280' },
  topic: { kind: 'string', required: true, unless: 'inputs', help: 'topic that the lines go to' },
  files: { kind: 'list', required: true, unless: 'inputs', help: 'globs of the files to follow; ** spans directories' },
  inputs: { kind: 'sections', table: inputSettings, help: 'several topics: a list of maps with topic, files, and what of exclude, startAt, ignoreOlder, followSymlinks, labels differs' },
  exclude: {
    kind: 'list',
    default: ['*.gz', '*.zst', '*.xz', '*.bz2', '*.journal', '*.journal~', 'wtmp', 'btmp', 'lastlog'],
    help: 'globs of files to leave alone; one without a slash is matched against the name',
  },
  startAt: { kind: 'choice', choices: ['beginning', 'end'], default: 'beginning', help: 'where files that are there at the start and unknown to the collector begin' },
  ignoreOlder: { kind: 'duration', min: 1000, help: 'leave unknown files alone that were not written for so long' },
  followSymlinks: { kind: 'boolean', help: 'follow symbolic links to files and directories' },
  labels: { kind: 'map', help: 'static labels of the lines, such as env: prod; up to 16' },
  agentId: { kind: 'string', help: 'name of this agent; a new one begins all files anew (default: the host name)' },
  host: { kind: 'string', help: 'host in the record keys (default: the host name)' },
  lineBytesMax: { kind: 'bytes', default: '512KiB', min: 256, max: 768 * KIB, help: 'longer lines are cut into parts' },
  batchBytesMax: { kind: 'bytes', default: '1MiB', min: 16 * KIB, max: 4 * MIB, help: 'raw size of a batch' },
  lingerMs: { kind: 'duration', default: '20ms', max: 60_000, help: 'gap between batches of one file at first' },
  lingerMsMax: { kind: 'duration', default: '250ms', max: 60_000, help: 'gap between batches of one file under steady load' },
  memory: { kind: 'bytes', default: '16MiB', min: 4 * MIB, max: 4096 * MIB, help: 'bytes of all buffers together' },
  unterminatedAfter: { kind: 'duration', default: '30s', min: 100, help: 'ship a line without a newline after so much quiet' },
  rotateGrace: { kind: 'duration', default: '10s', min: 100, help: 'keep a rotated or deleted file open until it was quiet for so long' },
  prefixCheck: { kind: 'boolean', default: true, help: 'hash what was adopted once more in the background, and begin anew where it differs' },
  sweepInterval: { kind: 'duration', default: '1s', min: 20, max: 60_000, help: 'how often directories are looked at, watched or not' },
  watch: { kind: 'boolean', default: true, help: 'watch directories for changes; the sweep alone does where that is off' },
  openFilesMax: { kind: 'integer', default: 1000, min: 16, max: 100_000, help: 'descriptors held at most' },
  compress: { kind: 'choice', choices: ['fast', 'default', 'best'], default: 'default', help: 'how hard zstd works' },
  rateLimit: { kind: 'bytes', min: 64 * KIB, help: 'source bytes a second at most, for catching up' },
  token: { kind: 'string', help: 'bearer token; TAILRACE_TOKEN or tokenFile keep it out of the process list' },
  tokenFile: { kind: 'string', help: 'file that holds the bearer token; read again when it changes' },
  tlsCaFile: { kind: 'string', help: 'certificates that the collector may be signed by' },
  tlsCertFile: { kind: 'string', help: 'client certificate' },
  tlsKeyFile: { kind: 'string', help: 'key of the client certificate' },
  admin: { kind: 'string', default: `127.0.0.1:${AGENT_ADMIN_PORT}`, help: 'address of metrics and status; "off" for none' },
  once: { kind: 'boolean', help: 'ship to the end of what is there, then exit' },
  reship: { kind: 'boolean', help: 'ship every file from its beginning once more' },
  logLevel: { kind: 'choice', choices: ['debug', 'info', 'warn', 'error'], default: 'info', help: 'what the agent says about itself' },
} as const satisfies SettingTable

export type AgentSettings = SettingValues<typeof agentSettings>

export interface InputConfig {
  readonly topic: string
  readonly files: readonly string[]
  readonly exclude: readonly string[]
  readonly startAt: 'beginning' | 'end'
  readonly ignoreOlderMs: number | undefined
  readonly followSymlinks: boolean
  /** Encoded (shared/labels.ts); absent = none. */
  readonly labels?: Buffer
}

export interface AgentConfig {
  readonly collectorUrl: string
  readonly inputs: readonly InputConfig[]
  readonly agentId: string
  readonly host: string
  readonly lineBytesMax: number
  readonly batchBytesMax: number
  readonly lingerMs: number
  readonly lingerMsMax: number
  readonly memoryBytes: number
  readonly unterminatedAfterMs: number
  readonly rotateGraceMs: number
  readonly sweepMs: number
  readonly isWatching: boolean
  readonly isPrefixChecked: boolean
  readonly openFilesMax: number
  readonly compressLevel: number
  readonly rateLimitBytes: number | undefined
  readonly isOnce: boolean
  readonly isReship: boolean
}

/**
 * zstd levels. Measured in pieces of 1 MiB of the loghub files, Node 24: level 1 makes 10.4 of 1 at 712 MB/s a core, -5
 * 5.9 at 992, 9 12.0 at 79; levels 2 to 4 are slower than 1 and no smaller.
 */
const compressLevels = { fast: -5, default: 1, best: 9 } as const

/** Every mistake at once: those of single values and those between keys. */
export function agentProblems(parsed: ParsedSettings<typeof agentSettings>): readonly SettingProblem[] {
  const values = soundValues(parsed)
  const problems = [...parsed.problems]
  const complain = (key: string, message: string): void => {
    problems.push({ line: parsed.lines.get(key), key, message })
  }
  const { collector, lineBytesMax, batchBytesMax, lingerMs, lingerMsMax, memory } = values
  if (collector !== undefined && !isCollectorUrl(collector)) complain('collector', 'must be http://host:port or https://host:port')
  checkInput(values, complain)
  const { inputs } = parsed.values
  for (const key of ['topic', 'files'] as const) {
    if (inputs.length > 0 && (values[key]?.length ?? 0) > 0) complain(key, 'goes into each of the inputs where there are inputs')
  }
  for (const [at, input] of inputs.entries()) problems.push(...inputProblems(input, values.labels ?? {}).map((problem) => inSection(`inputs[${at}]`, problem)))
  const labels = [values.labels ?? {}, ...inputs.map((input) => ({ ...values.labels, ...input.values.labels }))]
  const extraBytes = RECORD_BYTES_EXTRA + Math.max(...labels.map((each) => encodeLabels(each)?.length ?? 0))
  if (lineBytesMax !== undefined && batchBytesMax !== undefined && lineBytesMax + extraBytes > batchBytesMax) {
    complain('lineBytesMax', `must be at least ${extraBytes === RECORD_BYTES_EXTRA ? '16KiB' : '16KiB and the labels'} below batchBytesMax, so that one line always fits a batch`)
  }
  if (lingerMs !== undefined && lingerMsMax !== undefined && lingerMs > lingerMsMax) complain('lingerMs', 'must not be over lingerMsMax')
  if (memory !== undefined && batchBytesMax !== undefined && memory < 4 * batchBytesMax) complain('memory', 'must be at least four times batchBytesMax')
  if (values.tokenFile !== undefined && values.token !== undefined) complain('token', 'give token or tokenFile, not both')
  if ((parsed.values.tlsCertFile === undefined) !== (parsed.values.tlsKeyFile === undefined)) complain('tlsCertFile', 'needs tlsKeyFile, and the other way round')
  if (values.host !== undefined && values.host.includes(':')) complain('host', 'must not hold a colon')
  if (values.admin !== undefined && values.admin !== 'off' && parseAddress(values.admin) === undefined) complain('admin', 'must be host:port or off')
  return inFileOrder(problems)
}

type Input = SettingSection<typeof inputSettings>

function checkInput({ topic, files, labels }: { topic?: string | undefined; files?: readonly string[]; labels?: Labels }, complain: (key: string, message: string) => void): void {
  if (topic !== undefined && !isTopicName(topic)) complain('topic', 'must have 1 to 200 of a-z A-Z 0-9 . _ - and not begin with a dot')
  for (const glob of files ?? []) if (!glob.startsWith('/')) complain('files', `${glob} must begin with a slash`)
  for (const problem of labelProblems(labels ?? {})) complain('labels', problem)
}

/** With keys of the input. Its labels are looked at together with those of the top. */
function inputProblems(input: Input, labels: Labels): SettingProblem[] {
  const problems: SettingProblem[] = []
  const complain = (key: string, message: string): void => {
    problems.push({ line: input.lines.get(key) ?? input.line, key, message })
  }
  const values = soundValues(input)
  const own = values.labels ?? {}
  const isFine = labelProblems(own).length === 0 && labelProblems(labels).length === 0
  checkInput({ ...values, labels: isFine ? { ...labels, ...own } : own }, complain)
  return problems
}

/** Key, headers and lengths around a line's bytes. */
const RECORD_BYTES_EXTRA = 16 * KIB

function isCollectorUrl(text: string): boolean {
  if (!URL.canParse(text)) return false
  const url = new URL(text)
  return (url.protocol === 'http:' || url.protocol === 'https:') && url.pathname === '/' && url.search === ''
}

/** `host:port`; a port of 0 lets the kernel choose. */
export function parseAddress(text: string): { host: string; port: number } | undefined {
  const match = /^(\[[0-9a-f:]+\]|[^:\s]+):([0-9]{1,5})$/i.exec(text)
  if (match?.[1] === undefined || Number(match[2]) > 65_535) return undefined
  return { host: match[1].replace(/^\[|\]$/g, ''), port: Number(match[2]) }
}

export function agentConfig(values: AgentSettings, hostName: string): AgentConfig {
  const { topic } = values
  assert(topic !== undefined || values.inputs.length > 0, 'settings without problems have a topic or inputs')
  return {
    collectorUrl: values.collector.replace(/\/$/, ''),
    inputs: topic === undefined ? values.inputs.map((input) => inputOf(input, values)) : [inputConfig({ ...values, topic })],
    agentId: values.agentId ?? hostName,
    host: values.host ?? hostName,
    lineBytesMax: values.lineBytesMax,
    batchBytesMax: Math.min(values.batchBytesMax, wireLimits.batchContentBytesMax),
    lingerMs: values.lingerMs,
    lingerMsMax: values.lingerMsMax,
    memoryBytes: values.memory,
    unterminatedAfterMs: values.unterminatedAfter,
    rotateGraceMs: values.rotateGrace,
    sweepMs: values.sweepInterval,
    isWatching: values.watch,
    isPrefixChecked: values.prefixCheck,
    openFilesMax: values.openFilesMax,
    compressLevel: compressLevels[values.compress],
    rateLimitBytes: values.rateLimit,
    isOnce: values.once,
    isReship: values.reship,
  }
}

type InputValues = Pick<AgentSettings, 'files' | 'exclude' | 'startAt' | 'ignoreOlder' | 'followSymlinks' | 'labels'> & { readonly topic: string }

function inputConfig(values: InputValues): InputConfig {
  const labels = encodeLabels(values.labels)
  return {
    topic: values.topic,
    files: values.files,
    exclude: values.exclude,
    startAt: values.startAt,
    ignoreOlderMs: values.ignoreOlder,
    followSymlinks: values.followSymlinks,
    ...(labels === undefined ? {} : { labels }),
  }
}

function inputOf({ values, lines }: Input, top: AgentSettings): InputConfig {
  return inputConfig({
    topic: values.topic,
    files: values.files,
    exclude: lines.has('exclude') ? values.exclude : top.exclude,
    startAt: values.startAt ?? top.startAt,
    ignoreOlder: values.ignoreOlder ?? top.ignoreOlder,
    followSymlinks: lines.has('followSymlinks') ? values.followSymlinks : top.followSymlinks,
    labels: { ...top.labels, ...values.labels },
  })
}
