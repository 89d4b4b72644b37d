/** `tailrace exports`: how far each partition is exported, and what holds it up. */
import type { ExportInfo } from '../../shared/wire.ts'
import { jsonOption, serverOptions, type CommandInput, type CommandSpec } from './command.ts'
import { connect } from './collector-client.ts'
import type { CliContext } from './context.ts'
import { exitCodes } from './exit-codes.ts'
import { ddlDialects, tableDdl } from './exports-ddl.ts'
import { exportsSkipCommand } from './exports-skip.ts'
import { humanBytes, humanDuration, humanTime } from './human.ts'
import { Output } from './output.ts'
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
    { command: 'tailrace exports --ddl duckdb -t app', meaning: 'the view over the tables of a topic, to paste into DuckDB' },
  ],
  options: [
    { flags: '-t, --topic <glob>', kind: 'list', help: 'only these topics (repeat for more)' },
    { flags: '--segments', kind: 'flag', help: 'one line for each segment' },
    { flags: '--check <how>', kind: 'choice', choices: ['length', 'deep'], help: 'look at the store: lengths, or read everything back' },
    { flags: '--ddl <dialect>', kind: 'choice', choices: ddlDialects, help: 'print the statements that make the tables known to Hive or DuckDB' },
    { flags: '--root <url>', kind: 'text', help: 'with --ddl: where readers find the store, such as hdfs://namenode:8020/tailrace' },
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
  const ddl = ddlDialects.find((dialect) => dialect === input.text('ddl'))
  if (ddl !== undefined) return printDdl(exports, ddl, { input, context, store: input.text('root') ?? (await client.status()).exportTo ?? '' })
  const code = input.flag('segments')
    ? await printTable(exports.flatMap(segmentRows), segmentColumns(), { input, context })
    : await printTable(exports, partitionColumns(input, exports), { input, context })
  const isBad = exports.some(({ segments }) => segments.some((segment) => segment.check !== undefined && segment.check !== 'ok'))
  return isBad ? exitCodes.nothing : code
}

interface DdlRun {
  readonly input: CommandInput
  readonly context: CliContext
  readonly store: string
}

async function printDdl(exports: readonly ExportInfo[], dialect: (typeof ddlDialects)[number], { context, store }: DdlRun): Promise<number> {
  const formats = new Map<string, NonNullable<ExportInfo['tables']>['format']>()
  for (const { topic, tables } of exports) if (tables !== undefined) formats.set(topic, tables.format)
  if (formats.size === 0) {
    await new Output(context.stderr).line('tailrace: no such topic has tables (setting "tables" of the collector)')
    return exitCodes.nothing
  }
  const output = new Output(context.stdout)
  for (const [topic, format] of formats) await output.line(tableDdl(dialect, { topic, format, store }).trimEnd())
  return exitCodes.ok
}

function partitionColumns(input: CommandInput, exports: readonly ExportInfo[]): Array<Column<ExportInfo>> {
  const zone = { utc: input.flag('utc') }
  const tables: Array<Column<ExportInfo>> = [
    { title: 'TABLES', cell: ({ tables: at }) => (at === undefined ? '' : `${at.publishedOffset} ${at.format}, ${at.state}`) },
    { title: 'HOURS UNTIL', cell: ({ tables: at }) => (typeof at?.completeUntilMs === 'number' ? humanTime(at.completeUntilMs, zone) : '') },
  ]
  return [
    { title: 'TOPIC', cell: ({ topic, partition }) => `${topic}-${partition}` },
    { title: 'EXPORTED', cell: ({ exportedOffset }) => String(exportedOffset), align: 'right' },
    { title: 'LOG END', cell: ({ logEndOffset }) => String(logEndOffset), align: 'right' },
    { title: 'WAITING', cell: ({ lagSegments, lagBytes }) => `${lagSegments} (${humanBytes(lagBytes)})`, align: 'right' },
    { title: 'LAG', cell: ({ lagMs }) => humanDuration(lagMs), align: 'right' },
    { title: 'OLDEST', cell: ({ oldestUnexportedMs }) => humanDuration(oldestUnexportedMs), align: 'right' },
    { title: 'STATE', cell: ({ state }) => state },
    { title: 'CHECK', cell: checkSummary },
    ...(exports.some((each) => each.tables !== undefined) ? tables : []),
    { title: 'REASON', cell: (each) => [each.reason, each.tables?.reason].filter((reason) => typeof reason === 'string').join('; ') },
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
