/** `tailrace exports`: how far each partition is exported, and what holds it up. */
import type { ExportInfo } from '../../shared/wire.ts'
import { jsonOption, serverOptions, type CommandInput, type CommandSpec } from './command.ts'
import { connect } from './collector-client.ts'
import type { CliContext } from './context.ts'
import { exitCodes } from './exit-codes.ts'
import { exportsSkipCommand } from './exports-skip.ts'
import { humanBytes, humanDuration } from './human.ts'
import { globTest } from './stream-selection.ts'
import { printTable, type Column } from './table.ts'

export const exportsCommand: CommandSpec = {
  name: 'exports',
  summary: 'list the export to HDFS: progress, lag and trouble by partition',
  examples: [
    { command: 'tailrace exports', meaning: 'one line for each partition' },
    { command: 'tailrace exports --segments -t app', meaning: 'each exported segment of a topic' },
    ...exportsSkipCommand.examples,
    { command: 'tailrace exports --check length', meaning: 'ask the store again whether all is there; exit 1 if not' },
  ],
  options: [
    { flags: '-t, --topic <glob>', kind: 'list', help: 'only these topics (repeat for more)' },
    { flags: '--segments', kind: 'flag', help: 'one line for each segment' },
    { flags: '--check <how>', kind: 'choice', choices: ['length', 'deep'], help: 'look at the store: lengths, or read everything back' },
    jsonOption,
    ...serverOptions,
  ],
  subcommands: [exportsSkipCommand],
  run: runExports,
}

async function runExports(input: CommandInput, context: CliContext): Promise<number> {
  const client = await connect(input, context)
  const globs = input.list('topic')
  const isWanted = globs.length === 0 ? () => true : globTest(globs)
  const check = input.text('check')
  const exports = (await client.exports(check === 'deep' || check === 'length' ? check : undefined)).filter(({ topic }) => isWanted(topic))
  const code = input.flag('segments')
    ? await printTable(exports.flatMap(segmentRows), segmentColumns(), { input, context })
    : await printTable(exports, partitionColumns(), { input, context })
  const isBad = exports.some(({ segments }) => segments.some((segment) => segment.check !== undefined && segment.check !== 'ok'))
  return isBad ? exitCodes.nothing : code
}

function partitionColumns(): Array<Column<ExportInfo>> {
  return [
    { title: 'TOPIC', cell: ({ topic, partition }) => `${topic}-${partition}` },
    { title: 'EXPORTED', cell: ({ exportedOffset }) => String(exportedOffset), align: 'right' },
    { title: 'LOG END', cell: ({ logEndOffset }) => String(logEndOffset), align: 'right' },
    { title: 'WAITING', cell: ({ lagSegments, lagBytes }) => `${lagSegments} (${humanBytes(lagBytes)})`, align: 'right' },
    { title: 'LAG', cell: ({ lagMs }) => humanDuration(lagMs), align: 'right' },
    { title: 'OLDEST', cell: ({ oldestUnexportedMs }) => humanDuration(oldestUnexportedMs), align: 'right' },
    { title: 'STATE', cell: ({ state }) => state },
    { title: 'CHECK', cell: checkSummary },
    { title: 'REASON', cell: ({ reason }) => reason ?? '' },
  ]
}

function checkSummary({ segments }: ExportInfo): string {
  const checked = segments.filter(({ check }) => check !== undefined)
  if (checked.length === 0) return ''
  const bad = checked.filter(({ check }) => check !== 'ok')
  return bad.length === 0 ? `${checked.length} ok` : `${bad.length} of ${checked.length} BAD`
}

type SegmentRow = { readonly topic: string; readonly partition: number } & ExportInfo['segments'][number]

function segmentRows(info: ExportInfo): SegmentRow[] {
  return info.segments.map((segment) => ({ topic: info.topic, partition: info.partition, ...segment }))
}

function segmentColumns(): Array<Column<SegmentRow>> {
  return [
    { title: 'TOPIC', cell: ({ topic, partition }) => `${topic}-${partition}` },
    { title: 'FIRST', cell: ({ baseOffset }) => String(baseOffset), align: 'right' },
    { title: 'NEXT', cell: ({ nextOffset }) => String(nextOffset), align: 'right' },
    { title: 'SIZE', cell: ({ sizeBytes }) => humanBytes(sizeBytes), align: 'right' },
    { title: 'STATE', cell: ({ state }) => state },
    { title: 'CHECK', cell: ({ check }) => check ?? '' },
    { title: 'SHA-256', cell: ({ sha256 }) => sha256?.slice(0, 16) ?? '' },
    { title: 'NAME', cell: ({ name }) => name ?? '' },
  ]
}
