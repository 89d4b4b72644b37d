/**
 * `npm run bench -- [workload…]`: figures of the real programs, each a process of its own, with real fsync, beside their
 * peers in the same run. Contestants run in turn, round after round; the table shows medians and spread. It measures; it
 * judges only when `--compare` asks it to, and no test depends on it.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { cpus, loadavg } from 'node:os'
import * as v from 'valibot'
import { compareRatios } from './compare.ts'
import { helpText, parseCommandLine, type CommandLine } from './options.ts'
import { ratiosOf, resultsSchema, summarize, type Results, type WorkloadResults } from './results.ts'
import { comparisonTable, workloadTable } from './table.ts'
import { backlog } from './w1-backlog.ts'
import { twentyFiles } from './w2-twenty-files.ts'
import { steadyLoad } from './w3-steady-load.ts'
import { idleFiles } from './w4-idle-files.ts'
import { manyAgents } from './w5-many-agents.ts'
import { sealedBatches } from './w6-sealed-batches.ts'
import { catchUp } from './w7-catch-up.ts'
import { queries } from './w8-query.ts'
import { replay } from './w9-replay.ts'
import type { Figures, Prepared, Workload } from './workload.ts'

const workloads: Readonly<Record<string, Workload>> = {
  W1: backlog, W2: twentyFiles, W3: steadyLoad, W4: idleFiles, W5: manyAgents, W6: sealedBatches, W7: catchUp, W8: queries, W9: replay,
}

async function main(args: readonly string[]): Promise<number> {
  const commandLine = parseCommandLine(args)
  if (commandLine.isHelp) {
    print(helpText)
    return 0
  }
  const isAll = commandLine.workloads.length === 0 || commandLine.workloads.includes('all')
  const wanted = isAll ? Object.keys(workloads) : commandLine.workloads
  const unknown = wanted.filter((name) => workloads[name] === undefined)
  if (unknown.length > 0) {
    process.stderr.write(`no workload ${unknown.join(', ')}; there are: ${Object.keys(workloads).join(', ')}, all\n`)
    return 2
  }
  const earlier = commandLine.compare === undefined ? undefined : v.parse(resultsSchema, JSON.parse(await readFile(commandLine.compare, 'utf8')))
  const loadBefore = loadavg()[0] ?? 0
  const cpu = cpus()[0]?.model ?? 'unknown CPU'
  print(`Node ${process.version}, ${cpus().length} × ${cpu}, load average ${loadBefore.toFixed(2)}\n`)
  const results: Results = { node: process.version, cpu, cores: cpus().length, loadBefore, options: { ...commandLine.options, runs: commandLine.runs }, workloads: {} }
  for (const name of wanted) {
    const workload = workloads[name]
    if (workload === undefined) continue
    results.workloads[name] = await measure(name, workload, commandLine)
    // Written after each: a run that is ended early leaves what it has.
    if (commandLine.json !== undefined) await writeFile(commandLine.json, `${JSON.stringify(results, null, 2)}\n`)
  }
  if (earlier === undefined) return 0
  const comparisons = compareRatios(earlier, results)
  print(comparisonTable(comparisons))
  return comparisons.compared.some(({ isRegression }) => isRegression) ? 1 : 0
}

async function measure(name: string, workload: Workload, { options, runs }: CommandLine): Promise<WorkloadResults> {
  const startedMs = performance.now()
  progress(`${name}: preparing`)
  const prepared = await workload.prepare(options)
  try {
    if (prepared.warmUp !== undefined) {
      progress(`${name}: warm-up`)
      await prepared.warmUp()
    }
    const { rounds, failures } = await runRounds(name, prepared, runs ?? workload.runs)
    const results = { title: workload.title, notes: [...failures, ...prepared.notes], contestants: summarize(rounds), ratios: ratiosOf(prepared.ratios, rounds) }
    print(workloadTable(name, results, rounds))
    progress(`${name}: took ${Math.round((performance.now() - startedMs) / 1000)} s`)
    return results
  } finally {
    await prepared.close()
  }
}

/** A peer that fails is left out and named; when tailrace itself fails there is nothing to tell. */
async function runRounds(name: string, { contestants }: Prepared, count: number): Promise<{ rounds: Map<string, Figures[]>; failures: string[] }> {
  const rounds = new Map<string, Figures[]>(contestants.map((contestant) => [contestant.name, []]))
  const failures: string[] = []
  for (let round = 0; round < count; round += 1) {
    for (const contestant of contestants) {
      if (!rounds.has(contestant.name)) continue
      progress(`${name}: round ${round + 1}, ${contestant.name}`)
      try {
        rounds.get(contestant.name)?.push(await contestant.run())
      } catch (error) {
        if (contestant.isPeer !== true) throw error
        rounds.delete(contestant.name)
        failures.push(`FAILED ${contestant.name}: ${error instanceof Error ? error.message : String(error)}`)
      }
    }
  }
  return { rounds, failures }
}

function print(text: string): void {
  process.stdout.write(text)
}

/** On stderr: the tables on stdout stay clean. */
function progress(text: string): void {
  process.stderr.write(`… ${text}\n`)
}

process.exitCode = await main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  return 2
})
