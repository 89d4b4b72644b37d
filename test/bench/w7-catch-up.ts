/**
 * W7: the collector is killed under load, is away for a while, and comes back on its port and folder. How fast the agent
 * catches up while the load goes on, what waiting and catching up cost it, and whether every line is there once.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { startAgent } from './agent-process.ts'
import { readBack, recordsStored, startCollector, type CollectorProcess } from './collector-process.ts'
import { accessLines, writeLines } from './lines.ts'
import { Load } from './load.ts'
import { since } from './process-cost.ts'
import { freePort, inTemporaryFolder, type Program, sleep, temporaryFolder, until } from './programs.ts'
import { SequenceCounter } from './sequence-counter.ts'
import type { BenchOptions, Figures, Workload } from './workload.ts'
import { ZSTD, zstdYardstick } from './zstd-yardstick.ts'

const FILES = 10
const OURS = 'tailrace'
const STEADY_MS = 5000
/** Behind by less than what is under way anyway: caught up. */
const BEHIND_SECONDS = 0.5
const CATCH_UP_MS_MAX = 300_000

export const catchUp: Workload = {
  title: 'the collector is killed under load and comes back',
  runs: 1,
  prepare: async (options) => {
    const inputs = await temporaryFolder()
    const sample = await writeLines(join(inputs.path, 'sample.log'), { bytes: 200 * options.linesPerSecond * 10, make: accessLines() })
    const zstd = await zstdYardstick(sample)
    const figure = 'agent CPU-s per million lines'
    return {
      contestants: [{ name: OURS, run: () => inTemporaryFolder((folder) => measure(folder, options)) }, ...zstd.contestants],
      ratios: [{ name: `${figure}: catching up / ${ZSTD}`, of: { contestant: OURS, figure }, to: { contestant: ZSTD, figure }, better: 'lower' }],
      notes: [...zstd.notes, `away for ${options.awaySeconds} s by kill -9, ${options.linesPerSecond} lines a second all the time; agent on core 0, collector on core 1`],
      close: inputs.remove,
    }
  },
}

async function measure(folder: string, options: BenchOptions): Promise<Figures> {
  const logs = join(folder, 'logs')
  await mkdir(logs)
  const data = join(folder, 'data')
  const collectorOptions = { data, core: 1, port: await freePort(), args: options.collectorArgs }
  const load = new Load({ paths: Array.from({ length: FILES }, (_, at) => join(logs, `app-${at}.log`)), linesPerSecond: options.linesPerSecond, make: accessLines(), wrote: () => undefined })
  let collector = await startCollector(collectorOptions)
  const agent = startAgent({ collectorUrl: collector.url, topic: 'bench', logLevel: 'error', core: 0, args: [...options.agentArgs, join(logs, '*.log')] })
  const running = load.run()
  try {
    await sleep(STEADY_MS)
    await collector.program.stop('SIGKILL')
    const beforeAway = await agent.cost()
    await sleep(options.awaySeconds * 1000)
    const away = since(beforeAway, await agent.cost())
    collector = await startCollector(collectorOptions)
    const caught = await catchUpOf(collector, { load, agent, linesPerSecond: options.linesPerSecond })
    load.stop()
    await running
    await until('the last lines are stored', async () => (await recordsStored(collector.url)) >= load.next)
    const counter = new SequenceCounter(load.next)
    await readBack(collector.url, counter)
    return { 'agent cores while away': away.cpuSeconds / options.awaySeconds, ...caught, 'agent peak RSS MiB': (await agent.cost()).peakRssMiB, 'lines lost': counter.lost, 'lines doubled': counter.doubled }
  } finally {
    load.stop()
    await running
    load.close()
    await agent.stop()
    await collector.program.stop()
  }
}

async function catchUpOf(collector: CollectorProcess, { load, agent, linesPerSecond }: { load: Load; agent: Program; linesPerSecond: number }): Promise<Figures> {
  const before = await agent.cost()
  const storedBefore = await recordsStored(collector.url)
  const behind = load.next - storedBefore
  const startedMs = performance.now()
  await until('the agent is back', async () => (await recordsStored(collector.url)) > storedBefore, CATCH_UP_MS_MAX)
  const waited = (performance.now() - startedMs) / 1000
  const isCaughtUp = async (): Promise<boolean> => load.next - (await recordsStored(collector.url)) <= BEHIND_SECONDS * linesPerSecond
  await until('the agent has caught up', isCaughtUp, CATCH_UP_MS_MAX)
  const seconds = (performance.now() - startedMs) / 1000
  const lines = (await recordsStored(collector.url)) - storedBefore
  const cost = since(before, await agent.cost())
  return { 'lines behind when it is back': behind, 'ready → first lines s': waited, 'ready → caught up s': seconds, 'lines/s while catching up': lines / Math.max(0.001, seconds - waited), 'agent CPU-s per million lines': cost.cpuSeconds / (lines / 1e6) }
}
