/**
 * Layer 4: the power goes for real. The collector's data lies on ext4 on a loop device; the file system is shut down
 * without flushing its log, as a power cut would leave it, unmounted and mounted again. What was acked before must be
 * there; the agent must go on without a lost or doubled line. Needs root, loop devices and a way to shut down: probed
 * first, skipped loudly.
 */
import { join } from 'node:path'
import { loadZstd } from '../../shared/zstd.ts'
import { makeLyingSync } from './bad-disk.ts'
import { allStreams, judgeLog, settle } from './evidence.ts'
import { pause, waitUntil } from './machine.ts'
import { explainVerdict } from './report.ts'
import { Rig } from './rig.ts'
import { makeSmallDisk, run, type SmallDisk } from './small-disk.ts'
import { RotatingWriter, WriterLoop } from './writers.ts'

export interface PowerLossOptions {
  readonly seed: number
  readonly cuts: number
  readonly linesPerSecond: number
  readonly say: (text: string) => void
  /** Plants a disk that only says that it synced: the cuts must find it. */
  readonly isLying?: boolean
}

export type PowerLossResult = 'clean' | 'wrong' | 'skipped'

/** Longer than the agent waits between two attempts. */
const LAST_QUIET_MS = 20_000

const ENDS_MAX = 3

/** EXT4_IOC_SHUTDOWN with "no log flush": what `xfs_io -x -c shutdown` does, for machines without xfsprogs. */
const SHUTDOWN = `import fcntl, os, struct, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(descriptor, 0x8004587d, struct.pack('I', 2))`

/** Answers how a mounted file system can be shut down here, or undefined. */
function findShutdown(disk: SmallDisk): ((path: string) => void) | undefined {
  if (disk.skipped !== undefined || !disk.kind.startsWith('ext4')) return undefined
  const ways: readonly ((path: string) => void)[] = [
    (path) => void run('xfs_io', ['-x', '-c', 'shutdown', path]),
    (path) => void run('python3', ['-c', SHUTDOWN, path]),
  ]
  for (const way of ways) {
    try {
      way(disk.path)
      disk.remount()
      return way
    } catch (error) {
      // Not this one: the next may be there.
      if (!(error instanceof Error)) throw error
    }
  }
  return undefined
}

export async function powerLoss(options: PowerLossOptions): Promise<PowerLossResult> {
  const { say, seed } = options
  const parts: { disk?: SmallDisk } = {}
  const rig = await Rig.open({
    seed,
    hasExport: false,
    dataFolder: (work) => {
      parts.disk = makeSmallDisk(work, 1024)
      return join(parts.disk.path, 'data')
    },
    collectorArgs: ['--segment-bytes', '1MiB'],
    ...(options.isLying === true ? { env: makeLyingSync } : {}),
  })
  const { disk } = parts
  rig.atExit.push(() => disk?.remove())
  let result: PowerLossResult = 'wrong'
  try {
    const shutDown = disk === undefined ? undefined : findShutdown(disk)
    if (disk === undefined || shutDown === undefined) {
      say(`SKIPPED power loss: no ext4 on a loop device that can be shut down here (${disk?.skipped ?? disk?.kind ?? 'no disk'})`)
      result = 'skipped'
      return result
    }
    result = (await cutAgainAndAgain(options, { rig, disk, shutDown })) ? 'clean' : 'wrong'
    return result
  } finally {
    await rig.close({ keepFolder: true })
    disk?.remove()
    if (result !== 'wrong' || options.isLying === true) await rig.close({ keepFolder: false })
    else say(`the working folder is kept: ${rig.work}`)
  }
}

interface Bench {
  readonly rig: Rig
  readonly disk: SmallDisk
  readonly shutDown: (path: string) => void
}

async function cutAgainAndAgain(options: PowerLossOptions, bench: Bench): Promise<boolean> {
  const { rig } = bench
  const { say } = options
  const writer = new RotatingWriter({
    folder: rig.logs, name: 'app', agent: 'agent', ledger: rig.ledger, contents: rig.contents, random: rig.random, flavour: 'plain',
    linesPerSecond: options.linesPerSecond, how: 'rename', rotateMs: 2000, naming: 'shift', keep: 1000, isUntidy: true,
  })
  rig.collector.start()
  await waitUntil(() => rig.isReady(), 30_000)
  await rig.startAgent(rig.addAgent('agent', [writer.basePath], ['--unterminated-after', '2s']))
  const loop = new WriterLoop([writer])
  loop.start()
  const problems: string[] = []
  try {
    for (let cut = 1; cut <= options.cuts && problems.length === 0; cut += 1) problems.push(...(await cutOnce(cut, bench)))
  } finally {
    loop.stop()
  }
  for (const problem of problems) say(`WRONG: ${problem}`)
  if (problems.length > 0) return false
  await settle(rig, LAST_QUIET_MS)
  const { verdict } = await judgeLog(rig, await loadZstd())
  say(`${options.cuts} power cuts`)
  for (const line of explainVerdict(verdict)) say(line)
  return verdict.findings.length === 0 && verdict.excused === 0
}

/** Under load; answers what was told to be stored and is not there behind the cut. */
async function cutOnce(cut: number, { rig, disk, shutDown }: Bench): Promise<string[]> {
  await waitUntil(async () => (await allStreams(rig)).length >= cut, 30_000)
  await pause(rig.random() * 3000)
  const before = await positionsOf(rig)
  shutDown(disk.path)
  await rig.collector.kill()
  disk.remount()
  rig.collector.start()
  if (!(await comesUp(rig))) return [`cut ${cut}: the collector does not start again: ${rig.collector.logLines().last.join('\n')}`]
  const after = await positionsOf(rig)
  const isBehind = ([id, position]: [string, number]): boolean => (after.get(id) ?? 0) < position
  return [...before].filter(isBehind).map(([id, position]) => `cut ${cut}: stream ${id} was told to stand at ${position} and stands at ${after.get(id) ?? 0}`)
}

async function positionsOf(rig: Rig): Promise<Map<string, number>> {
  return new Map((await allStreams(rig)).map(({ id, position }) => [id, position]))
}

/** A collector that ends again and again will not come up. */
async function comesUp(rig: Rig): Promise<boolean> {
  const { selfEnds } = rig.collector
  let isUp = false
  await waitUntil(async () => {
    if (rig.collector.selfEnds >= selfEnds + ENDS_MAX) return true
    isUp = await rig.isReady()
    return isUp
  }, 60_000)
  return isUp
}
