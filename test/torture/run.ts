/** One torture: writers, two agents, a proxy and a collector, faults without end, then silence and the judgement. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { seededRandom } from '../access-log.ts'
import { loadZstd } from '../../shared/zstd.ts'
import { weaknesses } from './coverage.ts'
import { allStreams, judgeCat, judgeExport, judgeVerify, settleAndJudge } from './evidence.ts'
import { proxyFaults, type ProxyFault } from './faulty-proxy.ts'
import type { Verdict } from './judge.ts'
import { waitUntil } from './machine.ts'
import { makeMovedClock, type MovedClock } from './moved-clock.ts'
import { Rig } from './rig.ts'
import { Schedule } from './schedule.ts'
import { makeSmallDisk, type SmallDisk } from './small-disk.ts'
import { ComingAndGoing, GrowingWriter, RotatingWriter, WriterLoop } from './writers.ts'

export interface TortureOptions {
  readonly seed: number
  /** Ends after so many kills, or so many minutes, whatever is given. */
  readonly kills?: number
  readonly minutes?: number
  readonly linesPerSecond: number
  readonly say: (text: string) => void
  /** Progress that nobody needs in a log. */
  readonly chat: (text: string) => void
}

/** A question that was asked, and what speaks against the right answer. */
export interface Check {
  readonly what: string
  readonly findings: readonly string[]
}

export interface TortureResult {
  readonly isClean: boolean
  readonly kills: number
  readonly faults: ReadonlyMap<string, number>
  readonly requestFaults: ReadonlyMap<ProxyFault, number>
  readonly verdicts: readonly Verdict[]
  /** What was asked beside the verdicts. */
  readonly checks: readonly Check[]
  readonly selfEnds: number
  readonly seconds: number
  readonly work: string
}

/** Share of requests that the proxy hurts. */
const REQUEST_FAULTS = 0.06

export async function torture(options: TortureOptions): Promise<TortureResult> {
  const dice = seededRandom(options.seed ^ 0x5eed)
  const parts: { disk?: SmallDisk; clock?: MovedClock; isHurting: boolean } = { isHurting: false }
  const rig = await Rig.open({
    seed: options.seed,
    chooseFault: () => (parts.isHurting && dice() < REQUEST_FAULTS ? proxyFaults[Math.floor(dice() * proxyFaults.length)] : undefined),
    dataFolder: (work) => {
      parts.disk = makeSmallDisk(work, diskMegabytes(options))
      return join(parts.disk.path, 'data')
    },
    env: (work) => {
      parts.clock = makeMovedClock(work)
      return parts.clock.env
    },
    collectorArgs: ['--segment-bytes', '1MiB', '--segment-age', '20s'],
  })
  const { disk, clock } = parts
  let isClean = false
  try {
    if (disk === undefined || clock === undefined) throw new Error('the rig has no disk or no clock')
    rig.atExit.push(() => disk.remove())
    options.say(`working folder ${rig.work}; collector's disk: ${disk.kind}`)
    if (disk.skipped !== undefined) options.say(`SKIPPED full disk: no small file system can be mounted here (${disk.skipped})`)
    const schedule = new Schedule({ rig, disk, clock, random: seededRandom(options.seed ^ 0xfa17), say: options.chat })
    const result = await hurtAndJudge({ rig, schedule, parts }, options)
    isClean = result.isClean
    return result
  } finally {
    await rig.close({ keepFolder: true })
    disk?.free()
    disk?.remove()
    if (isClean) await rig.close({ keepFolder: false })
  }
}

interface Stage {
  readonly rig: Rig
  readonly schedule: Schedule
  readonly parts: { isHurting: boolean }
}

async function hurtAndJudge({ rig, schedule, parts }: Stage, options: TortureOptions): Promise<TortureResult> {
  const startMs = performance.now()
  const secondsSoFar = (): number => (performance.now() - startMs) / 1000
  const world = makeWorld(rig, options.linesPerSecond)
  const loop = new WriterLoop(world.writers)
  await begin(rig, loop)
  parts.isHurting = true
  await hurt(schedule, loop, options)
  parts.isHurting = false
  const minutes = secondsSoFar() / 60
  loop.stop()
  schedule.heal()
  options.say(`faults are over after ${Math.round(minutes * 60)} s; waiting until everything has arrived`)
  const { kills } = schedule
  await waitUntil(() => rig.isReady(), 60_000)
  const { verdicts, checks } = await judgeAll(rig, world.bases)
  const daemons = [rig.collector, ...rig.agents]
  const logs = daemons.map((daemon) => daemon.logText())
  const bugs = daemons.flatMap((daemon) => daemon.logLines().bugs.slice(0, 3).map((line) => `${daemon.name} says: ${line.slice(0, 400)}`))
  const course = { kills, minutes, kinds: schedule.kinds, counts: schedule.counts, requestCounts: rig.proxy.counts, logs, verdicts }
  const all = [...checks, { what: 'no daemon met a bug', findings: bugs }, { what: 'the harness did what it says', findings: weaknesses(course) }]
  return {
    isClean: all.every(({ findings }) => findings.length === 0) && verdicts.every(({ findings }) => findings.length === 0),
    kills,
    faults: schedule.counts,
    requestFaults: rig.proxy.counts,
    verdicts,
    checks: all,
    selfEnds: daemons.reduce((sum, daemon) => sum + daemon.selfEnds, 0),
    seconds: secondsSoFar(),
    work: rig.work,
  }
}

function diskMegabytes({ minutes, linesPerSecond }: TortureOptions): number {
  return Math.ceil(1024 + (minutes ?? 8) * 60 * linesPerSecond * 0.0002 * 2)
}

interface World {
  readonly writers: readonly (RotatingWriter | ComingAndGoing | GrowingWriter)[]
  readonly bases: readonly { file: string; path: string }[]
}

/** Agent A has what rotates, agent B the rest; each path is the single `app.log`, or all `*.log` for files that come and go. */
function makeWorld(rig: Rig, linesPerSecond: number): World {
  const { logs, ledger, contents, random } = rig
  mkdirSync(logs)
  const common = { folder: logs, ledger, contents, random }
  const rotating = { ...common, agent: 'agent-a', flavour: 'plain', rotateMs: 1000, isUntidy: true } as const
  const rate = linesPerSecond / 6
  const writers = [
    new RotatingWriter({ ...rotating, name: 'rename', how: 'rename', naming: 'shift', keep: 60, linesPerSecond: rate }),
    new RotatingWriter({ ...rotating, name: 'rename-dated', how: 'rename', naming: 'date', keep: 60, flavour: 'odd', linesPerSecond: rate / 2 }),
    new RotatingWriter({ ...rotating, name: 'copytruncate', how: 'copytruncate', naming: 'shift', rotateMs: 2000, keep: 30, linesPerSecond: rate }),
    new RotatingWriter({ ...rotating, name: 'gz', how: 'rename', naming: 'shift', keep: 50, gzipAfterMs: 45_000, linesPerSecond: rate }),
    new GrowingWriter({ ...common, agent: 'agent-b', name: 'growing', flavour: 'odd', linesPerSecond: rate }),
    new RotatingWriter({ ...rotating, agent: 'agent-b', name: 'slow-copytruncate', how: 'copytruncate', naming: 'date', rotateMs: 7000, keep: 20, linesPerSecond: rate }),
    new ComingAndGoing({ ...common, agent: 'agent-b', name: 'coming', everyMs: 700, linesPerSecond: rate }),
  ]
  const bases = writers.flatMap((writer) => ('basePath' in writer ? [{ file: nameIn(writer.basePath), path: writer.basePath }] : []))
  const flags = ['--unterminated-after', '2s']
  const single = (name: string): string => join(logs, name, 'app.log')
  rig.addAgent('agent-a', ['rename', 'rename-dated', 'copytruncate', 'gz'].map(single), flags)
  rig.addAgent('agent-b', [single('growing'), single('slow-copytruncate'), join(logs, 'coming', '**', '*.log')], flags)
  return { writers, bases }
}

function nameIn(basePath: string): string {
  return basePath.split('/').at(-2) ?? ''
}

/** Every file is known to the collector before the first fault: an agent that never ran can promise nothing. */
async function begin(rig: Rig, loop: WriterLoop): Promise<void> {
  rig.collector.start()
  if (!(await waitUntil(() => rig.isReady(), 60_000))) throw new Error(`the collector does not start: ${rig.collector.logLines().last.join('\n')}`)
  for (const agent of rig.agents) await rig.startAgent(agent)
  loop.start()
  const hasBegun = await waitUntil(async () => (await allStreams(rig)).length >= 6, 60_000)
  if (!hasBegun) throw new Error('the agents do not ship')
}

async function hurt(schedule: Schedule, loop: WriterLoop, { kills, minutes, say }: TortureOptions): Promise<void> {
  const startMs = performance.now()
  let nextReportMs = startMs + 30_000
  const isOver = (): boolean => (kills !== undefined && schedule.kills >= kills) || performance.now() - startMs >= (minutes ?? 60) * 60_000
  while (!isOver()) {
    await schedule.next()
    if (loop.failure !== undefined) throw loop.failure
    if (performance.now() > nextReportMs) {
      say(`${Math.round((performance.now() - startMs) / 1000)} s: ${schedule.kills} kills`)
      nextReportMs += 30_000
    }
    await schedule.rest()
  }
}

async function judgeAll(rig: Rig, bases: World['bases']): Promise<{ verdicts: Verdict[]; checks: Check[] }> {
  const zstd = await loadZstd()
  const { verdict, judge } = await settleAndJudge(rig, zstd)
  const exported = await judgeExport(rig, zstd)
  const checks = [{ what: 'cat', findings: await judgeCat(rig, judge, bases) }, { what: 'verify', findings: await judgeVerify(rig) }]
  return { verdicts: [verdict, exported], checks }
}
