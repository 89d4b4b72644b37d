/**
 * Ships files that are already there to their end, by tailrace or by a peer, the sender on core 0 and the receiver on
 * core 1, and counts what arrived.
 */
import { createReadStream } from 'node:fs'
import { mkdir, link } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { startAgent } from './agent-process.ts'
import { logBytes, readBack, startCollector } from './collector-process.ts'
import { followFile } from './file-follower.ts'
import type { WrittenFile } from './lines.ts'
import { startPeer, stopPeer, type Peer } from './peer.ts'
import { endedChildrenCpuSeconds, loopbackBytes, since, watchCost, type Cost } from './process-cost.ts'
import { SequenceCounter } from './sequence-counter.ts'
import type { BenchOptions, Figures } from './workload.ts'

/** A peer's output is looked at this often. */
const FOLLOW_MS = 20
/** A peer that delivers nothing for so long has ended: what is missing then is lost. */
const QUIET_MS = 15_000
/** One that is still delivering then is too slow for this benchmark. */
const PEER_MS_MAX = 180_000

export interface Shipped {
  readonly lines: number
  readonly bytes: number
  readonly seconds: number
  readonly agent: Cost
  readonly receiver: Cost
  readonly wireBytes: number
  readonly diskBytes: number
  readonly lost: number
  readonly doubled: number
}

export function shippedFigures({ lines, bytes, seconds, agent, receiver, wireBytes, diskBytes, lost, doubled }: Shipped): Figures {
  return {
    'lines/s': lines / seconds,
    'MB/s of source': bytes / seconds / 1e6,
    'lines per agent CPU-second': lines / agent.cpuSeconds,
    'agent CPU-s per million lines': agent.cpuSeconds / (lines / 1e6),
    'receiver CPU-s per million lines': receiver.cpuSeconds / (lines / 1e6),
    'agent peak RSS MiB': agent.peakRssMiB,
    'receiver peak RSS MiB': receiver.peakRssMiB,
    'bytes on the wire per line': wireBytes / lines,
    'bytes on disk per line': diskBytes / lines,
    'lines lost': lost,
    'lines doubled': doubled,
  }
}

/** With `--once`; the clock runs from the start of the agent's process until it has ended, everything acked. */
export async function shipOurs(folder: string, files: readonly WrittenFile[], options: BenchOptions, agentArgs: readonly string[] = []): Promise<Shipped> {
  const { lines, bytes } = totals(files)
  const data = join(folder, 'data')
  const collector = await startCollector({ data, core: 1, args: options.collectorArgs })
  try {
    const before = { collector: await collector.program.cost(), children: await endedChildrenCpuSeconds(), wire: await loopbackBytes() }
    const startedMs = performance.now()
    const agent = startAgent({ collectorUrl: collector.url, topic: 'bench', core: 0, args: ['--once', ...options.agentArgs, ...agentArgs, ...files.map(({ path }) => path)] })
    const watched = await watchCost(agent.pid, () => agent.isRunning)
    const seconds = (performance.now() - startedMs) / 1000
    if ((await agent.ended()) !== 0) throw new Error(`the agent ended with ${agent.child.exitCode}: ${agent.said}`)
    const wireBytes = (await loopbackBytes()) - before.wire
    const cpuSeconds = (await endedChildrenCpuSeconds()) - before.children
    const receiver = since(before.collector, await collector.program.cost())
    const counter = new SequenceCounter(lines)
    await readBack(collector.url, counter)
    return {
      lines, bytes, seconds, wireBytes, receiver,
      agent: { cpuSeconds, peakRssMiB: watched.peakRssMiB },
      diskBytes: await logBytes(data), lost: counter.lost, doubled: counter.doubled + counter.unknown,
    }
  } finally {
    await collector.program.stop('SIGTERM')
  }
}

/** The clock runs from the start of the agent's process until the last line stands in the receiver's file. */
export async function shipPeer(folder: string, files: readonly WrittenFile[], peer: Peer): Promise<Shipped> {
  const { lines, bytes } = totals(files)
  const logsFolder = join(folder, 'logs')
  await mkdir(logsFolder)
  const logs = files.map(({ path }) => join(logsFolder, basename(path)))
  await Promise.all(files.map(({ path }, at) => link(path, logs[at] ?? '')))
  const output = join(folder, 'received')
  const wire = await loopbackBytes()
  const counter = new SequenceCounter(lines)
  const running = await startPeer(peer, { folder, logs, logsFolder, output })
  let isDone = false
  // A peer may end by itself when it has sent all: what it cost until then counts.
  const watching = watchCost(running.agent.pid, () => running.agent.isRunning && !isDone)
  try {
    const startedMs = performance.now()
    const { lastMs, bytes: diskBytes } = await followFile({ path: output, counter, everyMs: FOLLOW_MS, isDone: () => counter.isComplete || performance.now() - startedMs > PEER_MS_MAX, quietMsMax: QUIET_MS })
    if (counter.distinct === 0) throw new Error(`nothing arrived: ${running.agent.said} ${running.receiver.said}`)
    if (!counter.isComplete && lastMs - startedMs > PEER_MS_MAX - QUIET_MS) throw new Error(`${counter.distinct} of ${lines} lines in ${PEER_MS_MAX / 1000} s, and more were coming`)
    isDone = true
    const agent = await watching
    const receiver = await running.receiver.cost()
    const wireBytes = (await loopbackBytes()) - wire
    // Nobody is said to have lost a line on the word of one count, made while the file grew.
    const settled = counter.isComplete ? counter : await recount(output, lines)
    return { lines, bytes, seconds: (lastMs - startedMs) / 1000, agent, receiver, wireBytes, diskBytes, lost: settled.lost, doubled: settled.doubled + settled.unknown }
  } finally {
    isDone = true
    await watching
    await stopPeer(running)
  }
}

async function recount(output: string, lines: number): Promise<SequenceCounter> {
  const counter = new SequenceCounter(lines)
  for await (const piece of createReadStream(output)) counter.feed(piece as Buffer)
  return counter
}

/** Files of one folder, numbered through: their first line follows the last one of the file before. */
function totals(files: readonly WrittenFile[]): { lines: number; bytes: number } {
  const folders = new Set(files.map(({ path }) => dirname(path)))
  if (folders.size !== 1) throw new Error('the files of a workload stand in one folder')
  return { lines: files.reduce((sum, file) => sum + file.lines, 0), bytes: files.reduce((sum, file) => sum + file.bytes, 0) }
}
