/** `query --count-by`: how many lines match in each minute, or another stretch of time. One table, no lines. */
import { parseJson } from '../../shared/wire.ts'
import { timeCountSchema, type TimeCount } from '../../shared/time-count.ts'
import { usageError } from './exit-codes.ts'
import { humanTime, type TimeZone } from './human.ts'
import type { Output } from './output.ts'
import type { CommandInput } from './command.ts'

/** Options that choose or arrange lines. */
const LINE_OPTIONS = ['lines', 'after', 'before', 'context']
const LINE_FLAGS = ['count', 'quiet', 'reverse', 'follow']

export function checkCountBy(input: CommandInput): void {
  if (input.text('countBy') === undefined) return
  const other = LINE_FLAGS.find((name) => input.flag(name)) ?? LINE_OPTIONS.find((name) => input.integer(name) !== undefined)
  if (other !== undefined) throw usageError(`--count-by and --${other} do not go together`)
}

/** Puts a block of NDJSON counts into the output as the format says: objects, a table for a spreadsheet, or plain columns. */
export function writeCounts(output: Output, block: Buffer, options: { readonly format: string; readonly zone: TimeZone }): void {
  for (const text of block.toString('utf8').split('\n')) {
    if (text === '') continue
    output.put(`${countText(parseJson(timeCountSchema, text, 'a line of the answer'), options)}\n`)
  }
}

export function countsHead(format: string): string {
  return format === 'csv' ? 'ts,count\n' : ''
}

function countText(count: TimeCount, { format, zone }: { readonly format: string; readonly zone: TimeZone }): string {
  const time = humanTime(count.ts, zone)
  if (format === 'json') return JSON.stringify(count)
  if (format === 'csv') return `${time},${count.count}`
  return format === 'logfmt' ? `ts=${time} count=${count.count}` : `${time} ${count.count}`
}
