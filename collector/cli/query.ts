/** `tailrace query`: lines that match, streamed as they are found. `-f` goes on as `tail` does (follow.ts). */
import { timeUnitNames } from '../../shared/time-count.ts'
import { serverOptions, storeOptions, type CommandInput, type CommandSpec } from './command.ts'
import { connect, cursorOf, storeUrlOf, type CollectorClient, type QueryValues } from './collector-client.ts'
import type { CliContext } from './context.ts'
import { checkCountBy, countsHead, writeCounts } from './count-by.ts'
import { exitCodes, usageError } from './exit-codes.ts'
import { follow } from './follow.ts'
import { humanBytes, humanCount, humanDuration } from './human.ts'
import { Output } from './output.ts'
import { Progress } from './progress.ts'
import { QueryStream } from './query-stream.ts'
import { arrivalTimeText, filterOptions, filterValues } from './record-filter.ts'
import { createRecordWriter, recordFormats, type RecordFormat, type RecordWriter } from './record-format.ts'
import { wantsColor } from './terminal-text.ts'

/** On a terminal, unless -n says otherwise: more scrolls away unread. */
const TTY_LINES = 1000
const FOLLOW_LINES = 10

export const contextOptions = [
  { flags: '-A, --after <lines>', kind: 'integer', help: 'lines of the same file after each match' },
  { flags: '-B, --before <lines>', kind: 'integer', help: 'lines of the same file before each match' },
  { flags: '-C, --context <lines>', kind: 'integer', help: 'both' },
] as const

export const printOptions = [
  { flags: '-n, --lines <count>', kind: 'integer', help: 'only the newest lines, in order; 0 = no limit (default on a terminal 1000, with -f 10, else no limit)' },
  { flags: '-o, --output <format>', kind: 'choice', choices: recordFormats, help: 'how lines are printed (default text)' },
] as const

export const queryCommand: CommandSpec = {
  name: 'query',
  operands: ['[pattern]'],
  summary: 'print the lines that hold a text; no pattern means every line',
  examples: [
    { command: "tailrace query 'connection refused' -t app -S 1h -C 2", meaning: 'the last hour of one topic, with two lines around each match' },
    { command: "tailrace query -E ' 5[0-9]{2} ' --path '/var/log/nginx/*' -S yesterday -U today -c", meaning: 'count the server errors of yesterday' },
    { command: 'tailrace query timeout -t app -S 1h --count-by minute', meaning: 'how many there were in each minute' },
    { command: 'tailrace query -i -e timeout -e refused -n 20', meaning: 'the newest 20 lines with either word' },
    { command: 'tailrace query -t app -S 2026-03-01 -U 2026-03-02 -o raw > day.log', meaning: 'every line of a day, as it was written' },
    { command: "tailrace query 'disk full' --from webhdfs://namenode:9870/tailrace", meaning: 'straight from the export, with no collector' },
    { command: 'tailrace query -t app -f -o json | jq .line', meaning: 'follow, one JSON object a line' },
  ],
  options: [
    ...filterOptions,
    { flags: '-c, --count', kind: 'flag', help: 'print only how many lines match' },
    { flags: '--count-by <unit>', kind: 'choice', choices: timeUnitNames, help: 'print how many lines match in each second, minute, hour or day (of UTC) of arrival that has any' },
    { flags: '-q, --quiet', kind: 'flag', help: 'print nothing; the exit code tells whether a line matches' },
    ...contextOptions,
    ...printOptions,
    { flags: '-r, --reverse', kind: 'flag', help: 'newest first' },
    { flags: '-f, --follow', kind: 'flag', help: 'go on with new lines until interrupted' },
    { flags: '--stats', kind: 'flag', help: 'tell on stderr what the query cost, and its cursor' },
    ...serverOptions,
    ...storeOptions.map((option) => (option.flags === '--from <url>' ? { ...option, flags: '--from <url|cursor>', help: `${option.help}; or begin at the offsets of an earlier cursor: topic:partition@offset,…` } : option)),
  ],
  details: `${arrivalTimeText}\nA query ends at the newest line there was when it began; lines are in order of arrival, and lines of one file in file order.`,
  run: (input, context) => runQuery(input, context),
}

export async function runQuery(input: CommandInput, context: CliContext): Promise<number> {
  checkCountBy(input)
  checkFlags(input)
  const client = await connect(input, context)
  const values = filterValues(input, { nowMs: context.system.clock.nowMs() })
  if (input.text('countBy') !== undefined) return countQuery(input, context, { client, values })
  if (input.flag('follow')) return followQuery(input, context, { client, values })
  if (input.flag('quiet')) return quietQuery(client, values)
  return printQuery(input, context, { client, values })
}

function checkFlags(input: CommandInput): void {
  if (!input.flag('follow')) return
  if (storeUrlOf(input) !== undefined) throw usageError('an export store does not grow by lines, so there is nothing to follow')
  const name = ['count', 'quiet', 'reverse'].find((option) => input.flag(option)) ?? (input.text('until') === undefined ? undefined : 'until')
  if (name !== undefined) throw usageError(`--${name} and --follow do not go together`)
}

interface Prepared {
  readonly client: CollectorClient
  readonly values: QueryValues
}

async function quietQuery(client: CollectorClient, values: QueryValues): Promise<number> {
  const stream = new QueryStream(client, { ...values, limit: 1 })
  for await (const block of stream.blocks()) if (block.length > 0) return exitCodes.ok
  return (stream.end?.missing.length ?? 0) > 0 ? exitCodes.partial : exitCodes.nothing
}

/** Counts of each stretch of time that has matches; the last line of the answer tells whether that was all. */
async function countQuery(input: CommandInput, context: CliContext, { client, values }: Prepared): Promise<number> {
  const stdout = new Output(context.stdout)
  const stream = new QueryStream(client, { ...values, countBy: input.text('countBy'), from: cursorOf(input) })
  const format = input.text('output') ?? 'text'
  stdout.put(countsHead(format))
  for await (const block of stream.blocks()) {
    writeCounts(stdout, block, { format, zone: input.zone })
    if (stdout.isFull) await stdout.flush()
  }
  await stdout.flush()
  if (stream.end?.truncated === true) await new Output(context.stderr).line('newer lines were not counted: too many stretches of time; -U narrows, a longer --count-by does too')
  return summarize(stream, { input, context, lines: undefined })
}

async function printQuery(input: CommandInput, context: CliContext, { client, values }: Prepared): Promise<number> {
  const lines = input.integer('lines') ?? (context.stdout.isTty ? TTY_LINES : 0)
  const stdout = new Output(context.stdout)
  const stream = new QueryStream(client, {
    ...values,
    ...limitValues(lines, { reverse: input.flag('reverse'), count: input.flag('count') }),
    ...contextValues(input),
    from: cursorOf(input),
  })
  const writer = writerFor(input, context, stdout)
  const progress = new Progress(context, { alsoOnTty: false })
  let printed = 0
  try {
    for await (const block of stream.blocks()) {
      printed += writer.writeBlock(block)
      if (stdout.isFull || stdout.isTty) await stdout.flush()
      await progress.update(() => `${humanCount(printed)} lines`)
    }
  } finally {
    await progress.clear()
    await stdout.flush()
  }
  if (input.flag('count')) await stdout.line(String(stream.end?.matched ?? 0))
  return summarize(stream, { input, context, lines })
}

function contextValues(input: CommandInput): QueryValues {
  const around = input.integer('context')
  return { before: input.integer('before') ?? around, after: input.integer('after') ?? around }
}

function limitValues(lines: number, options: { readonly reverse: boolean; readonly count: boolean }): QueryValues {
  if (options.count) return { count: true }
  if (options.reverse) return { reverse: true, limit: lines === 0 ? undefined : lines }
  return { last: lines === 0 ? undefined : lines }
}

async function summarize(stream: QueryStream, facts: { input: CommandInput; context: CliContext; lines: number | undefined }): Promise<number> {
  const { end } = stream
  if (end === undefined) return exitCodes.partial
  const stderr = new Output(facts.context.stderr)
  for (const hole of end.missing) {
    await stderr.line(`missing: ${hole.topic}-${hole.partition} offsets ${hole.fromOffset} to ${hole.toOffset}: ${hole.reason}`)
  }
  if (end.truncated && facts.lines !== undefined && facts.input.integer('lines') === undefined) {
    await stderr.line(`only the newest ${facts.lines} lines; -n 0 shows all, -S narrows`)
  }
  if (facts.input.flag('stats')) {
    await stderr.line(
      `${humanCount(end.matched)} matches · ${humanCount(end.batchesRead)}/${humanCount(end.batches)} batches read · ` +
        `${humanBytes(end.bytesRead)} read, ${humanBytes(end.contentBytes)} searched · ${humanDuration(end.ms)} · cursor ${end.cursor}`,
    )
  }
  if (end.missing.length > 0) return exitCodes.partial
  return end.matched > 0 ? exitCodes.ok : exitCodes.nothing
}

function writerFor(input: CommandInput, context: CliContext, stdout: Output): RecordWriter {
  const format: RecordFormat = recordFormats.find((name) => name === input.text('output')) ?? 'text'
  return createRecordWriter(stdout, {
    format,
    zone: input.zone,
    color: wantsColor({ isTty: context.stdout.isTty, env: context.env }),
    separators: ['after', 'before', 'context'].some((name) => input.text(name) !== undefined),
  })
}

/**
 * With -S what arrived since then is printed first, by a query whose cursor the tail takes up: no line is lost or
 * doubled between the two. Without it the tail itself begins with the newest lines.
 */
async function followQuery(input: CommandInput, context: CliContext, { client, values }: Prepared): Promise<number> {
  const stdout = new Output(context.stdout)
  const writer = writerFor(input, context, stdout)
  const lines = input.integer('lines')
  const tailValues = { ...values, ...contextValues(input), since: undefined, until: undefined }
  const from = cursorOf(input)
  if (input.text('since') === undefined && lines !== 0) {
    const last = from === undefined ? (lines ?? FOLLOW_LINES) : lines
    return follow({ client, context, stdout, writer, values: { ...tailValues, from, last } })
  }
  const stream = new QueryStream(client, { ...values, ...contextValues(input), from, last: lines === 0 ? undefined : lines })
  for await (const block of stream.blocks()) {
    writer.writeBlock(block)
    if (stdout.isFull || stdout.isTty) await stdout.flush()
  }
  await stdout.flush()
  return follow({ client, context, stdout, writer, values: { ...tailValues, from: stream.end?.cursor } })
}
