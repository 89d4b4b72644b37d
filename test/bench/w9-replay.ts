/** W9: `tailrace replay --speed max` of a whole topic, to stdout and into another topic. Every line is counted. */
import { join } from 'node:path'
import { paths } from '../../shared/wire.ts'
import { shipWhole } from './agent-process.ts'
import { recordsStored, startCollector, type CollectorProcess } from './collector-process.ts'
import { accessLines, writeLines, type WrittenFile } from './lines.ts'
import { endedChildrenCpuSeconds, since, watchCost } from './process-cost.ts'
import { ownProgram, Program, temporaryFolder } from './programs.ts'
import { SequenceCounter } from './sequence-counter.ts'
import type { Figures, Workload } from './workload.ts'
import { ZSTD, zstdYardstick } from './zstd-yardstick.ts'

const STDOUT = 'to stdout'
const TOPIC = 'to a topic'

export const replay: Workload = {
  title: 'replay of a topic at full speed',
  runs: 3,
  prepare: async (options) => {
    const inputs = await temporaryFolder()
    const file = await writeLines(join(inputs.path, 'access.log'), { bytes: options.bytes, make: accessLines() })
    const collector = await startCollector({ data: join(inputs.path, 'data'), args: options.collectorArgs })
    const close = async (): Promise<void> => {
      await collector.program.stop()
      await inputs.remove()
    }
    try {
      await shipWhole(collector.url, file.path, options.agentArgs)
      const zstd = await zstdYardstick(file)
      let copies = 0
      return {
        contestants: [
          { name: STDOUT, run: () => toStdout(collector, file) },
          { name: TOPIC, run: () => toTopic(collector, file, `copy-${(copies += 1)}`) },
          ...zstd.contestants,
        ],
        ratios: [STDOUT, TOPIC].map((contestant) => ({ name: `lines/s: ${contestant} / ${ZSTD}`, of: { contestant, figure: 'lines/s' }, to: { contestant: ZSTD, figure: 'lines/s' }, better: 'higher' as const })),
        notes: [...zstd.notes, `${file.lines} lines; nothing is pinned; stdout is a pipe to this process, which counts`],
        close,
      }
    } catch (error) {
      await close()
      throw error
    }
  },
}

async function toStdout(collector: CollectorProcess, file: WrittenFile): Promise<Figures> {
  const counter = new SequenceCounter(file.lines)
  const figures = await runReplay(collector, file, { args: ['--to', 'stdout', '-o', 'raw'], fed: counter })
  return { ...figures, 'lines lost': counter.lost, 'lines doubled': counter.doubled }
}

async function toTopic(collector: CollectorProcess, file: WrittenFile, topic: string): Promise<Figures> {
  const before = await recordsStored(collector.url)
  const figures = await runReplay(collector, file, { args: ['--to', `topic:${topic}`, '--execute'] })
  const stored = (await recordsStored(collector.url)) - before
  const answer = await fetch(`${collector.url}${paths.topics}/${topic}`, { method: 'DELETE' })
  if (!answer.ok) throw new Error(`topic ${topic} was not deleted: ${answer.status}`)
  return { ...figures, 'lines lost': Math.max(0, file.lines - stored), 'lines doubled': Math.max(0, stored - file.lines) }
}

async function runReplay(collector: CollectorProcess, file: WrittenFile, { args, fed }: { args: readonly string[]; fed?: SequenceCounter }): Promise<Figures> {
  const before = { collector: await collector.program.cost(), children: await endedChildrenCpuSeconds() }
  const startedMs = performance.now()
  const program = new Program({ command: [...ownProgram('tailrace'), 'replay', '-t', 'bench', '--speed', 'max', '--server', collector.url, ...args], stdout: fed === undefined ? 'ignore' : 'pipe' })
  const closed = new Promise((resolve) => program.child.once('close', resolve))
  program.child.stdout?.on('data', (piece: Buffer) => fed?.feed(piece))
  const watched = await watchCost(program.pid, () => program.isRunning)
  await closed
  const seconds = (performance.now() - startedMs) / 1000
  if (program.child.exitCode !== 0) throw new Error(`the replay ended with ${program.child.exitCode}: ${program.said}`)
  const cpuSeconds = (await endedChildrenCpuSeconds()) - before.children
  const cost = since(before.collector, await collector.program.cost())
  return {
    'lines/s': file.lines / seconds,
    'MB/s of source': file.bytes / seconds / 1e6,
    'CLI CPU-s per million lines': cpuSeconds / (file.lines / 1e6),
    'collector CPU-s per million lines': cost.cpuSeconds / (file.lines / 1e6),
    'CLI peak RSS MiB': watched.peakRssMiB,
    'collector peak RSS MiB': cost.peakRssMiB,
  }
}
