/** One seed from beginning to end: chaos, quiet, judgement. */
import type { Zstd } from '../../shared/zstd.ts'
import { Director } from './director.ts'
import { checkExports } from './export-check.ts'
import { judge, type Judgement } from './oracle.ts'
import { planOf, type PlanOptions } from './plan.ts'
import { storedZstd } from './stored-zstd.ts'
import { World } from './world.ts'

export interface SeedResult {
  readonly seed: number
  readonly violations: readonly string[]
  /** Of the whole trace: two runs of a seed agree in it. */
  readonly checksum: number
  readonly judgement: Judgement | undefined
  readonly virtualMs: number
  readonly steps: number
  readonly starts: number
  readonly kinds: readonly string[]
  lastEvents(count: number): readonly string[]
}

export interface SeedOptions extends PlanOptions {
  /** Default: frames of stored blocks, which cost nothing. */
  readonly zstd?: Zstd
}

/** Retries back off up to a minute, an unterminated line waits for half of one, a copy as long. */
const QUIET_MAX_MS = 900_000
const LOOK_EVERY_MS = 5_000
/** A slow disk and small segments: a hundred of them at some seconds each. */
const EXPORT_MAX_MS = 1_200_000
const STEPS_MAX = 2_000_000

export async function runSeed(options: SeedOptions): Promise<SeedResult> {
  const plan = planOf(options)
  const world = new World(plan, options.zstd ?? storedZstd())
  const { scheduler, trace } = world
  trace.note('plan', `seed ${plan.seed}, ${plan.chaosMs} ms, ${[...plan.kinds].join(', ')}`)
  const hasFailed = (): boolean => trace.violations.length > 0 || scheduler.fired > STEPS_MAX
  const rejected = (error: unknown): void => {
    trace.violation('unhandled', error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
  process.on('unhandledRejection', rejected)
  let judgement: Judgement | undefined
  try {
    const director = new Director(world)
    world.collector.start()
    for (const { agent } of world.hosts) agent.start()
    director.begin()
    await scheduler.runUntil(scheduler.nowMs + plan.chaosMs, hasFailed)
    if (!hasFailed()) {
      director.end()
      judgement = await untilStored(world, hasFailed)
    }
    if (!hasFailed() && judgement !== undefined) await endWith(world, judgement, hasFailed)
  } finally {
    process.off('unhandledRejection', rejected)
  }
  if (scheduler.fired > STEPS_MAX) trace.violation('steps', `more than ${STEPS_MAX} steps: something goes round and round`)
  return {
    seed: plan.seed, violations: trace.violations, checksum: trace.checksum, judgement,
    virtualMs: scheduler.nowMs, steps: scheduler.fired, starts: world.collector.starts, kinds: [...plan.kinds],
    lastEvents: (count) => trace.last(count),
  }
}

/** Lets quiet time pass until everything that has to be stored is. */
async function untilStored(world: World, hasFailed: () => boolean): Promise<Judgement> {
  const { scheduler } = world
  const endMs = scheduler.nowMs + QUIET_MAX_MS
  for (;;) {
    await scheduler.runUntil(scheduler.nowMs + LOOK_EVERY_MS, hasFailed)
    const found = judgementOf(world)
    const isDone = world.isQuiet && found.missing.length === 0
    if (isDone || hasFailed() || scheduler.nowMs >= endMs) return found
  }
}

function judgementOf(world: World): Judgement {
  const lives = new Set(world.hosts.map(({ agent }) => agent.life?.name))
  const { setBack } = world
  return judge({
    disks: world.hosts.map(({ disk }) => disk), ledger: world.ledger, sent: world.sentBatches, isCloned: world.has('clone'),
    setBackUntilMs: setBack === undefined ? undefined : (disk) => setBack.caughtUpMs.get(disk) ?? Number.POSITIVE_INFINITY,
    isAlive: (life) => lives.has(life),
  })
}

/** One more crash, after which nothing may be missing, and the whole export. */
async function endWith(world: World, judgement: Judgement, hasFailed: () => boolean): Promise<void> {
  const { scheduler, trace, collector } = world
  if (judgement.missing.length > 0) for (const { agent } of world.hosts) agent.describe()
  for (const missing of judgement.missing) trace.violation('lost', missing)
  if (!collector.isServing) trace.violation('start', 'the collector does not come back')
  for (const { agent } of world.hosts) if (!agent.isRunning) trace.violation('start', `${agent.name} does not come back`)
  if (hasFailed()) return
  collector.cutPower()
  collector.start()
  await scheduler.runUntil(scheduler.nowMs + 60_000, () => hasFailed() || collector.isServing)
  if (!collector.isServing) trace.violation('start', 'the collector does not come back after the last power cut')
  // A queue behind a batch whose answer was lost may leave only now: it gets its time as well.
  const last = await untilStored(world, hasFailed)
  for (const missing of last.missing) trace.violation('lost', missing)
  if (!mayDouble(world)) for (const doubled of last.doubled.slice(0, 5)) trace.violation('doubled', doubled)
  if (!hasFailed() && world.has('export')) await exportAll(world, hasFailed)
}

/**
 * Two agents under one id take streams from each other: what one stored the other may store again, and nothing is lost.
 * After a set back two lives of an agent may count the generations of a file differently, since the older remembers what
 * the log forgot: a request of it that the network held back then stands beside the same lines of the newer one.
 */
function mayDouble(world: World): boolean {
  return world.has('clone') || (world.setBack !== undefined && world.has('late messages'))
}

async function exportAll(world: World, hasFailed: () => boolean): Promise<void> {
  const { scheduler, trace, collector, disk, ledger, auditor } = world
  const required = new Map([...ledger.partitions].map(([partition, { nextOffset }]) => [partition, nextOffset]))
  let isExported = false
  collector.exportNow().then(
    () => {
      isExported = true
    },
    (error: unknown) => trace.violation('export', String(error)),
  )
  await scheduler.runUntil(scheduler.nowMs + EXPORT_MAX_MS, () => isExported || hasFailed())
  if (!isExported && !hasFailed()) trace.violation('export', 'the export does not end')
  const { handler, life } = collector
  if (hasFailed() || handler === undefined || life === undefined) return
  let isDone = false
  auditor
    .afterStart(handler, life)
    .then(({ topic }) => checkExports({ disk, ledger, trace, topic, required }))
    .finally(() => {
      isDone = true
    })
    .catch((error: unknown) => trace.violation('audit', String(error)))
  await scheduler.runUntil(scheduler.nowMs + 60_000, () => isDone)
}
