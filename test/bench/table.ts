/** Results as text: one table for each workload, a row for each figure, a column for each contestant. Pure. */
import type { Comparisons } from './compare.ts'
import type { Rounds, WorkloadResults } from './results.ts'
import { median, spread } from './statistics.ts'

const NAME_WIDTH_MIN = 40
const CELL_WIDTH_MIN = 18

export function workloadTable(name: string, results: WorkloadResults, rounds: Rounds): string {
  const contestants = [...rounds.keys()]
  const figures = [...new Set(contestants.flatMap((each) => Object.keys(rounds.get(each)?.[0] ?? {})))]
  const widths = contestants.map((each) => Math.max(CELL_WIDTH_MIN, each.length + 2))
  const nameWidth = Math.max(NAME_WIDTH_MIN, ...figures.map((each) => each.length + 4))
  const count = Math.max(...contestants.map((each) => rounds.get(each)?.length ?? 0))
  const lines = [
    '',
    `${name}  ${results.title}  (${count === 1 ? 'one run' : `median of ${count} runs, ± half of the range`})`,
    ' '.repeat(nameWidth) + contestants.map((each, at) => each.padStart(widths[at] ?? 0)).join(''),
    ...figures.map((figure) => row(figure, contestants.map((each) => cell(rounds.get(each) ?? [], figure)), { nameWidth, widths })),
    ...Object.entries(results.ratios).map(([ratio, { median: value, rounds: values, better }]) => `  ratio: ${ratio} = ${number(value)}${around(values)} (${better} is better)`),
    ...results.notes.map((note) => `  note: ${note}`),
  ]
  return `${lines.join('\n')}\n`
}

function row(figure: string, cells: readonly string[], { nameWidth, widths }: { nameWidth: number; widths: readonly number[] }): string {
  return `  ${figure.padEnd(nameWidth - 2)}${cells.map((each, at) => each.padStart(widths[at] ?? 0)).join('')}`
}

function cell(rounds: readonly Readonly<Record<string, number>>[], figure: string): string {
  const values = rounds.map((each) => each[figure]).filter((value) => value !== undefined)
  return values.length === 0 ? '·' : `${number(median(values))}${around(values)}`
}

function around(values: readonly number[]): string {
  return values.length < 2 ? '' : ` ±${Math.round(100 * spread(values))}%`
}

function number(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (Number.isInteger(value) || Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US')
  const digits = Math.abs(value) < 0.1 ? 4 : Math.abs(value) < 10 ? 2 : 1
  return value.toFixed(digits)
}

export function comparisonTable({ compared, missing }: Comparisons): string {
  const lines = compared.map(
    ({ name, before, now, change, isRegression }) =>
      `  ${isRegression ? 'WORSE ' : '      '}${name}: ${number(before)} → ${number(now)} (${change < 0 ? '' : '+'}${(100 * change).toFixed(1)} %)`,
  )
  return `\ncompared with the earlier run, ratios only\n${[...lines, ...missing.map((name) => `  not measured now: ${name}`)].join('\n')}\n`
}
