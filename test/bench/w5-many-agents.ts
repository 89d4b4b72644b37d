/**
 * W5: many agents on one collector, each a process with a host name, an id and a file of its own, the same load in all
 * as one agent would carry. Beside it, in turn, that one agent.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { startAgent } from './agent-process.ts'
import { logBytes, startCollector } from './collector-process.ts'
import { Latencies } from './latencies.ts'
import { accessLines } from './lines.ts'
import { Load } from './load.ts'
import { loadFigures, lossFigures, measureLoad } from './measured-load.ts'
import { since, type Cost } from './process-cost.ts'
import { inTemporaryFolder, type Program, until } from './programs.ts'
import { SequenceCounter } from './sequence-counter.ts'
import { TailReader } from './tail-reader.ts'
import type { BenchOptions, Figures, Workload } from './workload.ts'

const SPARE_SECONDS = 90
const TOPIC = 'bench'
/** Fifty processes that start at once on two cores take a while. */
const START_MS_MAX = 180_000

export const manyAgents: Workload = {
  title: 'many agents on one collector',
  runs: 2,
  prepare: (options) => {
    const many = `${options.agents} agents`
    const figure = 'collector CPU-s per million lines'
    return Promise.resolve({
      contestants: [
        { name: many, run: () => inTemporaryFolder((folder) => measure(folder, options, options.agents)) },
        { name: 'one agent', run: () => inTemporaryFolder((folder) => measure(folder, options, 1)) },
      ],
      ratios: [{ name: `${figure}: ${many} / one agent`, of: { contestant: many, figure }, to: { contestant: 'one agent', figure }, better: 'lower' as const }],
      notes: [`${options.linesPerSecond} lines a second in all; the collector on core 1, the agents wherever the kernel puts them; bytes on disk with the small batches that slow files make`],
      close: () => Promise.resolve(),
    })
  },
}

async function measure(folder: string, options: BenchOptions, agents: number): Promise<Figures> {
  const logs = join(folder, 'logs')
  await mkdir(logs)
  const data = join(folder, 'data')
  const linesMax = options.linesPerSecond * (options.seconds + SPARE_SECONDS)
  const paths = Array.from({ length: agents }, (_, at) => join(logs, `app-${at}.log`))
  const readable = new Latencies(linesMax)
  const counter = new SequenceCounter(linesMax, (sequence) => readable.saw(sequence, performance.now()))
  const load = new Load({ paths, linesPerSecond: options.linesPerSecond, make: accessLines(), wrote: (sequence, atMs) => readable.wrote(sequence, atMs) })
  const collector = await startCollector({ data, core: 1, args: options.collectorArgs })
  const programs = paths.map((path, at) => startAgent({
    collectorUrl: collector.url, topic: TOPIC, args: ['--agent-id', `agent-${at}`, '--host', `host-${at}`, ...options.agentArgs, path],
  }))
  try {
    for (let at = 0; at < agents; at += 1) load.write(at, 1)
    const reader = await TailReader.open(collector.url, TOPIC, counter)
    await until('every agent has delivered its first line', async () => Promise.resolve(counter.distinct >= agents), START_MS_MAX)
    const before = await costs(programs)
    const first = programs[0]
    if (first === undefined) throw new Error('no agent')
    const setup = { load, seconds: options.seconds, agentPid: first.pid, receiverPid: collector.program.pid, counter, readable, wireBytes: () => Promise.resolve(Number.NaN) }
    const linesBefore = load.next
    const measured = await measureLoad(setup)
    const after = await costs(programs)
    reader.check()
    reader.close()
    const figures = loadFigures(measured, setup)
    const agentCpu = after.reduce((sum, cost, at) => sum + since(before[at] ?? cost, cost).cpuSeconds, 0)
    return {
      'lines/s': figures['lines/s'] ?? Number.NaN,
      'agent CPU-s per million lines, all agents': agentCpu / ((load.next - linesBefore) / 1e6),
      'collector CPU-s per million lines': measured.receiver.cpuSeconds / (measured.lines / 1e6),
      'collector cores': figures['receiver cores'] ?? Number.NaN,
      'collector peak RSS MiB': measured.receiver.peakRssMiB,
      'largest agent peak RSS MiB': Math.max(...after.map(({ peakRssMiB }) => peakRssMiB)),
      ...readable.figures('write → readable'),
      'bytes on disk per line': (await logBytes(data)) / load.next,
      ...lossFigures({ load, counter, readable }),
    }
  } finally {
    load.close()
    await Promise.all(programs.map((program) => program.stop()))
    await collector.program.stop()
  }
}

function costs(programs: readonly Program[]): Promise<Cost[]> {
  return Promise.all(programs.map((program) => program.cost()))
}
