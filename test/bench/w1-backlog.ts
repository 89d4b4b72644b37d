/** W1: one file that is already there, shipped to its end, acked after fsync. Agent and collector on a core each. */
import { spawn } from 'node:child_process'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { writeAccessLog } from '../access-log.ts'
import * as v from 'valibot'
import { topicsResponseSchema } from '../../shared/wire.ts'
import { freePort, temporaryFolder, until } from '../e2e/processes.ts'
import { costOf, watchCost } from './process-cost.ts'
import type { Figures, Workload } from './workload.ts'

export const backlog: Workload = {
  title: 'a file of 200-byte access lines that is already there, file → fsynced and readable',
  run: async ({ megabytes }) => {
    const folder = await temporaryFolder()
    try {
      return await measure(folder.path, megabytes * 1_000_000)
    } finally {
      await folder.remove()
    }
  },
}

async function measure(folder: string, bytes: number): Promise<Figures> {
  const log = join(folder, 'access.log')
  const { lines } = await writeAccessLog({ path: log, bytes, seed: 1 })
  const data = join(folder, 'data')
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const collector = pinned(1, 'tailrace-collector', ['run', '--data', data, '--listen', `127.0.0.1:${port}`, '--log-level', 'warn'])
  try {
    await until('the collector is ready', async () => (await fetch(`${url}/ready`)).ok)
    const before = await costOf(collector.pid ?? 0)
    const started = performance.now()
    const agent = pinned(0, 'tailrace-agent', ['run', '--once', '--collector', url, '--topic', 'bench', '--admin', 'off', '--log-level', 'warn', log])
    const cost = await watchCost(agent.pid ?? 0, () => agent.exitCode === null)
    const seconds = (performance.now() - started) / 1000
    if (agent.exitCode !== 0) throw new Error(`the agent ended with ${agent.exitCode}`)
    const after = await costOf(collector.pid ?? 0)
    const stored = await recordsStored(url)
    return {
      'lines/s, wall': lines / seconds,
      'MB/s of source, wall': bytes / seconds / 1e6,
      'lines per agent CPU-second': lines / cost.cpuSeconds,
      'lines per collector CPU-second': lines / (after.cpuSeconds - before.cpuSeconds),
      'agent peak RSS MiB': cost.peakRssMiB,
      'collector peak RSS MiB': after.peakRssMiB,
      'bytes on disk per line': (await logBytes(data)) / lines,
      'lines lost': Math.max(0, lines - stored),
      'lines doubled': Math.max(0, stored - lines),
    }
  } finally {
    collector.kill('SIGKILL')
  }
}

function pinned(core: number, program: string, args: readonly string[]): ReturnType<typeof spawn> {
  const path = new URL(`${program}.js`, import.meta.url).pathname
  return spawn('taskset', ['-c', String(core), process.execPath, path, ...args], { stdio: ['ignore', 'ignore', 'inherit'] })
}

async function recordsStored(url: string): Promise<number> {
  const { topics } = v.parse(topicsResponseSchema, await (await fetch(`${url}/v1/topics`)).json())
  return topics.flatMap((topic) => topic.partitions).reduce((sum, partition) => sum + partition.highWatermark, 0)
}

async function logBytes(data: string): Promise<number> {
  const names = (await readdir(join(data, 'topics'), { recursive: true })).filter((name) => name.endsWith('.log'))
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(data, 'topics', name))).size))
  return sizes.reduce((sum, size) => sum + size, 0)
}
