/**
 * What the agent says about itself: per file how far it is, which stream it is, and why it is not read when it is not.
 * The shape is shared by the admin server, which makes it, and by `tailrace-agent status`, which reads it.
 */
import * as v from 'valibot'
import { unreachable } from '../shared/errors.ts'
import type { Clock } from '../shared/system.ts'
import type { Agent } from './agent.ts'
import type { AgentConfig } from './config.ts'
import { explainError } from './session.ts'
import type { SourceFile } from './source-file.ts'

const count = v.pipe(v.number(), v.minValue(0))

const fileStatusSchema = v.object({
  path: v.string(),
  topic: v.string(),
  /** `reading` and `up to date` are well; everything else has a reason. */
  state: v.string(),
  /** Why it is not read, or null. */
  reason: v.nullable(v.string()),
  stream: v.nullable(v.string()),
  generation: v.nullable(count),
  inode: v.nullable(v.string()),
  size: count,
  /** Read so far. */
  position: count,
  /** Stored and synced by the collector. */
  acked: count,
  lagBytes: count,
  lagSeconds: count,
  /** Followed by its descriptor because its name is gone or another's. */
  rotated: v.boolean(),
})
export type FileStatus = v.InferOutput<typeof fileStatusSchema>

export const agentStatusSchema = v.object({
  agentId: v.string(),
  host: v.string(),
  collector: v.string(),
  connection: v.object({
    /** `refused`: it answers, and will not take us as we are. */
    state: v.picklist(['not greeted', 'connected', 'lost', 'refused']),
    clusterId: v.nullable(v.string()),
    logEpoch: v.nullable(count),
    reason: v.nullable(v.string()),
  }),
  bufferBytes: count,
  memoryBytes: count,
  files: v.array(fileStatusSchema),
  /** Paths that are left out and not even listed in `files`. */
  unlisted: count,
})
export type AgentStatus = v.InferOutput<typeof agentStatusSchema>

export function agentStatus(agent: Agent, config: AgentConfig, clock: Clock): AgentStatus {
  const nowMs = clock.monotonicMs()
  const files = [...agent.registry.files].map((file) => fileStatus(file, nowMs))
  const { leftOut } = agent.follower
  for (const path of leftOut.paths) files.push(notRead(path))
  return {
    agentId: config.agentId,
    host: config.host,
    collector: config.collectorUrl,
    connection: connection(agent),
    bufferBytes: agent.bufferedBytes,
    memoryBytes: config.memoryBytes,
    files: files.sort((a, b) => (a.path < b.path ? -1 : 1)),
    unlisted: leftOut.unlisted,
  }
}

export function connection({ session }: Agent): AgentStatus['connection'] {
  const { state, refusal } = session
  if (refusal !== undefined) return { state: 'refused', clusterId: null, logEpoch: null, reason: explainError(refusal) }
  if (state.kind === 'connected') {
    return { state: 'connected', clusterId: state.greeting.clusterId, logEpoch: state.greeting.logEpoch, reason: null }
  }
  const reason = state.kind === 'lost' ? explainError(state.reason) : null
  return { state: state.kind, clusterId: null, logEpoch: null, reason }
}

function fileStatus(file: SourceFile, nowMs: number): FileStatus {
  const stream = file.cursor?.stream
  return {
    path: file.path,
    topic: file.input.topic,
    ...stateOf(file),
    stream: stream?.identity.idHex ?? null,
    generation: stream?.identity.generation ?? null,
    inode: file.inode.toString(),
    size: file.size,
    position: file.position,
    acked: stream?.settled.position ?? 0,
    lagBytes: file.lagBytes,
    lagSeconds: file.behindSinceMs === undefined ? 0 : Math.round((nowMs - file.behindSinceMs) / 1000),
    rotated: file.isDetached,
  }
}

function stateOf(file: SourceFile): { state: string; reason: string | null } {
  const { state } = file
  switch (state.kind) {
    case 'new':
      return { state: 'new', reason: 'not identified yet: the collector has not been asked' }
    case 'empty':
      return { state: 'empty', reason: 'it has no bytes yet' }
    case 'waiting':
      return { state: 'waiting', reason: 'it looks like a copy that is being made of another file' }
    case 'reading':
      if (file.lagBytes === 0) return { state: 'up to date', reason: null }
      return { state: 'reading', reason: file.partialBytes > 0 && file.position === file.cursor?.stream.settled.position ? 'its last line has no newline yet' : null }
    case 'failing':
    case 'parked':
    case 'ignored':
      return { state: state.kind, reason: state.reason }
    default:
      return unreachable(state)
  }
}

function notRead(at: { path: string; topic: string; reason: string }): FileStatus {
  const nothing = { stream: null, generation: null, inode: null, size: 0, position: 0, acked: 0, lagBytes: 0, lagSeconds: 0, rotated: false }
  return { ...at, state: 'skipped', ...nothing }
}

/** A table for people. Paths are hostile text: control and bidirectional characters are shown, not sent. */
export function statusTable(status: AgentStatus): string {
  const { connection: to } = status
  const head = [
    `agent       ${visible(status.agentId)} on ${visible(status.host)}`,
    `collector   ${visible(status.collector)}, ${to.state}${to.reason === null ? '' : ` (${visible(to.reason)})`}`,
    `buffers     ${status.bufferBytes} of ${status.memoryBytes} bytes`,
  ]
  const rows = status.files.map((file) => [
    visible(file.path),
    visible(file.topic),
    file.state + (file.rotated ? ', rotated' : ''),
    String(file.size),
    String(file.acked),
    String(file.lagBytes),
    `${file.lagSeconds}s`,
    visible(file.reason ?? ''),
  ])
  const table = [['PATH', 'TOPIC', 'STATE', 'SIZE', 'ACKED', 'LAG', 'BEHIND', 'REASON'], ...rows]
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)))
  const body = table.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd())
  const more = status.unlisted === 0 ? [] : [`and ${status.unlisted} more paths that are left out`]
  return `${[...head, '', ...body, ...more].join('\n')}\n`
}

function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (character) => `\\u{${character.codePointAt(0)?.toString(16) ?? ''}}`)
}
