/** `tailrace topics`: list, create, alter, delete. */
import * as v from 'valibot'
import { parseBytes, parseDuration } from '../../shared/units.ts'
import { checkTopicName, paths, type TopicInfo } from '../../shared/wire.ts'
import { jsonOption, serverOptions, type CommandInput, type CommandSpec, type OptionSpec } from './command.ts'
import { connect } from './collector-client.ts'
import type { CliContext } from './context.ts'
import { exitCodes, usageError } from './exit-codes.ts'
import { humanBytes, humanDuration } from './human.ts'
import { Output } from './output.ts'
import { globTest } from './stream-selection.ts'
import { printTable } from './table.ts'

const configOptions: readonly OptionSpec[] = [
  { flags: '--partitions <count>', kind: 'integer', help: 'partitions; can be raised later, never lowered below what is used' },
  { flags: '--segment-bytes <size>', kind: 'text', help: 'roll a segment at this size: 256MiB' },
  { flags: '--segment-age <duration>', kind: 'text', help: 'roll a segment at this age: 1h' },
  { flags: '--retention-bytes <size>', kind: 'text', help: 'keep at most this much in each partition; none = everything' },
  { flags: '--retention-age <duration>', kind: 'text', help: 'keep at most this long: 30d; none = for ever' },
]

const listCommand: CommandSpec = {
  name: 'list',
  summary: 'list the topics with their settings and sizes',
  examples: [{ command: 'tailrace topics list --json', meaning: 'for scripts' }],
  options: [{ flags: '-t, --topic <glob>', kind: 'list', help: 'only these topics' }, jsonOption, ...serverOptions],
  run: listTopics,
}

const createCommand: CommandSpec = {
  name: 'create',
  operands: ['<name>'],
  summary: 'create a topic; without it, a topic is made on first use with the defaults of the collector',
  examples: [{ command: 'tailrace topics create app --partitions 8 --retention-age 30d', meaning: 'eight partitions, a month of lines' }],
  options: [...configOptions, ...serverOptions],
  run: (input, context) => changeTopic(input, context, 'create'),
}

const alterCommand: CommandSpec = {
  name: 'alter',
  operands: ['<name>'],
  summary: 'change the settings of a topic; streams stay in their partitions',
  examples: [{ command: 'tailrace topics alter app --retention-bytes 50GiB', meaning: 'keep at most 50 GiB in each partition' }],
  options: [...configOptions, ...serverOptions],
  run: (input, context) => changeTopic(input, context, 'alter'),
}

const deleteCommand: CommandSpec = {
  name: 'delete',
  operands: ['<name>'],
  summary: 'delete a topic and its local segments; files are not shipped again, exported segments stay',
  examples: [{ command: 'tailrace topics delete scratch --dry-run', meaning: 'without --dry-run it is gone' }],
  options: [{ flags: '--dry-run', kind: 'flag', help: 'only say what would be deleted' }, ...serverOptions],
  run: deleteTopic,
}

export const topicsCommand: CommandSpec = {
  ...listCommand,
  name: 'topics',
  summary: 'list, create, alter and delete topics',
  examples: [
    { command: 'tailrace topics', meaning: 'list them' },
    ...[createCommand, alterCommand, deleteCommand].flatMap(({ examples }) => examples),
  ],
  subcommands: [listCommand, createCommand, alterCommand, deleteCommand],
}

async function listTopics(input: CommandInput, context: CliContext): Promise<number> {
  const client = await connect(input, context)
  const globs = input.list('topic')
  const isWanted = globs.length === 0 ? () => true : globTest(globs)
  const topics = (await client.topics()).filter(({ name }) => isWanted(name))
  const sum = (topic: TopicInfo, of: (partition: TopicInfo['partitions'][number]) => number): number =>
    topic.partitions.reduce((total, partition) => total + of(partition), 0)
  return printTable(
    topics,
    [
      { title: 'TOPIC', cell: ({ name }) => name },
      { title: 'PARTITIONS', cell: ({ config }) => String(config.partitions), align: 'right' },
      { title: 'RECORDS', cell: (topic) => String(sum(topic, (at) => at.highWatermark - at.logStartOffset)), align: 'right' },
      { title: 'SIZE', cell: (topic) => humanBytes(sum(topic, (at) => at.sizeBytes)), align: 'right' },
      { title: 'SEGMENTS', cell: (topic) => String(sum(topic, (at) => at.segments)), align: 'right' },
      { title: 'ROLL AT', cell: ({ config }) => `${humanBytes(config.segmentBytes)} or ${humanDuration(config.segmentAgeMs)}` },
      { title: 'KEEP', cell: keepText },
      { title: 'STATE', cell: ({ partitions }) => partitions.find(({ state }) => state !== 'ok')?.state ?? 'ok' },
    ],
    { input, context },
  )
}

function keepText({ config }: TopicInfo): string {
  const limits = [
    ...(config.retentionBytes === null ? [] : [`${humanBytes(config.retentionBytes)} a partition`]),
    ...(config.retentionAgeMs === null ? [] : [humanDuration(config.retentionAgeMs)]),
  ]
  return limits.length === 0 ? 'everything' : limits.join(', ')
}

async function changeTopic(input: CommandInput, context: CliContext, action: 'create' | 'alter'): Promise<number> {
  const name = checkTopicName(input.operands[0] ?? '')
  const config = configValues(input)
  if (action === 'alter' && Object.keys(config).length === 0) throw usageError('nothing to change', 'give at least one of the settings')
  const client = await connect(input, context)
  const isNew = action === 'create'
  await client.json(isNew ? paths.topics : topicPath(name), v.unknown(), {
    method: isNew ? 'POST' : 'PATCH',
    headers: { 'content-type': 'application/json' },
    body: [Buffer.from(JSON.stringify(isNew ? { name, config } : { config }))],
  })
  await new Output(context.stdout).line(`${name}: ${isNew ? 'created' : 'altered'}`)
  return exitCodes.ok
}

function topicPath(name: string): string {
  return `${paths.topics}/${encodeURIComponent(name)}`
}

/** Only the settings that were given; null = unlimited. */
function configValues(input: CommandInput): Record<string, number | null> {
  const config: Record<string, number | null> = {}
  const partitions = input.integer('partitions')
  if (partitions !== undefined) config['partitions'] = partitions
  const put = (key: string, option: string, parse: (text: string) => number | undefined, allowsNone: boolean): void => {
    const text = input.text(option)
    if (text === undefined) return
    const value = allowsNone && text === 'none' ? null : parse(text)
    if (value === undefined) throw usageError(`${JSON.stringify(text)} is not a value for ${option}`, 'sizes are like 256MiB, durations like 12h')
    config[key] = value
  }
  put('segmentBytes', 'segmentBytes', parseBytes, false)
  put('segmentAgeMs', 'segmentAge', parseDuration, false)
  put('retentionBytes', 'retentionBytes', parseBytes, true)
  put('retentionAgeMs', 'retentionAge', parseDuration, true)
  return config
}

async function deleteTopic(input: CommandInput, context: CliContext): Promise<number> {
  const name = checkTopicName(input.operands[0] ?? '')
  const client = await connect(input, context)
  const stdout = new Output(context.stdout)
  const topic = (await client.topics()).find((candidate) => candidate.name === name)
  if (topic === undefined) {
    await new Output(context.stderr).line(`tailrace: there is no topic ${name}`)
    return exitCodes.nothing
  }
  const records = topic.partitions.reduce((total, { highWatermark, logStartOffset }) => total + highWatermark - logStartOffset, 0)
  if (input.flag('dryRun')) {
    await stdout.line(`${name}: would delete ${records} records in ${topic.partitions.length} partitions`)
    return exitCodes.ok
  }
  const response = await client.open(topicPath(name), { method: 'DELETE' })
  for await (const piece of response.body) if (piece.length === 0) break
  await stdout.line(`${name}: deleted ${records} records`)
  return exitCodes.ok
}
