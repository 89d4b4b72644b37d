/**
 * W8: queries without an index over one topic, asked over HTTP, beside `rg` on the raw file and `zstdgrep` on a
 * compressed one. Everything is in the page cache; the collector may use all cores, as rg may.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { paths } from '../../shared/wire.ts'
import { shipWhole } from './agent-process.ts'
import { startCollector, type CollectorProcess } from './collector-process.ts'
import { accessLines, writeLines, type WrittenFile } from './lines.ts'
import { endedChildrenCpuSeconds, since } from './process-cost.ts'
import { outputOf, temporaryFolder } from './programs.ts'
import type { Contestant, Figures, RatioSpec, Workload } from './workload.ts'

const OURS = 'tailrace'
const RG = 'rg on raw'
const ZSTDGREP = 'zstdgrep on zstd -1'
const UNZSTD = 'zstd -d alone'

interface Question {
  readonly name: string
  /** Of `GET /v1/query`. */
  readonly parameters: Readonly<Record<string, string>>
  /** Command lines for a shell; FILE stands for the file. */
  readonly rg: string
  readonly zstdgrep?: string
}

const questions: readonly Question[] = [
  grep('absent substring', { pattern: 'xyzzy-is-absent' }),
  { name: 'ten rare hits, returned', parameters: { topic: 'bench', pattern: 'seq=000012345' }, rg: "rg -F 'seq=000012345' FILE", zstdgrep: "zstdgrep -F 'seq=000012345' FILE" },
  grep('frequent word, counted', { pattern: 'curl', word: '1' }),
  grep('regex, counted', { pattern: ' 50[02] [0-9]+ "Moz', mode: 'regex' }),
  { name: 'last 100', parameters: { topic: 'bench', last: '100' }, rg: 'tail -n 100 FILE', zstdgrep: 'zstd -dcq FILE | tail -n 100' },
  {
    name: 'count per minute of all', parameters: { topic: 'bench', countBy: 'minute' },
    rg: "rg -o --no-line-number '\\[(\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d)' -r '$1' FILE | uniq -c",
  },
  { name: 'count per minute of a word', parameters: { topic: 'bench', pattern: 'curl', countBy: 'minute' }, rg: "rg -F 'curl' FILE | rg -o --no-line-number '\\[(\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d)' -r '$1' | uniq -c" },
]

/** A count, in grep's words and in ours. */
function grep(name: string, { pattern, word, mode }: { pattern: string; word?: string; mode?: string }): Question {
  const flags = `${mode === 'regex' ? '-e' : word === undefined ? '-F' : '-wF'} '${pattern}'`
  const how = { ...(word === undefined ? {} : { word }), ...(mode === undefined ? {} : { mode }) }
  return { name, parameters: { topic: 'bench', pattern, count: '1', ...how }, rg: `rg -c ${flags} FILE`, zstdgrep: `zstdgrep -c ${mode === 'regex' ? '-E ' : ''}${flags} FILE` }
}

export const queries: Workload = {
  title: 'queries without an index',
  runs: 3,
  prepare: async (options) => {
    const inputs = await temporaryFolder()
    const file = await writeLines(join(inputs.path, 'access.log'), { bytes: options.queryBytes, make: accessLines() })
    const collector = await startCollector({ data: join(inputs.path, 'data'), args: options.collectorArgs })
    try {
      await shipWhole(collector.url, file.path, options.agentArgs)
      const { contestants, notes } = await findTools(collector, file)
      return {
        contestants,
        ratios: ratios(contestants),
        notes: [...notes, `${(file.bytes / 1e9).toFixed(2)} GB of source, ${file.lines} lines; tailrace is asked over HTTP and its CPU is the collector's`],
        warmUp: async () => {
          for (const { run } of contestants) await run()
        },
        close: async () => {
          await collector.program.stop('SIGTERM')
          await inputs.remove()
        },
      }
    } catch (error) {
      await collector.program.stop()
      await inputs.remove()
      throw error
    }
  },
}

async function findTools(collector: CollectorProcess, file: WrittenFile): Promise<{ contestants: readonly Contestant[]; notes: readonly string[] }> {
  const contestants: Contestant[] = [{ name: OURS, run: () => askAll(collector, file) }]
  const notes: string[] = []
  const rg = (await outputOf(['rg', '--version']))?.split('\n')[0]
  if (rg === undefined) notes.push('SKIPPED rg, which is not installed: apt-get install ripgrep')
  else {
    notes.push(rg)
    contestants.push({ name: RG, isPeer: true, run: () => runAll(file, ({ rg: command }) => command.replaceAll('FILE', file.path)) })
  }
  const zstd = /v[0-9.]+/.exec((await outputOf(['zstd', '--version'])) ?? '')?.[0]
  if (zstd === undefined) return { contestants, notes: [...notes, 'SKIPPED zstdgrep, which is not installed: apt-get install zstd'] }
  const compressed = `${file.path}.zst`
  await outputOf(['zstd', '-1', '-q', '-f', file.path, '-o', compressed])
  notes.push(`zstd ${zstd}; its file has ${((await stat(compressed)).size / file.lines).toFixed(1)} bytes a line`)
  contestants.push(
    { name: ZSTDGREP, isPeer: true, run: () => runAll(file, ({ zstdgrep }) => zstdgrep?.replaceAll('FILE', compressed)) },
    { name: UNZSTD, isPeer: true, run: () => runAll(file, ({ name }) => (name === questions[0]?.name ? `zstd -dcq ${compressed} > /dev/null` : undefined)) },
  )
  return { contestants, notes }
}

function ratios(contestants: readonly Contestant[]): readonly RatioSpec[] {
  const scans = questions.slice(0, 4).map(({ name }) => `${name}: s`)
  return contestants.flatMap(({ name }) =>
    name === OURS ? [] : scans.map((figure): RatioSpec => ({ name: `${figure.slice(0, -3)}: time of ${name} / time of tailrace`, of: { contestant: name, figure }, to: { contestant: OURS, figure }, better: 'higher' })),
  )
}

async function askAll(collector: CollectorProcess, file: WrittenFile): Promise<Figures> {
  const figures: Record<string, number> = {}
  for (const { name, parameters } of questions) {
    const before = await collector.program.cost()
    const startedMs = performance.now()
    const hits = await ask(collector.url, parameters)
    const seconds = (performance.now() - startedMs) / 1000
    const { cpuSeconds } = since(before, await collector.program.cost())
    Object.assign(figures, figuresOf(name, { seconds, cpuSeconds, hits, bytes: file.bytes }))
  }
  figures['collector peak RSS MiB'] = (await collector.program.cost()).peakRssMiB
  return figures
}

/** Matches, or lines of a table of counts. */
async function ask(url: string, parameters: Readonly<Record<string, string>>): Promise<number> {
  const answer = await fetch(`${url}${paths.query}?${new URLSearchParams(parameters).toString()}`)
  const text = await answer.text()
  if (!answer.ok) throw new Error(`the query was answered with ${answer.status}: ${text}`)
  const lines = text.trimEnd().split('\n')
  const matched = /^\{"end":\{"matched":(\d+),"truncated":(?:true|false),"missing":\[\]/.exec(lines.at(-1) ?? '')?.[1]
  if (matched === undefined) throw new Error(`the answer was cut off: ${lines.at(-1) ?? ''}`)
  return parameters['countBy'] === undefined ? Number(matched) : lines.length - 1
}

async function runAll(file: WrittenFile, commandOf: (question: Question) => string | undefined): Promise<Figures> {
  const figures: Record<string, number> = {}
  for (const question of questions) {
    const command = commandOf(question)
    if (command === undefined) continue
    const before = await endedChildrenCpuSeconds()
    const startedMs = performance.now()
    const output = (await outputOf(['sh', '-c', command])) ?? ''
    const seconds = (performance.now() - startedMs) / 1000
    const cpuSeconds = (await endedChildrenCpuSeconds()) - before
    Object.assign(figures, figuresOf(question.name, { seconds, cpuSeconds, hits: hitsOf(question, output), bytes: file.bytes }))
  }
  return figures
}

/** `-c` prints a number, or with rg nothing for none; other commands print the lines. */
function hitsOf({ rg }: Question, output: string): number {
  const lines = output.split('\n').filter((line) => line !== '')
  return rg.startsWith('rg -c') ? Number(lines[0] ?? 0) : lines.length
}

function figuresOf(name: string, { seconds, cpuSeconds, hits, bytes }: { seconds: number; cpuSeconds: number; hits: number; bytes: number }): Figures {
  const isScan = questions.findIndex((question) => question.name === name) < 4
  return { [`${name}: s`]: seconds, [`${name}: CPU-s`]: cpuSeconds, ...(isScan ? { [`${name}: GB/s of source per core`]: bytes / 1e9 / cpuSeconds } : {}), [`${name}: hits`]: hits }
}
