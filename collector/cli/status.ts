/** `tailrace status`: is the collector well, who sends, what is wrong. */
import { confirmClockResponseSchema, paths, type CollectorStatus } from '../../shared/wire.ts'
import { serverOptions, type CommandInput, type CommandSpec } from './command.ts'
import { connect } from './collector-client.ts'
import type { CliContext } from './context.ts'
import { exitCodes } from './exit-codes.ts'
import { humanBytes, humanCount, humanDuration, humanTime } from './human.ts'
import { Output } from './output.ts'
import { putJson } from './table.ts'
import { visibleText } from './terminal-text.ts'

export const statusCommand: CommandSpec = {
  name: 'status',
  summary: "the collector's health, its agents and its alarms",
  examples: [
    { command: 'tailrace status', meaning: 'for people; exit 3 while there is an alarm' },
    { command: "tailrace status --json | jq '.[0].alarms'", meaning: 'for scripts' },
  ],
  options: [{ flags: '--json', kind: 'flag', help: 'an array with one object' }, ...serverOptions],
  subcommands: [
    {
      name: 'confirm-clock',
      summary: 'say that the wall clock of the collector is right, after an alarm CLOCK_STEPPED',
      examples: [{ command: 'tailrace status confirm-clock', meaning: 'retention by age goes on' }],
      options: serverOptions,
      details: `A clock that jumped would make records look old, so nothing is dropped by age until a person has looked. Check the
clock of the collector's machine first: the command prints what the collector takes for now.`,
      run: confirmClock,
    },
  ],
  run: runStatus,
}

async function confirmClock(input: CommandInput, context: CliContext): Promise<number> {
  const client = await connect(input, context)
  const { nowMs, alarms } = await client.status()
  const wasStepped = alarms.some(({ code }) => code === 'CLOCK_STEPPED')
  await client.json(paths.confirmClock, confirmClockResponseSchema, { method: 'POST' })
  const output = new Output(context.stdout)
  await output.line(`the collector's clock says ${humanTime(nowMs, input.zone)}: ${wasStepped ? 'confirmed, retention by age goes on' : 'confirmed; there was no alarm'}`)
  return exitCodes.ok
}

async function runStatus(input: CommandInput, context: CliContext): Promise<number> {
  const client = await connect(input, context)
  const status = await client.status()
  const output = new Output(context.stdout)
  if (input.flag('json')) await putJson([status], output)
  else for (const line of statusLines(status, { server: client.server, input })) output.put(`${visibleText(line)}\n`)
  await output.flush()
  return status.ready && status.alarms.length === 0 ? exitCodes.ok : exitCodes.partial
}

function statusLines(status: CollectorStatus, { server, input }: { server: string; input: CommandInput }): string[] {
  const lines = [
    `collector   ${server}, tailrace ${status.version}, ${status.ready ? 'ready' : 'NOT READY'}`,
    `cluster     ${status.clusterId}, log epoch ${status.logEpoch}`,
    `up          ${humanDuration(status.nowMs - status.startedMs)} since ${humanTime(status.startedMs, input.zone)}`,
    `holds       ${humanCount(status.topics)} topics, ${humanCount(status.streams)} streams`,
    `disk free   ${humanBytes(status.freeBytes)}`,
    `export to   ${status.exportTo ?? 'nowhere (not configured)'}`,
  ]
  for (const alarm of status.alarms) {
    lines.push(`ALARM       ${alarm.code}: ${alarm.message} (for ${humanDuration(Math.max(0, status.nowMs - alarm.sinceMs))})`)
  }
  if (status.agents.length === 0) lines.push('agents      none seen since the start')
  for (const agent of status.agents) {
    const name = agent.agentId === agent.host ? agent.host : `${agent.agentId} on ${agent.host}`
    const clones = agent.sessions > 1 ? `, ${agent.sessions} SESSIONS: two agents share this id` : ''
    lines.push(`agent       ${name}: ${agent.openStreams} open files, seen ${humanDuration(Math.max(0, status.nowMs - agent.lastSeenMs))} ago${clones}`)
  }
  return lines
}
