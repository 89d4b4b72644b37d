/**
 * `tailrace verify`: do source, log and export hold the same bytes? Walks the whole log, partition by partition, and
 * names stream, byte range and place of every difference. Changes nothing.
 */
import { toAppError } from '../../shared/errors.ts'
import type { ExportInfo, StreamInfo, TopicInfo } from '../../shared/wire.ts'
import type { MissingStream } from '../../shared/wire-missing.ts'
import { connect, type CollectorClient } from './collector-client.ts'
import { jsonOption, serverOptions, storeOptions, streamFilterOptions, type CommandInput, type CommandSpec } from './command.ts'
import type { CliContext } from './context.ts'
import { exitCodes } from './exit-codes.ts'
import { humanBytes, humanCount } from './human.ts'
import { Output } from './output.ts'
import { beginStream, walkPartition, type WalkedPartition, type WalkedStream, type WalkTools } from './partition-walk.ts'
import { Progress } from './progress.ts'
import { Generations, findSource, SourceReader } from './source-compare.ts'
import { globTest, streamTest } from './stream-selection.ts'
import { putJson } from './table.ts'
import { visibleText } from './terminal-text.ts'
import { damagesBeside, judgeLostStream, judgePartition, judgeStream, lostAmong, type Damage, type PartitionVerdict, type SetBack, type StreamVerdict } from './verdict.ts'

type Row = StreamVerdict | PartitionVerdict

export const verifyCommand: CommandSpec = {
  name: 'verify',
  summary: 'compare source files, log and export; exit 1 on any difference',
  examples: [
    { command: 'tailrace verify', meaning: 'everything; sources of this machine are read and compared' },
    { command: 'tailrace verify --deep', meaning: 'read every exported byte back from the store as well' },
    { command: "tailrace verify --host web-1 --path '/var/log/app/**'", meaning: 'some files only' },
    { command: "tailrace verify --json | jq -r '.[] | select(.kind == \"stream\") | [.sha256, .path] | @tsv'", meaning: 'checksums for scripts' },
  ],
  options: [
    ...streamFilterOptions,
    { flags: '--deep', kind: 'flag', help: 'check exported segments by content; without it by presence and length' },
    { flags: '--local-host <name>', kind: 'text', help: "sources of this host are files here (default: this machine's name)" },
    jsonOption,
    ...serverOptions,
    ...storeOptions,
  ],
  details: `For each stream: every batch in the log is opened (CRC, hashes, place in the stream), the bytes are hashed and, where
the source file is on this machine, compared one by one. What retention dropped is told ("log begins at byte N"); it is
exit code 3 where it was not exported either. After the data folder was set back to an older copy or restored, what is
missing is named as far as a live agent knows it; a stream that nobody can speak for is "unknown above" its position.

What tailrace does not promise, and verify can't find: E1 bytes destroyed before an agent read them (file deleted while
the agent was down; the window of copytruncate). E2 files rewritten in place, also with the same contents. E3 loss of the
collector's only disk before export. E4 bytes that the application had not handed to the kernel. E5 all HDFS replicas
losing power before their DataNodes flush. E6 an operator deleting both the collector's data and the manifests on HDFS.`,
  run: runVerify,
}

interface Job {
  readonly topic: string
  readonly partition: number
  readonly endOffset: number
  readonly streams: readonly StreamInfo[]
}

async function runVerify(input: CommandInput, context: CliContext): Promise<number> {
  const client = await connect(input, context)
  const isPartial = ['host', 'path', 'stream'].some((name) => input.text(name) !== undefined)
  // Streams first, watermarks after: so every position that is listed lies below the pinned ends.
  const isWanted = streamTest(input)
  const streams: StreamInfo[] = []
  const generations = new Generations()
  for await (const stream of client.streams()) {
    generations.note(stream)
    if (isWanted(stream)) streams.push(stream)
  }
  const jobs = planJobs(streams, { topics: await client.topics(), input, isPartial })
  const report = new Report(input, context)
  if (isPartial && streams.length === 0) {
    await report.say('tailrace: no stream matches the filters')
    return exitCodes.nothing
  }
  const setBack = await setBackOf(client)
  const exports = await client.exports(input.flag('deep') ? 'deep' : 'length')
  const sources = new SourceReader(context.system.fs)
  try {
    const tools = { client, zstd: await context.loadZstd(), sources }
    for (const job of jobs) await verifyPartition(job, { tools, report, exports, setBack, generations, isPartial, input, context })
    for (const told of isPartial ? [] : lostWhole(setBack, streams)) await report.add(judgeLostStream(told))
  } finally {
    await sources.close()
  }
  return report.finish()
}

function planJobs(
  streams: readonly StreamInfo[],
  { topics, input, isPartial }: { topics: readonly TopicInfo[]; input: CommandInput; isPartial: boolean },
): Job[] {
  const globs = input.list('topic')
  const isTopic = globs.length === 0 ? () => true : globTest(globs)
  return topics.filter(({ name }) => isTopic(name)).flatMap((topic) =>
    topic.partitions
      .map(({ partition, highWatermark }) => ({
        topic: topic.name, partition, endOffset: highWatermark,
        streams: streams.filter((stream) => stream.topic === topic.name && stream.partition === partition),
      }))
      .filter((job) => !isPartial || job.streams.length > 0),
  )
}

interface Verifying {
  readonly tools: Omit<WalkTools, 'onProgress'>
  readonly report: Report
  readonly exports: readonly ExportInfo[]
  readonly setBack: SetBack
  readonly generations: Generations
  readonly isPartial: boolean
  readonly input: CommandInput
  readonly context: CliContext
}

async function verifyPartition(job: Job, verifying: Verifying): Promise<void> {
  const { tools, report, isPartial } = verifying
  const exports = verifying.exports.find(({ topic, partition }) => topic === job.topic && partition === job.partition)
  const streams = new Map<string, WalkedStream>()
  for (const info of job.streams) streams.set(info.id, beginStream(info, await sourceOf(info, verifying)))
  const walk = { topic: job.topic, partition: job.partition, endOffset: job.endOffset, streams, onlyStreams: isPartial, voids: voidsOf(exports) }
  const walked = await walkPartition(walk, { ...tools, onProgress: (at) => report.progress(job, at) })
  // Behind the walk: much damage is only met by reading.
  const damages = (await damagesOf(tools.client)).filter(({ topic, partition }) => topic === job.topic && partition === job.partition)
  for (const stream of streams.values()) await report.add(judgeStream({ stream, walked, exports, damages, setBack: verifying.setBack }))
  const lostStreams = isPartial ? [] : await lostStreamsOf(walked, tools.client)
  await report.add(judgePartition({ ...job, walked, exports: isPartial ? undefined : exports, lostStreams, damages: isPartial ? [] : damagesBeside(damages, job.streams) }))
}

function voidsOf(exports: ExportInfo | undefined): { from: number; to: number }[] {
  return (exports?.segments ?? []).filter(({ state }) => state === 'void').map(({ baseOffset, nextOffset }) => ({ from: baseOffset, to: nextOffset }))
}

async function setBackOf(client: CollectorClient): Promise<SetBack> {
  const { sinceMs, missing, confirmed } = await client.missing()
  return { sinceMs: sinceMs ?? undefined, missing: new Map(missing.map((each) => [each.id, each])), confirmed: new Set(confirmed) }
}

/** Streams that the log has nothing of. */
function lostWhole({ missing }: SetBack, streams: readonly StreamInfo[]): MissingStream[] {
  const known = new Set(streams.map(({ id }) => id))
  return [...missing.values()].filter(({ id, stored }) => stored === 0 && !known.has(id))
}

/** What the collector knows to be gone from its disk, though reading goes on from the export. */
async function damagesOf(client: CollectorClient): Promise<Damage[]> {
  try {
    const { alarms } = await client.status()
    return alarms.flatMap(({ message, range }) => (range === undefined ? [] : [{ ...range, message }]))
  } catch (thrown) {
    const error = toAppError(thrown)
    // An export store read without a collector has no status.
    if (error.code === 'NOT_FOUND') return []
    throw error
  }
}

async function sourceOf(info: StreamInfo, { input, context, generations }: Verifying): ReturnType<typeof findSource> {
  const here = input.text('localHost') ?? context.hostName
  if (info.host !== here) return { kind: 'elsewhere' }
  return generations.isNewest(info) ? findSource(context.system.fs, info) : { kind: 'replaced' }
}

/** Streams may have begun since the list was taken, so it is asked for again before one is called lost. */
async function lostStreamsOf(walked: WalkedPartition, client: CollectorClient): Promise<string[]> {
  if (walked.unknownStreams.size === 0) return []
  const known: StreamInfo[] = []
  for await (const stream of client.streams()) if (walked.unknownStreams.has(stream.id)) known.push(stream)
  return lostAmong(walked.unknownStreams, known)
}

/** Prints rows as they come; with --json all of them at the end, as one array. */
class Report {
  private readonly rows: Row[] = []
  private readonly counts = { streams: 0, partitions: 0, segments: 0, bytes: 0, differs: 0, incomplete: 0 }
  private readonly isJson: boolean
  private readonly stdout: Output
  private readonly stderr: Output
  private readonly bar: Progress

  constructor(input: CommandInput, context: CliContext) {
    this.isJson = input.flag('json')
    this.stdout = new Output(context.stdout)
    this.stderr = new Output(context.stderr)
    this.bar = new Progress(context, { alsoOnTty: true })
  }

  say(text: string): Promise<void> {
    return this.stderr.line(text)
  }

  progress(job: Job, walked: WalkedPartition): Promise<void> {
    return this.bar.update(() => `${job.topic}-${job.partition}: ${humanCount(walked.batches)} batches, ${humanBytes(walked.bytes)}`)
  }

  async add(row: Row): Promise<void> {
    this.count(row)
    if (this.isJson) {
      this.rows.push(row)
      return
    }
    if (row.kind === 'partition' && row.verdict === 'ok') return
    await this.bar.clear()
    for (const line of row.kind === 'stream' ? streamLines(row) : partitionLines(row)) this.stdout.put(`${visibleText(line)}\n`)
    await this.stdout.flush()
  }

  async finish(): Promise<number> {
    await this.bar.clear()
    const { streams, partitions, segments, bytes, differs, incomplete } = this.counts
    if (this.isJson) {
      await putJson(this.rows, this.stdout)
      await this.stdout.flush()
    } else {
      const found = differs > 0 ? `${differs} DIFFER` : incomplete > 0 ? `no difference, but ${incomplete} incomplete` : 'no difference'
      await this.stdout.line(
        `${streams} streams in ${partitions} partitions (${humanBytes(bytes)} in the log), ${segments} exported segments: ${found}`,
      )
    }
    if (differs > 0) return exitCodes.nothing
    return incomplete > 0 ? exitCodes.partial : exitCodes.ok
  }

  private count(row: Row): void {
    if (row.verdict === 'differs') this.counts.differs += 1
    if (row.verdict === 'incomplete') this.counts.incomplete += 1
    if (row.kind === 'stream') {
      this.counts.streams += 1
      return
    }
    this.counts.partitions += 1
    this.counts.segments += row.exportedSegments
    this.counts.bytes += row.bytes
  }
}

function streamLines(row: StreamVerdict): string[] {
  const word = row.verdict === 'ok' ? 'ok' : row.verdict === 'differs' ? 'DIFFERS' : 'INCOMPLETE'
  const facts = [
    word.padEnd(10), row.id.slice(0, 12), `${row.host}:${row.path}`, `${row.topic}-${row.partition}`, `generation ${row.generation}`,
    `position ${row.position}`, `sha256 ${row.sha256}`, `source ${row.source}`, ...(row.exported ? ['exported'] : []),
  ]
  return [facts.join('  '), ...row.problems.map((text) => `    ${text}`), ...row.notes.map((text) => `    note: ${text}`)]
}

function partitionLines(row: PartitionVerdict): string[] {
  return [`DIFFERS     ${row.topic}-${row.partition}  offsets ${row.firstOffset} to ${row.endOffset}`, ...row.problems.map((text) => `    ${text}`)]
}
