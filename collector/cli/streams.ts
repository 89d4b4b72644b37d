/** `tailrace streams`: every file generation that the collector knows, and how far it has it. */
import { jsonOption, serverOptions, storeOptions, streamFilterOptions, type CommandInput, type CommandSpec } from './command.ts'
import { connect } from './collector-client.ts'
import type { CliContext } from './context.ts'
import { humanTime } from './human.ts'
import { selectStreams } from './stream-selection.ts'
import { printTable } from './table.ts'

export const streamsCommand: CommandSpec = {
  name: 'streams',
  summary: 'list the files: one stream is one generation of one file',
  examples: [
    { command: 'tailrace streams --host web-1', meaning: 'the files of one host, with their positions' },
    { command: "tailrace streams --path '**/access.log' --json | jq '.[].position'", meaning: 'for scripts' },
  ],
  options: [...streamFilterOptions, jsonOption, ...serverOptions, ...storeOptions],
  details: `A position is the byte of the source file up to which everything is stored and synced.`,
  run: runStreams,
}

async function runStreams(input: CommandInput, context: CliContext): Promise<number> {
  const client = await connect(input, context)
  const streams = await selectStreams(client, input)
  return printTable(
    streams,
    [
      { title: 'ID', cell: ({ id }) => id.slice(0, 12) },
      { title: 'HOST', cell: ({ host }) => host },
      { title: 'PATH', cell: ({ path, keyPath }) => (path === keyPath ? path : `${path} (began as ${keyPath})`) },
      { title: 'TOPIC', cell: ({ topic, partition }) => `${topic}-${partition}` },
      { title: 'GEN', cell: ({ generation }) => String(generation), align: 'right' },
      { title: 'POSITION', cell: ({ position }) => String(position), align: 'right' },
      { title: 'RECORDS', cell: ({ records }) => String(records), align: 'right' },
      { title: 'STATE', cell: ({ open, superseded }) => (superseded ? 'superseded' : open ? 'open' : 'closed') },
      { title: 'LAST APPEND', cell: ({ lastAppendMs }) => humanTime(lastAppendMs, input.zone) },
    ],
    { input, context },
  )
}
