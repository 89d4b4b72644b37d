/** `tailrace exports skip`: an operator gives up what holds the export of a partition up: a gap, or a damaged segment. */
import { checkTopicName, paths, skipExportResponseSchema, type SkipExportResponse } from '../../shared/wire.ts'
import { connect, type CollectorClient } from './collector-client.ts'
import { serverOptions, type CommandInput, type CommandSpec } from './command.ts'
import type { CliContext } from './context.ts'
import { exitCodes, usageError } from './exit-codes.ts'
import { Output } from './output.ts'

export const exportsSkipCommand: CommandSpec = {
  name: 'skip',
  operands: ['<topic-partition>'],
  summary: 'give up offsets that hold the export of a partition up: a gap, or a damaged segment',
  examples: [
    { command: 'tailrace exports skip app-0', meaning: 'only say which offsets it would be' },
    { command: 'tailrace exports skip app-0 --execute', meaning: 'give them up: they will never be exported' },
  ],
  options: [{ flags: '--execute', kind: 'flag', help: 'do it; without it, only say what would be given up' }, ...serverOptions],
  details: `Records in these offsets are then counted as exported although they are not: retention may drop what is left of
them here. First find out whether the missing segment can be brought back.`,
  run: runSkip,
}

interface PartitionName {
  readonly topic: string
  readonly partition: number
}

async function runSkip(input: CommandInput, context: CliContext): Promise<number> {
  const at = parsePartition(input.operands[0] ?? '')
  const client = await connect(input, context)
  const { range } = await post(client, at)
  if (range === null) {
    await new Output(context.stderr).line(`tailrace: nothing holds the export of ${at.topic}-${at.partition} up`)
    return exitCodes.nothing
  }
  const isExecuted = input.flag('execute')
  // The range goes along, so that nothing is given up but what was found a moment ago.
  if (isExecuted) await post(client, { ...at, range })
  const what = `${at.topic}-${at.partition}: offsets ${range.fromOffset} to ${range.toOffset - 1} (${range.toOffset - range.fromOffset})`
  await new Output(context.stdout).line(isExecuted ? `${what} are given up` : `${what} would be given up; --execute does it`)
  return exitCodes.ok
}

/** A topic may itself end in `-3`: the partition is what stands behind the last dash. */
function parsePartition(text: string): PartitionName {
  const match = /^(.+)-([0-9]{1,6})$/.exec(text)
  if (match?.[1] === undefined) throw usageError(`${JSON.stringify(text)} is not a partition`, 'write it like app-0')
  return { topic: checkTopicName(match[1]), partition: Number(match[2]) }
}

async function post(client: CollectorClient, body: PartitionName & { readonly range?: NonNullable<SkipExportResponse['range']> }): Promise<SkipExportResponse> {
  return client.json(paths.skipExport, skipExportResponseSchema, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: [Buffer.from(JSON.stringify(body))],
  })
}
