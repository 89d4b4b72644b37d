/**
 * Reads a query from the parameters of a request. Everything is checked here, once; unknown parameters are refused, so
 * that a misspelt filter never answers with everything.
 */
import { AppError } from '../../shared/errors.ts'
import { labelLimits } from '../../shared/labels.ts'
import { timeUnitNames, timeUnits } from '../../shared/time-count.ts'
import { parseCursor } from './cursor.ts'
import { queryLimits, type MatchSpec, type QuerySpec, type SourceSpec, type TailSpec } from './query-spec.ts'

const SHARED_NAMES = ['topic', 'pattern', 'mode', 'word', 'ignoreCase', 'invert', 'host', 'path', 'label', 'partition', 'from', 'before', 'after', 'last']
const QUERY_NAMES = [...SHARED_NAMES, 'since', 'until', 'limit', 'reverse', 'count', 'countBy']
const TAIL_NAMES = [...SHARED_NAMES, 'holdMs']
const HOLD_MS = 500

/** Throws INVALID_QUERY. */
export function parseQuery(parameters: URLSearchParams): QuerySpec {
  checkNames(parameters, QUERY_NAMES)
  const spec: QuerySpec = {
    ...parseFilters(parameters),
    sinceMs: parseTime(parameters, 'since'),
    untilMs: parseTime(parameters, 'until'),
    from: parameters.has('from') ? parseCursor(single(parameters, 'from') ?? '') : undefined,
    limit: noneWhenZero(parseCount(parameters, 'limit', Number.MAX_SAFE_INTEGER)),
    last: noneWhenZero(parseCount(parameters, 'last', Number.MAX_SAFE_INTEGER)),
    reverse: parseFlag(parameters, 'reverse'),
    count: parseFlag(parameters, 'count'),
    countByMs: parseTimeUnit(single(parameters, 'countBy')),
  }
  checkCountBy(spec)
  if (spec.limit !== undefined && spec.last !== undefined) throw invalid('limit and last exclude each other', 'limit ends after the first n, last gives the newest n')
  if (spec.sinceMs !== undefined && spec.untilMs !== undefined && spec.sinceMs > spec.untilMs) throw invalid('since is after until')
  return spec
}

/** Throws INVALID_QUERY. `from=end` and no `from` are the same. */
export function parseTail(parameters: URLSearchParams): TailSpec {
  checkNames(parameters, TAIL_NAMES)
  const from = single(parameters, 'from')
  return {
    ...parseFilters(parameters),
    from: from === undefined || from === 'end' ? undefined : parseCursor(from),
    last: parseCount(parameters, 'last', 1_000_000) ?? 0,
    holdMs: parseCount(parameters, 'holdMs', queryLimits.holdMsMax) ?? HOLD_MS,
  }
}

interface Filters {
  readonly topics: readonly string[]
  readonly match: MatchSpec
  readonly source: SourceSpec
  readonly partitions: ReadonlySet<number> | undefined
  readonly before: number
  readonly after: number
}

function parseFilters(parameters: URLSearchParams): Filters {
  return {
    topics: globs(parameters, 'topic'),
    match: {
      patterns: parameters.getAll('pattern'),
      mode: parseMode(single(parameters, 'mode')),
      word: parseFlag(parameters, 'word'),
      ignoreCase: parseFlag(parameters, 'ignoreCase'),
      invert: parseFlag(parameters, 'invert'),
    },
    source: { hosts: globs(parameters, 'host'), paths: globs(parameters, 'path'), labels: parseLabels(parameters.getAll('label')) },
    partitions: parsePartitions(parameters.getAll('partition')),
    before: parseCount(parameters, 'before', queryLimits.contextLines) ?? 0,
    after: parseCount(parameters, 'after', queryLimits.contextLines) ?? 0,
  }
}

function checkNames(parameters: URLSearchParams, known: readonly string[]): void {
  for (const name of parameters.keys()) {
    if (!known.includes(name)) throw invalid(`there is no parameter ${JSON.stringify(name.slice(0, 60))}`, `parameters: ${known.join(', ')}`)
  }
}

function single(parameters: URLSearchParams, name: string): string | undefined {
  const values = parameters.getAll(name)
  if (values.length > 1) throw invalid(`${name} is given ${values.length} times`)
  return values[0]
}

function globs(parameters: URLSearchParams, name: string): string[] {
  const values = parameters.getAll(name)
  if (values.length > queryLimits.globs) throw invalid(`${values.length} values of ${name} are over ${queryLimits.globs}`)
  if (values.includes('')) throw invalid(`${name} is empty`)
  return values
}

/** `name=value`, repeated. */
function parseLabels(values: readonly string[]): [string, string][] {
  if (values.length > labelLimits.count) throw invalid(`${values.length} labels are over ${labelLimits.count}`)
  return values.map((pair) => {
    const equals = pair.indexOf('=')
    if (equals < 1) throw invalid(`label ${JSON.stringify(pair.slice(0, 60))} is not name=value`)
    return [pair.slice(0, equals), pair.slice(equals + 1)]
  })
}

function parseMode(value: string | undefined): MatchSpec['mode'] {
  if (value === undefined || value === 'fixed') return 'fixed'
  if (value === 'regex') return 'regex'
  throw invalid(`mode ${JSON.stringify(value.slice(0, 60))} is neither fixed nor regex`)
}

function parseFlag(parameters: URLSearchParams, name: string): boolean {
  const value = single(parameters, name)
  if (value === undefined || value === '0' || value === 'false') return false
  if (value === '1' || value === 'true' || value === '') return true
  throw invalid(`${name} is ${JSON.stringify(value.slice(0, 60))}, not 1 or 0`)
}

function parseCount(parameters: URLSearchParams, name: string, most: number): number | undefined {
  const value = single(parameters, name)
  if (value === undefined) return undefined
  const count = /^[0-9]{1,16}$/.test(value) ? Number(value) : NaN
  if (!Number.isSafeInteger(count)) throw invalid(`${name} is ${JSON.stringify(value.slice(0, 60))}, not a count`)
  if (count > most) throw invalid(`${name} ${count} is over ${most}`)
  return count
}

function noneWhenZero(count: number | undefined): number | undefined {
  return count === 0 ? undefined : count
}

/** ms since 1970. Fractions are allowed, as some clients compute them. */
function parseTime(parameters: URLSearchParams, name: string): number | undefined {
  const value = single(parameters, name)
  if (value === undefined) return undefined
  const time = /^-?[0-9]{1,16}(\.[0-9]{1,9})?$/.test(value) ? Math.floor(Number(value)) : NaN
  if (!Number.isSafeInteger(time)) throw invalid(`${name} is ${JSON.stringify(value.slice(0, 60))}, not milliseconds since 1970`)
  return time
}

function parseTimeUnit(value: string | undefined): number | undefined {
  if (value === undefined) return undefined
  const unit = timeUnitNames.find((name) => name === value)
  if (unit === undefined) throw invalid(`countBy ${JSON.stringify(value.slice(0, 60))} is none of ${timeUnitNames.join(', ')}`)
  return timeUnits[unit]
}

/** What chooses or arranges lines means nothing where only counts are given. */
function checkCountBy(spec: QuerySpec): void {
  if (spec.countByMs === undefined) return
  const names = { limit: spec.limit, last: spec.last, reverse: spec.reverse || undefined, count: spec.count || undefined, before: spec.before || undefined, after: spec.after || undefined }
  const other = Object.entries(names).find(([, value]) => value !== undefined)
  if (other !== undefined) throw invalid(`countBy and ${other[0]} exclude each other`)
}

/** `0`, `0,2-4`, repeated. */
function parsePartitions(values: readonly string[]): ReadonlySet<number> | undefined {
  if (values.length === 0) return undefined
  const partitions = new Set<number>()
  for (const part of values.flatMap((value) => value.split(','))) {
    const match = /^([0-9]{1,6})(?:-([0-9]{1,6}))?$/.exec(part)
    if (match === null) throw invalid(`partition ${JSON.stringify(part.slice(0, 60))} is neither a number nor a range`, 'for example 0,2-4')
    const from = Number(match[1])
    const to = Number(match[2] ?? match[1])
    if (to - from >= queryLimits.partitions) throw invalid(`partitions ${part} are over ${queryLimits.partitions}`)
    for (let partition = from; partition <= to; partition += 1) partitions.add(partition)
  }
  return partitions
}

function invalid(message: string, hint?: string): AppError {
  return new AppError('INVALID_QUERY', message, hint === undefined ? {} : { hint })
}
