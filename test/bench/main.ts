/**
 * `npm run bench -- [workload…] [--mb N] [--runs N] [--json FILE]`: figures of the real programs, each a process of its
 * own, with real fsync. Prints the median of the runs and their spread, and writes JSON when asked. It measures; it
 * never judges, and no test depends on it.
 */
import { writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { backlog } from './w1-backlog.ts'
import type { Figures, Workload } from './workload.ts'

const workloads: Readonly<Record<string, Workload>> = { W1: backlog }

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { mb: { type: 'string', default: '300' }, runs: { type: 'string', default: '3' }, json: { type: 'string' } },
  })
  const wanted = positionals.length > 0 ? positionals : Object.keys(workloads)
  const unknown = wanted.filter((name) => workloads[name] === undefined)
  if (unknown.length > 0) {
    process.stderr.write(`no workload ${unknown.join(', ')}; there are: ${Object.keys(workloads).join(', ')}\n`)
    return 2
  }
  process.stdout.write(`Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown CPU'}\n`)
  const results: Record<string, Figures[]> = {}
  for (const name of wanted) {
    const runs: Figures[] = []
    for (let run = 0; run < Number(values.runs); run += 1) {
      const figures = await workloads[name]?.run({ megabytes: Number(values.mb) })
      if (figures !== undefined) runs.push(figures)
    }
    results[name] = runs
    print(name, workloads[name]?.title ?? '', runs)
  }
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify({ node: process.version, results }, null, 2)}\n`)
  return 0
}

function print(name: string, title: string, runs: readonly Figures[]): void {
  process.stdout.write(`\n${name}  ${title}  (median of ${runs.length}; min … max)\n`)
  for (const key of Object.keys(runs[0] ?? {})) {
    const sorted = runs.map((figures) => figures[key] ?? Number.NaN).sort((a, b) => a - b)
    const median = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
    process.stdout.write(`  ${key.padEnd(44)} ${format(median).padStart(14)}   ${format(sorted[0] ?? 0)} … ${format(sorted.at(-1) ?? 0)}\n`)
  }
}

function format(value: number): string {
  return value >= 1000 ? Math.round(value).toLocaleString('en-US') : value.toFixed(value < 10 ? 2 : 1)
}

process.exitCode = await main()
