/** `tailrace offsets`: where each partition's log begins and ends. */
import type { TopicInfo } from '../../shared/wire.ts'
import { jsonOption, serverOptions, storeOptions, type CommandInput, type CommandSpec } from './command.ts'
import { connect } from './collector-client.ts'
import type { CliContext } from './context.ts'
import { humanBytes, humanTime } from './human.ts'
import { globTest } from './stream-selection.ts'
import { printTable, type Column } from './table.ts'

type OffsetRow = { readonly topic: string } & TopicInfo['partitions'][number]

export const offsetsCommand: CommandSpec = {
  name: 'offsets',
  summary: 'list the partitions: first and next offset, size, age',
  examples: [
    { command: 'tailrace offsets', meaning: 'all partitions' },
    { command: 'tailrace offsets -t app --json', meaning: 'one topic, for scripts' },
  ],
  options: [{ flags: '-t, --topic <glob>', kind: 'list', help: 'only these topics (repeat for more)' }, jsonOption, ...serverOptions, ...storeOptions],
  details: `Readers see offsets from LOG START up to, not including, HIGH WATERMARK: everything below it is synced. What lies
before LOCAL START is not on the collector's disk any more and is read back from the export.`,
  run: runOffsets,
}

async function runOffsets(input: CommandInput, context: CliContext): Promise<number> {
  const client = await connect(input, context)
  const globs = input.list('topic')
  const isWanted = globs.length === 0 ? () => true : globTest(globs)
  const topics = (await client.topics()).filter(({ name }) => isWanted(name))
  const rows: OffsetRow[] = topics.flatMap((topic) => topic.partitions.map((partition) => ({ topic: topic.name, ...partition })))
  return printTable(rows, offsetColumns(input), { input, context })
}

function offsetColumns(input: CommandInput): Array<Column<OffsetRow>> {
  return [
    { title: 'TOPIC', cell: ({ topic }) => topic },
    { title: 'PARTITION', cell: ({ partition }) => String(partition), align: 'right' },
    { title: 'LOG START', cell: ({ logStartOffset }) => String(logStartOffset), align: 'right' },
    { title: 'LOCAL START', cell: ({ localLogStartOffset }) => String(localLogStartOffset), align: 'right' },
    { title: 'HIGH WATERMARK', cell: ({ highWatermark }) => String(highWatermark), align: 'right' },
    { title: 'LOG END', cell: ({ logEndOffset }) => String(logEndOffset), align: 'right' },
    { title: 'SEGMENTS', cell: ({ segments }) => String(segments), align: 'right' },
    { title: 'SIZE', cell: ({ sizeBytes }) => humanBytes(sizeBytes), align: 'right' },
    { title: 'FIRST APPEND', cell: ({ firstAppendMs }) => (firstAppendMs === null ? '' : humanTime(firstAppendMs, input.zone)) },
    { title: 'LAST APPEND', cell: ({ lastAppendMs }) => (lastAppendMs === null ? '' : humanTime(lastAppendMs, input.zone)) },
    { title: 'STATE', cell: ({ state }) => state },
  ]
}
