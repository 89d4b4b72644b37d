/**
 * `tailrace replay`: sends stored lines again, at their original pace or N times it. Ends are pinned when it begins, so
 * it always ends; with a checkpoint it goes on after a crash without sending a line twice to a file or a topic.
 */
import { parseDuration } from '../../shared/units.ts'
import { connect, storeUrlOf, type CollectorClient, type QueryValues } from './collector-client.ts'
import { serverOptions, storeOptions, type CommandInput, type CommandSpec } from './command.ts'
import type { CliContext } from './context.ts'
import { exitCodes, usageError } from './exit-codes.ts'
import { humanCount, humanTime } from './human.ts'
import { partitionKey, toObject, type OffsetVector } from './offset-vector.ts'
import { Output } from './output.ts'
import { Progress } from './progress.ts'
import { arrivalTimeText, filterOptions, filterValues } from './record-filter.ts'
import { recordFormats } from './record-format.ts'
import { loadCheckpoint, specHash, type ReplayCheckpoint } from './replay-checkpoint.ts'
import { ReplayPace, type PaceOptions } from './replay-pace.ts'
import { planByAsking, planByReading, planLines } from './replay-plan.ts'
import { ReplayRun, sourceOptions, type PreparedReplay } from './replay-run.ts'
import { openSink, parseSink, sinkText, type SinkSpec } from './replay-sink.ts'
import { ReplaySource } from './replay-source.ts'
import { globTest } from './stream-selection.ts'
import { wantsColor } from './terminal-text.ts'

export const replayCommand: CommandSpec = {
  name: 'replay',
  operands: ['[pattern]'],
  summary: 'send stored lines again, at their original pace, faster, or at once',
  examples: [
    { command: 'tailrace replay -t app -S 14:00 -U 15:00', meaning: 'that hour again, on stdout, as it happened' },
    { command: 'tailrace replay -t app -S 14:00 -U 15:00 --speed 10 --max-gap 5s --dry-run', meaning: 'say what it would do and how long it would take' },
    { command: 'tailrace replay -t app --to topic:app-test --speed max --checkpoint r.ckpt --execute', meaning: 'copy a topic; can be interrupted and goes on' },
    { command: 'tailrace replay -t app --host web-1 --to file:out.log --speed max', meaning: 'one host into a file' },
  ],
  options: [
    ...filterOptions,
    { flags: '--to <sink>', kind: 'text', help: 'stdout (default), file:PATH or topic:NAME' },
    { flags: '--speed <factor>', kind: 'text', help: 'times the original pace, or max (default 1)' },
    { flags: '--max-gap <duration>', kind: 'text', help: 'never wait longer than this between two lines' },
    { flags: '--checkpoint <file>', kind: 'text', help: 'remember how far it is, and go on from there next time' },
    { flags: '--dry-run', kind: 'flag', help: 'read all, send nothing, say what would be done' },
    { flags: '--execute', kind: 'flag', help: 'really write to a topic' },
    { flags: '-o, --output <format>', kind: 'choice', choices: recordFormats, help: 'of stdout and file (default raw)' },
    ...serverOptions,
    ...storeOptions,
  ],
  details: `${arrivalTimeText}
Lines of all partitions come in one order of time. A line that is older than one before it goes at once. A topic gets new
timestamps. After a crash a topic gets no line twice as long as the collector remembers the keys of the last groups.`,
  run: runReplay,
}

/** Lines due within this go together: a timer for each would be slower than the lines. */
const EARLY_MS = 10
/** Topics that one query may name. */
const TOPIC_NAMES_MAX = 64

async function runReplay(input: CommandInput, context: CliContext): Promise<number> {
  const prepared = await prepare(input, context)
  const source = sourceOptions(prepared)
  const isDry = input.flag('dryRun') || (prepared.sink.kind === 'topic' && !input.flag('execute'))
  const progress = new Progress(context, { alsoOnTty: isDry || prepared.sink.kind !== 'stdout' })
  const plan = input.flag('dryRun')
    ? await planByReading(new ReplaySource(source), prepared.pace, (count) => progress.update(() => `${humanCount(count)} records read`))
    : await planByAsking(prepared.client, prepared.values, { next: source.next, pace: prepared.pace })
  await progress.clear()
  const teller = new Output(isDry ? context.stdout : context.stderr)
  for (const line of planLines(plan, { topics: prepared.topics, sink: sinkText(prepared.sink), pace: prepared.pace, zone: input.zone })) await teller.line(line)
  if (prepared.isResumed) await teller.line(`goes on behind ${humanCount(prepared.state.records)} records that were sent before`)
  if (isDry) {
    await teller.line(input.flag('dryRun') ? 'dry run: nothing was sent' : 'nothing was sent: writing to a topic needs --execute')
    return exitCodes.ok
  }
  if (plan.records === 0 && prepared.state.pending === undefined) return prepared.isResumed ? exitCodes.ok : exitCodes.nothing
  return send(prepared, { progress, total: plan.records })
}

async function prepare(input: CommandInput, context: CliContext): Promise<PreparedReplay> {
  const sink = parseSink(input.text('to'))
  const pace = parsePace(input)
  if (sink.kind === 'topic' && storeUrlOf(input) !== undefined) throw usageError('a replay from a store goes to stdout or a file', 'replay into a topic from the collector that exports there')
  const client = await connect(input, context)
  const filters = filterValues(input, { nowMs: context.system.clock.nowMs() })
  const { next, ends } = await pinRange(client, input, sink)
  const spec = specHash([
    input.operands, ...['topic', 'partition', 'pattern'].map((name) => input.list(name)),
    ...['since', 'until', 'host', 'path', 'output'].map((name) => input.text(name) ?? null),
    ...['regex', 'word', 'ignoreCase', 'invert', 'utc'].map((name) => input.flag(name)), sinkText(sink),
  ])
  const checkpointPath = input.text('checkpoint')
  const saved = checkpointPath === undefined ? undefined : await loadCheckpoint(context.system.fs, checkpointPath, spec)
  const fresh: ReplayCheckpoint = {
    version: 1, spec, run: context.system.random.bytes(16).toString('hex'),
    sinceMs: asNumber(filters['since']), untilMs: asNumber(filters['until']),
    next: toObject(next), ends: toObject(ends), records: 0,
    ...(sink.kind === 'file' ? { fileBytes: 0 } : {}),
  }
  const state = saved ?? fresh
  const topics = topicsOf(state)
  const values = {
    ...filters,
    // Names, not globs: a topic that this replay creates must not be read by it. Records of other topics are dropped anyway.
    ...(topics.length <= TOPIC_NAMES_MAX ? { topic: topics } : {}),
    since: state.sinceMs ?? undefined, until: state.untilMs ?? undefined,
  }
  return { client, context, input, topics, sink, pace, values, state, isResumed: saved !== undefined, checkpointPath }
}

function asNumber(value: QueryValues[string]): number | null {
  return typeof value === 'number' ? value : null
}

function topicsOf(state: ReplayCheckpoint): string[] {
  return [...new Set(Object.keys(state.ends).map((key) => key.slice(0, key.lastIndexOf(':'))))]
}

function parsePace(input: CommandInput): PaceOptions {
  const text = input.text('speed') ?? '1'
  const speed = text === 'max' ? undefined : Number(text.replace(/x$/, ''))
  if (speed !== undefined && !(speed > 0 && speed <= 1e6)) throw usageError(`--speed ${text} is not a factor`, 'use a number like 0.5, 1 or 20, or max')
  const gap = input.text('maxGap')
  const maxGapMs = gap === undefined ? undefined : parseDuration(gap)
  if (gap !== undefined && maxGapMs === undefined) throw usageError(`--max-gap ${gap} is not a duration`, 'write it like 500ms, 5s or 1m')
  return { speed, maxGapMs }
}

async function pinRange(client: CollectorClient, input: CommandInput, sink: SinkSpec): Promise<{ next: OffsetVector; ends: OffsetVector }> {
  const globs = input.list('topic')
  const isWanted = globs.length === 0 ? () => true : globTest(globs)
  const partitions = new Set(input.list('partition').map(Number))
  const topics = (await client.topics()).filter(({ name }) => isWanted(name))
  if (sink.kind === 'topic' && topics.some(({ name }) => name === sink.topic)) {
    throw usageError(`topic ${sink.topic} is among the sources`, 'name the source topics with -t; a topic is never replayed into itself')
  }
  const next = new Map<string, number>()
  const ends = new Map<string, number>()
  for (const topic of topics) {
    for (const { partition, logStartOffset, highWatermark } of topic.partitions) {
      if (partitions.size > 0 && !partitions.has(partition)) continue
      next.set(partitionKey(topic.name, partition), logStartOffset)
      ends.set(partitionKey(topic.name, partition), highWatermark)
    }
  }
  if (ends.size === 0) throw usageError('there is no such topic or partition', 'tailrace topics lists what there is')
  return { next, ends }
}

async function send(prepared: PreparedReplay, { progress, total }: { progress: Progress; total: number }): Promise<number> {
  const { context, client, input, state, isResumed } = prepared
  const format = {
    format: recordFormats.find((name) => name === input.text('output')) ?? ('raw' as const), zone: input.zone,
    color: wantsColor({ isTty: context.stdout.isTty, env: context.env }), separators: false,
  }
  const run = new ReplayRun(prepared)
  // Before the file is made: a crash between the two must leave a checkpoint that knows the file is ours.
  await run.save()
  const sink = await openSink(prepared.sink, { context, client, format, resumeAt: isResumed ? (state.fileBytes ?? 0) : undefined })
  const pace = new ReplayPace(prepared.pace)
  try {
    await run.repeatPending(sink)
    const source = new ReplaySource({ ...sourceOptions(prepared), next: run.vector })
    const startMs = context.system.clock.monotonicMs()
    for await (const record of source.records()) {
      const waitMs = startMs + pace.dueMs(record.ts) - context.system.clock.monotonicMs()
      if (waitMs > EARLY_MS || !run.hasRoomFor(record)) await run.sendGroup(sink)
      if (waitMs > EARLY_MS) await context.system.clock.sleep(waitMs, context.signal)
      run.add(record)
      await progress.update(() => `${humanCount(run.sent)} of about ${humanCount(total)} records, at ${humanTime(record.ts, input.zone)}`)
    }
    await run.sendGroup(sink)
    await run.finish(sink)
    await progress.clear()
    const stderr = new Output(context.stderr)
    await stderr.line(`sent ${humanCount(run.sent)} records${pace.late > 0 ? `, ${humanCount(pace.late)} of them out of order` : ''}`)
    for (const text of source.missing) await stderr.line(`missing: ${text}`)
    return source.missing.length > 0 ? exitCodes.partial : exitCodes.ok
  } finally {
    await progress.clear()
    await sink.close()
  }
}
