/**
 * W4: ten thousand idle files and ten active ones. What the idle ones cost when nothing happens and while the ten are
 * written, and how long the first line of a new file takes, and a line in a file that was idle. Beside it, in turn, the
 * same ten active files alone.
 */
import { mkdir, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { recordsStored } from './collector-process.ts'
import { LiveRig } from './live-rig.ts'
import { arrival, loadFigures, lossFigures, measureEach, measureLoad } from './measured-load.ts'
import { since } from './process-cost.ts'
import { inTemporaryFolder, sleep, until } from './programs.ts'
import type { BenchOptions, Figures, RatioSpec, Workload } from './workload.ts'

const ACTIVE = 10
const FILES_PER_FOLDER = 100
const SETTLE_MS = 3000
/** At least one round through all files, and what V8 does once after a start counts for what it is. */
const IDLE_SECONDS_MIN = 60
const PROBES = 20
const PROBE_REST_MS = 200
const SPARE_SECONDS = 30
const WITH = 'tailrace'
const WITHOUT = 'no idle files'

export const idleFiles: Workload = {
  title: 'many idle files and ten active ones',
  runs: 2,
  prepare: (options) =>
    Promise.resolve({
      contestants: [
        { name: WITH, run: () => inTemporaryFolder((folder) => measure(folder, options, options.idleFiles)) },
        { name: WITHOUT, run: () => inTemporaryFolder((folder) => measure(folder, options, 0)) },
      ],
      ratios: ['agent CPU-s per million lines', 'agent peak RSS MiB'].map((figure): RatioSpec => ({
        name: `${figure}: with idle files / without`, of: { contestant: WITH, figure }, to: { contestant: WITHOUT, figure }, better: 'lower',
      })),
      notes: [`${options.idleFiles} idle files of one line each, last written a day ago, in folders of ${FILES_PER_FOLDER}; ${options.linesPerSecond} lines a second into the active ones`],
      close: () => Promise.resolve(),
    }),
}

async function measure(folder: string, options: BenchOptions, idleCount: number): Promise<Figures> {
  const idle = await makeIdleFiles(join(folder, 'logs'), idleCount)
  const active = join(folder, 'logs', 'active')
  await mkdir(active, { recursive: true })
  const rig = await LiveRig.start({
    folder, bench: options, paths: Array.from({ length: ACTIVE }, (_, at) => join(active, `app-${at}.log`)), globs: [join(folder, 'logs', '**', '*.log')],
    linesMax: options.linesPerSecond * (options.seconds + SPARE_SECONDS),
  })
  try {
    const startedMs = performance.now()
    await rig.startAgent({ isWatched: false })
    await until('all idle files are stored', async () => (await recordsStored(rig.collector.url)) >= idleCount)
    const found = (performance.now() - startedMs) / 1000
    await rig.startReader()
    await arrival(rig)
    await sleep(SETTLE_MS)
    const before = await rig.agent.cost()
    const idleSeconds = Math.max(IDLE_SECONDS_MIN, options.seconds)
    await sleep(idleSeconds * 1000)
    const resting = since(before, await rig.agent.cost())
    const { load, counter, readable, agent, collector } = rig
    const setup = { load, seconds: options.seconds, agentPid: agent.pid, receiverPid: collector.program.pid, counter, readable, wireBytes: () => Promise.resolve(Number.NaN) }
    const measured = await measureLoad(setup)
    const fresh = await measureEach(rig, { name: 'first line of a new file → readable', count: PROBES, restMs: PROBE_REST_MS, write: (turn) => load.writeElsewhere(join(folderOf(idle, turn) ?? active, `new-${turn}.log`)) })
    const woken = idleCount === 0 ? {} : await measureEach(rig, { name: 'line in an idle file → readable', count: PROBES, restMs: PROBE_REST_MS, write: (turn) => load.writeElsewhere(idle[(turn * 487) % idle.length] ?? '') })
    rig.checkReader()
    const { 'bytes on the wire per line': _, ...figures } = loadFigures(measured, setup)
    return { 'all idle files found and stored s': found, 'agent cores when idle': resting.cpuSeconds / idleSeconds, ...figures, ...fresh, ...woken, ...lossFigures(rig) }
  } finally {
    await rig.close()
  }
}

async function makeIdleFiles(logs: string, count: number): Promise<readonly string[]> {
  const paths = Array.from({ length: count }, (_, at) => join(logs, `d${Math.floor(at / FILES_PER_FOLDER)}`, `idle-${at}.log`))
  for (let at = 0; at < count; at += FILES_PER_FOLDER) {
    await mkdir(join(logs, `d${Math.floor(at / FILES_PER_FOLDER)}`), { recursive: true })
    await Promise.all(paths.slice(at, at + FILES_PER_FOLDER).map((path, each) => makeIdleFile(path, at + each)))
  }
  return paths
}

/** Last written a day ago: what was written within the last minute is not idle, and is looked at more often. */
async function makeIdleFile(path: string, number: number): Promise<void> {
  await writeFile(path, `the only line of file ${number}, long enough to look like one\n`)
  const written = new Date(Date.now() - 86_400_000)
  await utimes(path, written, written)
}

/** Where a new file goes: spread over the folders of the idle ones. */
function folderOf(idle: readonly string[], turn: number): string | undefined {
  const path = idle[(turn * 977) % Math.max(1, idle.length)]
  return path === undefined ? undefined : join(path, '..')
}
