/** Which records: the flags that `query`, `tail` and `replay` share, and the query parameters that they become. */
import type { QueryValues } from './collector-client.ts'
import type { CommandInput, OptionSpec } from './command.ts'
import { usageError } from './exit-codes.ts'
import { parseTimeArgument } from './time-argument.ts'

export const filterOptions: readonly OptionSpec[] = [
  { flags: '-t, --topic <glob>', kind: 'list', help: 'only these topics (repeat for more; default all)' },
  { flags: '-p, --partition <number>', kind: 'list', help: 'only these partitions' },
  { flags: '-S, --since <time>', kind: 'text', help: 'arrived at or after: 10m, 2h, yesterday, 14:30, 2026-03-01T14:30, @1700000000' },
  { flags: '-U, --until <time>', kind: 'text', help: 'arrived before; the same forms' },
  { flags: '--host <glob>', kind: 'text', help: 'only lines of these hosts' },
  { flags: '--path <glob>', kind: 'text', help: 'only lines of these files; ** crosses folders' },
  { flags: '--label <name=value>', kind: 'list', help: 'only lines with this label of their input; several must all be there' },
  { flags: '-e, --pattern <pattern>', kind: 'list', help: 'a pattern; several mean any of them' },
  { flags: '-E, --regex', kind: 'flag', help: 'patterns are regular expressions (RE2), not plain text' },
  { flags: '-w, --word', kind: 'flag', help: 'match whole words only' },
  { flags: '-i, --ignore-case', kind: 'flag', help: 'upper and lower case are the same' },
  { flags: '-v, --invert', kind: 'flag', help: 'lines that do not match' },
]

export const arrivalTimeText = `-S and -U mean arrival time: when the agent read the line, not what the line says about itself. A time without
a zone is in the local zone, or UTC with --utc.`

export interface FilterContext {
  readonly nowMs: number
}

/** The filters as parameters of `GET /v1/query` and `/v1/tail`. */
export function filterValues(input: CommandInput, context: FilterContext): QueryValues {
  const times = { nowMs: context.nowMs, utc: input.flag('utc') }
  const since = input.text('since')
  const until = input.text('until')
  const sinceMs = since === undefined ? undefined : parseTimeArgument(since, times)
  const untilMs = until === undefined ? undefined : parseTimeArgument(until, times)
  if (sinceMs !== undefined && untilMs !== undefined && sinceMs >= untilMs) {
    throw usageError(`-S ${since ?? ''} is not before -U ${until ?? ''}`)
  }
  const pattern = [...input.operands, ...input.list('pattern')].filter((text) => text !== '')
  return {
    topic: input.list('topic'),
    partition: input.list('partition'),
    pattern,
    mode: input.flag('regex') ? 'regex' : undefined,
    word: input.flag('word'),
    ignoreCase: input.flag('ignoreCase'),
    invert: input.flag('invert'),
    since: sinceMs,
    until: untilMs,
    host: input.text('host'),
    path: input.text('path'),
    label: input.list('label'),
  }
}
