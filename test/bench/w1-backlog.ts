/** W1: one file that is already there, shipped to its end, acked after fsync. Agent and collector on a core each. */
import { join } from 'node:path'
import { logBytes, readBack, startCollector } from './collector-process.ts'
import { accessLines, writeLines, type WrittenFile } from './lines.ts'
import { endedChildrenCpuSeconds, loopbackBytes, since, watchCost } from './process-cost.ts'
import { inTemporaryFolder, ownProgram, Program, temporaryFolder } from './programs.ts'
import { SequenceCounter } from './sequence-counter.ts'
import type { BenchOptions, Figures, Workload } from './workload.ts'

export const backlog: Workload = {
  title: 'a file that is already there, file → fsynced and readable',
  runs: 3,
  prepare: async (options) => {
    const inputs = await temporaryFolder()
    const access = await writeLines(join(inputs.path, 'access.log'), { bytes: options.bytes, make: accessLines() })
    return {
      contestants: [{ name: 'tailrace', run: () => inTemporaryFolder((folder) => ship(folder, [access], options)) }],
      ratios: [],
      notes: [],
      close: inputs.remove,
    }
  },
}

/** Ships files with `--once` on core 0 to a collector on core 1. */
export async function ship(folder: string, files: readonly WrittenFile[], options: BenchOptions): Promise<Figures> {
  const lines = files.reduce((sum, file) => sum + file.lines, 0)
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
  const data = join(folder, 'data')
  const collector = await startCollector({ data, core: 1, args: options.collectorArgs })
  try {
    const before = { collector: await collector.program.cost(), children: await endedChildrenCpuSeconds(), wire: await loopbackBytes() }
    const startedMs = performance.now()
    const agent = new Program({
      command: [
        ...ownProgram('tailrace-agent'), 'run', '--once', '--collector', collector.url, '--topic', 'bench', '--admin', 'off', '--log-level', 'warn',
        ...options.agentArgs, ...files.map(({ path }) => path),
      ],
      core: 0,
    })
    const watched = await watchCost(agent.pid, () => agent.isRunning)
    const seconds = (performance.now() - startedMs) / 1000
    if ((await agent.ended()) !== 0) throw new Error(`the agent ended with ${agent.child.exitCode}: ${agent.said}`)
    const wire = (await loopbackBytes()) - before.wire
    const agentCpu = (await endedChildrenCpuSeconds()) - before.children
    const cost = since(before.collector, await collector.program.cost())
    const counter = new SequenceCounter(lines)
    await readBack(collector.url, counter)
    return {
      'lines/s': lines / seconds,
      'MB/s of source': bytes / seconds / 1e6,
      'lines per agent CPU-second': lines / agentCpu,
      'agent CPU-s per million lines': agentCpu / (lines / 1e6),
      'collector CPU-s per million lines': cost.cpuSeconds / (lines / 1e6),
      'agent peak RSS MiB': watched.peakRssMiB,
      'collector peak RSS MiB': cost.peakRssMiB,
      'bytes on the wire per line': wire / lines,
      'bytes on disk per line': (await logBytes(data)) / lines,
      'lines lost': counter.lost,
      'lines doubled': counter.doubled,
    }
  } finally {
    await collector.program.stop()
  }
}
