/**
 * `npm run torture -- [--minutes N | --kills N | --peers-table | --power-cuts N | --scenarios] [--seed S] [--rate LINES_PER_SECOND] [--verbose]`: real processes under
 * faults, and an oracle that knows every byte. Exits 1 when a line was lost, doubled or reordered. The seed fixes what is
 * written and which faults come in which order; when exactly they strike is the machine's.
 */
import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import { peersTable } from './peers-table.ts'
import { powerLoss } from './power-loss.ts'
import { tellStories } from './scenarios.ts'
import { torture, type TortureOptions, type TortureResult } from './run.ts'
import { explainVerdict } from './report.ts'

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string' },
      kills: { type: 'string' },
      seed: { type: 'string' },
      rate: { type: 'string', default: '3000' },
      'power-cuts': { type: 'string' },
      scenarios: { type: 'boolean', default: false },
      only: { type: 'string' },
      'peers-table': { type: 'boolean', default: false },
      verbose: { type: 'boolean', default: false },
    },
  })
  const seed = values.seed === undefined ? randomInt(1, 1_000_000) : Number(values.seed)
  const limits = values.kills === undefined ? { minutes: Number(values.minutes ?? '3') } : { kills: Number(values.kills), ...(values.minutes === undefined ? {} : { minutes: Number(values.minutes) }) }
  const numbers = [seed, Number(values.rate), ...Object.values(limits)]
  if (numbers.some((number) => !Number.isFinite(number) || number < 0)) {
    process.stderr.write('minutes, kills, seed and rate are numbers\n')
    return 2
  }
  const options: TortureOptions = {
    seed,
    ...limits,
    linesPerSecond: Number(values.rate),
    say,
    chat: values.verbose ? say : () => undefined,
  }
  say(`seed ${seed}`)
  const only = values.only === undefined ? {} : { only: values.only }
  if (values['peers-table']) return (await peersTable({ seed, say, ...only })) ? 0 : 1
  if (values.scenarios) return (await tellStories({ seed, say, ...only })) ? 0 : 1
  if (values['power-cuts'] !== undefined) {
    return (await powerLoss({ seed, cuts: Number(values['power-cuts']), linesPerSecond: Number(values.rate), say })) ? 0 : 1
  }
  const startMs = performance.now()
  const result = await torture(options)
  report(result, (performance.now() - startMs) / 1000)
  const replay = [`--seed ${seed}`, ...Object.entries(limits).map(([name, value]) => `--${name} ${value}`), `--rate ${values.rate}`].join(' ')
  if (!result.isClean) say(`FAILED; the working folder is kept: ${result.work}`)
  say(`once more: npm run torture -- ${replay}`)
  return result.isClean ? 0 : 1
}

function report(result: TortureResult, seconds: number): void {
  say('')
  for (const [name, count] of result.faults) say(`  ${name.padEnd(36)} ${count}`)
  for (const [name, count] of result.requestFaults) say(`  request: ${name.padEnd(27)} ${count}`)
  say(`kills ${result.kills}, other faults of processes and machines ${sum(result.faults) - result.kills}, of requests ${sum(result.requestFaults)}, ends by themselves ${result.selfEnds}, ${seconds.toFixed(0)} s`)
  for (const verdict of result.verdicts) for (const line of explainVerdict(verdict)) say(line)
  for (const finding of result.findings) say(`WRONG: ${finding}`)
}

function sum(counts: ReadonlyMap<string, number>): number {
  let total = 0
  for (const count of counts.values()) total += count
  return total
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

process.exitCode = await main()
