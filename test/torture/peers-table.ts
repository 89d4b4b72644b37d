/**
 * `npm run torture -- --peers-table`: the loads under which other agents were measured, with tailrace on its default
 * settings and the single path `app.log`. Lines have 200 bytes. Prints a markdown table.
 */
import { loadZstd } from '../../shared/zstd.ts'
import { judgeLog, settle } from './evidence.ts'
import { pause, waitUntil } from './machine.ts'
import { explainVerdict } from './report.ts'
import { Rig } from './rig.ts'
import { RotatingWriter, WriterLoop, type RotatingOptions } from './writers.ts'

interface Load {
  readonly title: string
  readonly linesPerSecond: number
  readonly seconds: number
  readonly rotate?: Pick<RotatingOptions, 'how' | 'rotateMs'>
  readonly isSwallowing?: boolean
  /** What happens, by seconds since the first line. */
  readonly events: readonly { readonly at: number; readonly act: (rig: Rig) => Promise<void> }[]
}

const killAgent = async ({ agents }: Rig): Promise<void> => {
  for (const agent of agents) {
    await agent.kill()
    await pause(500)
    agent.start()
  }
}
const collectorAway = async ({ collector }: Rig): Promise<void> => {
  await collector.kill()
}
const collectorBack = ({ collector }: Rig): Promise<void> => Promise.resolve(collector.start())

const loads: readonly Load[] = [
  {
    title: 'kill -9 of the agent × 3, restart after 0.5 s, 10,000 lines/s',
    linesPerSecond: 10_000,
    seconds: 60,
    events: [11.9, 30.6, 46.7].map((at) => ({ at, act: killAgent })),
  },
  {
    title: 'collector away for 74 s, kill -9 of the agent at the end of it, 10,000 lines/s',
    linesPerSecond: 10_000,
    seconds: 85,
    events: [{ at: 5, act: collectorAway }, { at: 75, act: killAgent }, { at: 79, act: collectorBack }],
  },
  {
    title: 'every tenth answer swallowed after the collector stored the batch, 10,000 lines/s',
    linesPerSecond: 10_000,
    seconds: 40,
    isSwallowing: true,
    events: [],
  },
  { title: 'rename every second, 20,000 lines/s', linesPerSecond: 20_000, seconds: 30, rotate: { how: 'rename', rotateMs: 1000 }, events: [] },
  { title: 'copytruncate every 2 s, 20,000 lines/s', linesPerSecond: 20_000, seconds: 30, rotate: { how: 'copytruncate', rotateMs: 2000 }, events: [] },
  {
    title: 'collector away for 20 s, rename every 5 s, 20,000 lines/s',
    linesPerSecond: 20_000,
    seconds: 35,
    rotate: { how: 'rename', rotateMs: 5000 },
    events: [{ at: 5, act: collectorAway }, { at: 25, act: collectorBack }],
  },
]

export async function peersTable(options: { seed: number; say: (text: string) => void; only?: string }): Promise<boolean> {
  const rows = ['| load | lines | lost | doubled | reordered | caught up after the last line |', '|---|---|---|---|---|---|']
  let isClean = true
  for (const load of loads) {
    if (options.only !== undefined && !load.title.includes(options.only)) continue
    options.say(`${load.title} …`)
    const { row, isGood } = await runLoad(load, options)
    rows.push(row)
    isClean &&= isGood
  }
  for (const row of rows) options.say(row)
  return isClean
}

async function runLoad(load: Load, { seed, say }: { seed: number; say: (text: string) => void }): Promise<{ row: string; isGood: boolean }> {
  let batches = 0
  const isTenth = (): boolean => (batches += 1) % 10 === 0
  const rig = await Rig.open({
    seed,
    hasExport: false,
    chooseFault: ({ path }) => (load.isSwallowing === true && path === '/v1/batches' && isTenth() ? 'swallow answer' : undefined),
  })
  let isGood = false
  try {
    const writer = new RotatingWriter({
      folder: rig.logs, name: 'app', agent: 'agent', ledger: rig.ledger, contents: rig.contents, random: rig.random,
      flavour: 'access', linesPerSecond: load.linesPerSecond, how: 'rename', rotateMs: Number.POSITIVE_INFINITY, ...load.rotate,
      naming: 'shift', keep: 1000, isUntidy: false,
    })
    rig.collector.start()
    if (!(await waitUntil(() => rig.isReady(), 30_000))) throw new Error('the collector does not start')
    // The peers were running, too, when the first line was written.
    await rig.startAgent(rig.addAgent('agent', [writer.basePath]))
    const loop = new WriterLoop([writer])
    loop.start()
    await play(load, rig)
    loop.stop()
    await waitUntil(() => rig.isReady(), 30_000)
    const endMs = performance.now()
    const arrivedMs = await settle(rig)
    const { verdict } = await judgeLog(rig, await loadZstd())
    isGood = verdict.findings.length === 0 && verdict.excused === 0
    if (!isGood) for (const line of explainVerdict(verdict)) say(line)
    const delay = arrivedMs === undefined ? 'never' : `${((arrivedMs - endMs) / 1000).toFixed(1)} s`
    return { row: `| ${load.title} | ${verdict.lines.toLocaleString('en')} | ${verdict.lost + verdict.excused} | ${verdict.doubled} | ${verdict.reordered} | ${delay} |`, isGood }
  } finally {
    await rig.close({ keepFolder: !isGood })
    if (!isGood) say(`the working folder is kept: ${rig.work}`)
  }
}

async function play(load: Load, rig: Rig): Promise<void> {
  const startMs = performance.now()
  for (const { at, act } of load.events) {
    await pause(Math.max(0, startMs + at * 1000 - performance.now()))
    await act(rig)
  }
  await pause(Math.max(0, startMs + load.seconds * 1000 - performance.now()))
}
