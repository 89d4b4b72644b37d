/**
 * `npm run torture -- --scenarios`: what happens once in a collector's life, each as a short story with real processes and
 * the same oracle: a full disk, an fsync that fails, a data folder set back to an older copy, a cloned agent, and damage
 * that `verify` has to find.
 */
import { cpSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { loadZstd } from '../../shared/zstd.ts'
import { makeFailingSync, type FailingSync } from './bad-disk.ts'
import { cloneStory } from './clone-story.ts'
import { damageStory } from './damage-story.ts'
import { settleAndJudge } from './evidence.ts'
import { pause, waitUntil } from './machine.ts'
import { explainVerdict } from './report.ts'
import { Rig, type RigOptions } from './rig.ts'
import { makeSmallDisk, type SmallDisk } from './small-disk.ts'
import { RotatingWriter, WriterLoop } from './writers.ts'

export interface Story {
  readonly title: string
  /** What went wrong; a string that begins with SKIPPED says why it was not told. */
  tell(seed: number): Promise<readonly string[]>
}

const stories: readonly Story[] = [
  { title: 'the collector\'s disk is full for 8 s under load: agents wait, work goes on by itself', tell: diskFull },
  { title: 'an fsync fails: the process ends, and the restart serves what the disk holds', tell: failedSync },
  { title: 'the data folder is set back to an older copy, agents run on', tell: (seed) => setBack(seed, { isAgentRestarted: false }) },
  { title: 'the data folder is set back to an older copy, agents restart', tell: (seed) => setBack(seed, { isAgentRestarted: true }) },
  { title: 'a cloned agent: same id, same inodes, other lines', tell: cloneStory },
  { title: 'verify finds a flipped byte, a removed segment, a changed source and a short export', tell: damageStory },
]

export async function tellStories(options: { seed: number; say: (text: string) => void; only?: string }): Promise<boolean> {
  let isClean = true
  for (const { title, tell } of stories) {
    if (options.only !== undefined && !title.includes(options.only)) continue
    const findings = await tell(options.seed)
    const skipped = findings.find((finding) => finding.startsWith('SKIPPED'))
    options.say(`${skipped ?? (findings.length === 0 ? 'ok' : 'FAILED')}: ${title}`)
    if (skipped !== undefined) continue
    for (const finding of findings) options.say(`  ${finding}`)
    isClean &&= findings.length === 0
  }
  return isClean
}

interface Load {
  readonly rig: Rig
  readonly loop: WriterLoop
}

/** A collector, an agent, and `app.log` that is renamed every two seconds. */
async function withLoad(options: RigOptions & { after?: () => void }, story: (load: Load) => Promise<readonly string[]>): Promise<readonly string[]> {
  const rig = await Rig.open({ hasExport: false, collectorArgs: ['--segment-bytes', '1MiB'], ...options })
  let findings: readonly string[] = ['it did not come to its end']
  try {
    const writer = new RotatingWriter({
      folder: rig.logs, name: 'app', agent: 'agent', ledger: rig.ledger, contents: rig.contents, random: rig.random, flavour: 'plain',
      linesPerSecond: 2000, how: 'rename', rotateMs: 2000, naming: 'shift', keep: 1000, isUntidy: true,
    })
    const loop = new WriterLoop([writer])
    rig.collector.start()
    if (!(await waitUntil(() => rig.isReady(), 30_000))) return [`the collector does not start: ${rig.collector.logLines().last.join(' ')}`]
    await rig.startAgent(rig.addAgent('agent', [writer.basePath], ['--unterminated-after', '2s']))
    loop.start()
    await pause(4000)
    const told = await story({ rig, loop })
    loop.stop()
    if (!(await waitUntil(() => rig.isReady(), 30_000))) return [...told, `the collector is not ready: ${rig.collector.logLines().last.join(' ')}`]
    const { verdict } = await settleAndJudge(rig, await loadZstd())
    const [summary, ...wrong] = explainVerdict(verdict)
    findings = verdict.findings.length > 0 || verdict.excused > 0 ? [...told, summary ?? '', ...wrong, `working folder: ${rig.work}`] : told
    return findings
  } finally {
    await rig.close({ keepFolder: true })
    options.after?.()
    if (findings.length === 0) await rig.close({ keepFolder: false })
  }
}

async function diskFull(seed: number): Promise<readonly string[]> {
  const parts: { disk?: SmallDisk } = {}
  const dataFolder = (work: string): string => {
    parts.disk = makeSmallDisk(work, 256)
    return join(parts.disk.path, 'data')
  }
  return withLoad({ seed, dataFolder, after: () => parts.disk?.remove() }, async ({ rig }) => {
    const { disk } = parts
    if (disk === undefined || disk.skipped !== undefined) return [`SKIPPED, no small file system here (${disk?.skipped ?? ''})`]
    disk.fill()
    await pause(8000)
    disk.free()
    await pause(3000)
    return rig.collector.selfEnds === 0 ? [] : [`the collector ended ${rig.collector.selfEnds} times: ${rig.collector.logLines().last.join(' ')}`]
  })
}

async function failedSync(seed: number): Promise<readonly string[]> {
  const parts: { sync?: FailingSync } = {}
  const env = (work: string): Readonly<Record<string, string>> => {
    parts.sync = makeFailingSync(work)
    return parts.sync.env
  }
  return withLoad({ seed, env }, async ({ rig }) => {
    const findings: string[] = []
    for (let failure = 1; failure <= 3; failure += 1) {
      parts.sync?.arm()
      const hasEnded = await waitUntil(() => rig.collector.selfEnds >= failure, 10_000)
      if (!hasEnded) findings.push(`failure ${failure}: the collector went on (${parts.sync?.isArmed === true ? 'it did not sync at all' : 'the sync had failed'})`)
      await waitUntil(() => rig.isReady(), 30_000)
      await pause(1500)
    }
    return findings
  })
}

async function setBack(seed: number, { isAgentRestarted }: { isAgentRestarted: boolean }): Promise<readonly string[]> {
  return withLoad({ seed }, async ({ rig }) => {
    const older = join(rig.work, 'older')
    await rig.collector.kill('SIGTERM')
    cpSync(rig.data, older, { recursive: true })
    rig.collector.start()
    // Long enough for files of the time between to be rotated, shipped and let go.
    await pause(16_000)
    if (isAgentRestarted) for (const agent of rig.agents) await agent.kill()
    await rig.collector.kill()
    rmSync(rig.data, { recursive: true })
    renameSync(older, rig.data)
    rig.collector.start()
    for (const agent of rig.agents) agent.start()
    await pause(4000)
    return []
  })
}
