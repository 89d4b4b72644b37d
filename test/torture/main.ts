/**
 * `npm run torture`: real processes under faults, and an oracle that knows every byte; `--help` says how. The seed fixes
 * what is written and which faults come in which order; when exactly they strike is the machine's.
 */
import { randomInt } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { parseArguments, usage, type Arguments } from './arguments.ts'
import { peersTable } from './peers-table.ts'
import { powerLoss, type PowerLossOptions } from './power-loss.ts'
import { explainTorture, figuresOf } from './report.ts'
import { tellStories } from './scenarios.ts'
import { torture } from './run.ts'

const EXIT_WRONG_USE = 2
const EXIT_INTERRUPTED = 130

async function main(args: readonly string[]): Promise<number> {
  const parsed = parseArguments(args)
  if (parsed.kind === 'help') {
    process.stdout.write(usage)
    return 0
  }
  if (parsed.kind === 'wrong') {
    process.stderr.write(`torture: ${parsed.message}; --help shows what there is\n`)
    return EXIT_WRONG_USE
  }
  // So that what runs and what is mounted is undone: by the rig, when this process exits.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.once(signal, () => process.exit(EXIT_INTERRUPTED))
  const seed = parsed.seed ?? randomInt(1, 1_000_000)
  say(`seed ${seed}`)
  return (await run(parsed, seed)) ? 0 : 1
}

async function run(wanted: Arguments, seed: number): Promise<boolean> {
  const { only, rate, cuts, isLying } = wanted
  switch (wanted.kind) {
    case 'faults':
      return hurt(wanted, seed)
    case 'peers-table':
      return peersTable({ seed, say, ...(only === undefined ? {} : { only }) })
    case 'scenarios':
      return tellStories({ seed, say, ...(only === undefined ? {} : { only }) })
    case 'power-cuts':
      return cutPower({ seed, cuts, linesPerSecond: rate, say, isLying })
  }
}

/** On a disk that lies the cuts have to find something. */
async function cutPower(options: PowerLossOptions): Promise<boolean> {
  const result = await powerLoss(options)
  if (options.isLying !== true || result === 'skipped') return result !== 'wrong'
  say(result === 'wrong' ? 'ok: the cuts find a disk that lies' : 'WRONG: a disk that lies was not found')
  return result === 'wrong'
}

async function hurt({ minutes, kills, rate, json, isVerbose }: Arguments, seed: number): Promise<boolean> {
  const limits = { ...(minutes === undefined ? {} : { minutes }), ...(kills === undefined ? {} : { kills }) }
  const result = await torture({ seed, ...limits, linesPerSecond: rate, say, chat: isVerbose ? say : () => undefined })
  for (const line of explainTorture(result)) say(line)
  if (json !== undefined) writeFileSync(json, `${JSON.stringify(figuresOf(result), undefined, 2)}\n`)
  if (!result.isClean) say(`FAILED; the working folder is kept: ${result.work}`)
  const given = Object.entries(limits).map(([name, value]) => `--${name} ${value}`)
  say(`once more: npm run torture -- --seed ${seed} ${given.join(' ')} --rate ${rate}`)
  return result.isClean
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

process.exitCode = await main(process.argv.slice(2))
