/**
 * `npm run sim -- --seeds 1000`: many seeds on all cores. `--seed N` runs one; `--trace` prints what happened; a seed
 * that fails is made smaller (fault kinds off, less time) and printed with the one command that replays it. `--json FILE`
 * writes how many passed and failed.
 */
import { fork } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { nodeClock } from '../../shared/node/clock.ts'
import { isKind, kinds, type Kind } from './kinds.ts'
import type { PlanOptions } from './plan.ts'
import { runSeed, type SeedResult } from './run-seed.ts'
import { shrink } from './shrink.ts'

const clock = nodeClock()
const EVENTS_SHOWN = 120
const FAILURES_SHOWN = 5

/** What a worker tells of one seed. */
interface Told {
  readonly seed: number
  readonly violations: readonly string[]
  readonly writtenBytes: number
  readonly storedBytes: number
  readonly explained: readonly (readonly [string, number])[]
  readonly namedCopies: number
  readonly virtualMs: number
  readonly starts: number
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string' }, from: { type: 'string', default: '1' }, seed: { type: 'string' }, without: { type: 'string' }, only: { type: 'string' },
      ms: { type: 'string' }, trace: { type: 'boolean', default: false }, 'no-shrink': { type: 'boolean', default: false },
      json: { type: 'string' }, worker: { type: 'string' }, step: { type: 'string', default: '1' },
    },
  })
  const narrowing = {
    ...(values.without === undefined ? {} : { without: kindsOf(values.without) }),
    ...(values.only === undefined ? {} : { only: kindsOf(values.only) }),
    ...(values.ms === undefined ? {} : { chaosMs: Number(values.ms) }),
  }
  if (values.worker !== undefined) return work({ from: Number(values.worker), to: Number(values.seeds), step: Number(values.step), narrowing })
  if (values.seed !== undefined) return one({ seed: Number(values.seed), ...narrowing }, { isTraced: values.trace, isShrunk: !values['no-shrink'] })
  return many({ from: Number(values.from), count: Number(values.seeds ?? '100'), passed: process.argv.slice(2), json: values.json })
}

function kindsOf(text: string): Kind[] {
  return text.split(',').filter((part) => part !== '').map((part) => {
    const kind = part.replaceAll('-', ' ')
    if (!isKind(kind)) throw new Error(`there is no kind ${kind}; there are: ${kinds.join(', ')}`)
    return kind
  })
}

async function one(options: PlanOptions, how: { isTraced: boolean; isShrunk: boolean }): Promise<number> {
  const result = await runSeed(options)
  print(result, how.isTraced ? Number.MAX_SAFE_INTEGER : 0)
  if (result.violations.length === 0) return 0
  if (how.isTraced || !how.isShrunk) return 1
  await explain(options)
  return 1
}

/** The smallest run that still fails, and how to see it again. */
async function explain(options: PlanOptions): Promise<void> {
  const smaller = await shrink(options)
  print(smaller.result, EVENTS_SHOWN)
  say(`replay: ${commandFor(smaller.options)} --trace`)
}

function commandFor(options: PlanOptions): string {
  const only = options.only === undefined ? '' : ` --only '${options.only.map((kind) => kind.replaceAll(' ', '-')).join(',')}'`
  return `npm run sim -- --seed ${options.seed}${only}${options.chaosMs === undefined ? '' : ` --ms ${options.chaosMs}`}`
}

function print(result: SeedResult, events: number): void {
  if (events > 0) for (const line of result.lastEvents(events)) say(line)
  const { judgement } = result
  say(`seed ${result.seed}: ${result.virtualMs.toFixed(0)} ms in ${result.steps} steps, ${result.starts} collectors; ${result.kinds.join(', ')}`)
  if (judgement !== undefined) {
    say(`written ${judgement.writtenBytes} bytes, stored ${judgement.storedBytes}, lines in several files ${judgement.namedCopies}`)
    for (const [reason, bytes] of judgement.explained) say(`not stored, as E1 allows: ${bytes} bytes, ${reason}`)
  }
  for (const violation of result.violations) say(`VIOLATION ${violation}`)
}

async function work(range: { from: number; to: number; step: number; narrowing: Omit<PlanOptions, 'seed'> }): Promise<number> {
  for (let seed = range.from; seed < range.to; seed += range.step) {
    const result = await runSeed({ seed, ...range.narrowing })
    const told: Told = {
      seed, violations: result.violations, virtualMs: result.virtualMs, starts: result.starts,
      writtenBytes: result.judgement?.writtenBytes ?? 0, storedBytes: result.judgement?.storedBytes ?? 0,
      explained: [...(result.judgement?.explained ?? [])], namedCopies: result.judgement?.namedCopies ?? 0,
    }
    process.send?.(told)
  }
  return 0
}

async function many({ from, count, passed, json }: { from: number; count: number; passed: readonly string[]; json: string | undefined }): Promise<number> {
  const startMs = clock.monotonicMs()
  const all: Told[] = []
  const step = availableParallelism()
  const narrowing = passed.filter((argument, index) => /^--(without|only|ms)/.test(argument) || /^--(without|only|ms)$/.test(passed[index - 1] ?? ''))
  const workers = Array.from({ length: step }, (_, index) => {
    const args = [...narrowing, '--worker', String(from + index), '--seeds', String(from + count), '--step', String(step)]
    const child = fork(fileURLToPath(import.meta.url), args, { execArgv: [...process.execArgv, '--enable-source-maps'] })
    child.on('message', (told: Told) => {
      all.push(told)
      if (told.violations.length > 0) say(`seed ${told.seed} FAILS: ${(told.violations[0] ?? '').split('\n')[0]}`)
      else if (all.length % 100 === 0) say(`${all.length} of ${count} seeds, ${((clock.monotonicMs() - startMs) / 1000).toFixed(0)} s`)
    })
    return new Promise<number>((resolve) => child.on('exit', (code) => resolve(code ?? 1)))
  })
  const codes = await Promise.all(workers)
  summarize(all, { count, seconds: (clock.monotonicMs() - startMs) / 1000 })
  const failed = all.filter(({ violations }) => violations.length > 0).sort((a, b) => a.seed - b.seed)
  // A seed of which nothing was heard has not passed.
  const counts = { passed: all.length - failed.length, failed: count - all.length + failed.length }
  if (json !== undefined) await writeFile(json, JSON.stringify(counts))
  const [first] = failed
  if (first !== undefined) await explain({ seed: first.seed })
  for (const { seed } of failed.slice(1, FAILURES_SHOWN)) say(`replay: npm run sim -- --seed ${seed}`)
  return failed.length > 0 || codes.some((code) => code !== 0) || all.length !== count ? 1 : 0
}

function summarize(all: readonly Told[], run: { count: number; seconds: number }): void {
  const sum = (pick: (told: Told) => number): number => all.reduce((total, told) => total + pick(told), 0)
  const explained = new Map<string, number>()
  for (const told of all) for (const [reason, bytes] of told.explained) explained.set(reason, (explained.get(reason) ?? 0) + bytes)
  const hours = sum(({ virtualMs }) => virtualMs) / 3_600_000
  say(`${all.length} of ${run.count} seeds in ${run.seconds.toFixed(0)} s: ${hours.toFixed(1)} simulated hours, ${sum(({ starts }) => starts)} collector starts`)
  say(`written ${sum(({ writtenBytes }) => writtenBytes)} bytes, stored ${sum(({ storedBytes }) => storedBytes)}, lines in several files ${sum(({ namedCopies }) => namedCopies)}`)
  for (const [reason, bytes] of explained) say(`not stored, as E1 allows: ${bytes} bytes, ${reason}`)
  say(`${all.filter(({ violations }) => violations.length > 0).length} failed`)
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

process.exitCode = await main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  return 2
})
