/** The command line of `npm run torture`: what it says of itself, and what was asked for or is wrong with it. */
import { parseArgs } from 'node:util'

export const usage = `Real processes under faults, and an oracle that knows every byte.

  npm run torture -- --minutes 3                 three minutes of faults, then the judgement
  npm run torture -- --kills 200 --seed 7        until 200 processes were killed; the faults of seed 7
  npm run torture -- --peers-table               the six loads under which other agents lost or doubled lines
  npm run torture -- --scenarios --only clone    the stories whose title holds "clone"; without --only all of them
  npm run torture -- --power-cuts 10             a file system shut down under the collector (root, loop devices)

Exit status: 0 when nothing was lost, doubled or reordered, 1 when something was, 2 when the command line is wrong.

What is run (one of them; three minutes when nothing is said):
  --minutes N        faults for so long
  --kills N          faults until so many kill -9; with --minutes whichever comes first
  --peers-table      tailrace on default settings under the peers' loads, as a markdown table
  --scenarios        full disk, failed fsync, older copy, clone, damage
  --power-cuts N     cuts the power of the collector's disk N times

How:
  --seed S           what is written and which faults come in which order; drawn and printed otherwise
  --rate N           lines per second of all writers together (default 2000)
  --only TEXT        with --scenarios or --peers-table: those whose title holds TEXT
  --lying-disk       with --power-cuts: fsync does nothing, and the exit status is 0 when the cuts find that
  --json FILE        the figures of --minutes or --kills, for machines
  --verbose          every fault as it happens
  --help             this
`

export type Wanted = 'faults' | 'peers-table' | 'scenarios' | 'power-cuts'

export interface Arguments {
  readonly kind: Wanted
  readonly seed: number | undefined
  readonly minutes: number | undefined
  readonly kills: number | undefined
  readonly cuts: number
  readonly rate: number
  readonly only: string | undefined
  readonly json: string | undefined
  readonly isLying: boolean
  readonly isVerbose: boolean
}

export type Parsed = Arguments | { readonly kind: 'help' } | { readonly kind: 'wrong'; readonly message: string }

const MINUTES_MAX = 1440
const KILLS_MAX = 100_000
const CUTS_MAX = 1000
const RATE_MAX = 100_000

const text = { type: 'string' } as const
const flag = { type: 'boolean', default: false } as const
const options = {
  minutes: text, kills: text, seed: text, rate: text, 'power-cuts': text, only: text, json: text,
  'lying-disk': flag, scenarios: flag, 'peers-table': flag, verbose: flag, help: { ...flag, short: 'h' },
} as const

export function parseArguments(args: readonly string[]): Parsed {
  try {
    const { values } = parseArgs({ args: [...args], options })
    if (values.help) return { kind: 'help' }
    const modes = (['peers-table', 'scenarios', 'power-cuts'] as const).filter((mode) => values[mode] !== undefined && values[mode] !== false)
    const isLimited = values.minutes !== undefined || values.kills !== undefined
    const [mode] = modes
    if (modes.length > 1 || (mode !== undefined && isLimited)) throw new Error(`--${mode ?? ''} stands alone, without --${modes[1] ?? (values.kills === undefined ? 'minutes' : 'kills')}`)
    if (values.only !== undefined && mode !== 'scenarios' && mode !== 'peers-table') throw new Error('--only goes with --scenarios or --peers-table')
    if (values.json !== undefined && mode !== undefined) throw new Error(`--json does not go with --${mode}`)
    if (values['lying-disk'] && mode !== 'power-cuts') throw new Error('--lying-disk goes with --power-cuts')
    return {
      kind: mode ?? 'faults',
      seed: numberOf('seed', values.seed, { most: 0xffff_ffff, isWhole: true }),
      minutes: numberOf('minutes', values.minutes, { most: MINUTES_MAX }) ?? (isLimited ? undefined : 3),
      kills: numberOf('kills', values.kills, { most: KILLS_MAX, isWhole: true }),
      cuts: numberOf('power-cuts', values['power-cuts'], { most: CUTS_MAX, isWhole: true }) ?? 0,
      rate: numberOf('rate', values.rate, { most: RATE_MAX }) ?? 2000,
      only: values.only,
      json: values.json,
      isLying: values['lying-disk'],
      isVerbose: values.verbose,
    }
  } catch (error) {
    if (!(error instanceof Error)) throw error
    // Node's own messages go on with advice about `--`, which nobody needs here.
    return { kind: 'wrong', message: (error.message.split(/\. To specify|\n/)[0] ?? '').replace(/^./, (letter) => letter.toLowerCase()) }
  }
}

function numberOf(name: string, given: string | undefined, limits: { most: number; isWhole?: boolean }): number | undefined {
  if (given === undefined) return undefined
  const value = given.trim() === '' ? Number.NaN : Number(given)
  const isRight = value > 0 && value <= limits.most && (limits.isWhole !== true || Number.isInteger(value))
  if (!isRight) throw new Error(`--${name} is ${limits.isWhole === true ? 'a whole number' : 'a number'} above 0 and up to ${limits.most}, not ${JSON.stringify(given)}`)
  return value
}
