/** Tables for people, and the same rows as one JSON array for programs. Cells are escaped: they may come from anywhere. */
import type { CommandInput } from './command.ts'
import type { CliContext } from './context.ts'
import { exitCodes } from './exit-codes.ts'
import { Output } from './output.ts'
import { visibleJson, visibleText } from './terminal-text.ts'

export interface Column<Row> {
  readonly title: string
  readonly cell: (row: Row) => string
  readonly align?: 'right'
}

/** Prints and answers the exit code: an empty list is "nothing found". */
export async function printTable<Row>(
  rows: readonly Row[],
  columns: ReadonlyArray<Column<Row>>,
  { input, context }: { input: CommandInput; context: CliContext },
): Promise<number> {
  const output = new Output(context.stdout)
  if (input.flag('json')) await putJson(rows, output)
  else await putRows(rows, columns, output)
  await output.flush()
  return rows.length === 0 ? exitCodes.nothing : exitCodes.ok
}

/** One array, a row a line. */
export async function putJson(rows: readonly unknown[], output: Output): Promise<void> {
  let separator = '['
  for (const row of rows) {
    output.put(`${separator}\n  ${output.isTty ? visibleJson(JSON.stringify(row)) : JSON.stringify(row)}`)
    separator = ','
    if (output.isFull) await output.flush()
  }
  output.put(rows.length === 0 ? '[]\n' : '\n]\n')
}

async function putRows<Row>(rows: readonly Row[], columns: ReadonlyArray<Column<Row>>, output: Output): Promise<void> {
  if (rows.length === 0) return
  const cells = rows.map((row) => columns.map(({ cell }) => visibleText(cell(row))))
  const widths = columns.map(({ title }, index) => cells.reduce((width, row) => Math.max(width, row[index]?.length ?? 0), title.length))
  for (const row of [columns.map(({ title }) => title), ...cells]) {
    const line = row.map((text, index) => {
      const width = widths[index] ?? 0
      return columns[index]?.align === 'right' ? text.padStart(width) : text.padEnd(width)
    })
    output.put(`${line.join('  ').trimEnd()}\n`)
    if (output.isFull) await output.flush()
  }
}
