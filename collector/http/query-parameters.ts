/** Parameters in the query part of a URL, for the routes whose parameters are few and plain. */
import { AppError } from '../../shared/errors.ts'

/** A misspelt parameter must not look like one that was heeded. */
export function checkParameterNames(query: URLSearchParams, known: ReadonlySet<string>): void {
  for (const name of query.keys()) {
    if (!known.has(name)) throw new AppError('BAD_REQUEST', `parameter ${JSON.stringify(name.slice(0, 60))} is not known here`, { hint: `there are: ${[...known].join(', ')}` })
  }
}

/** A whole number, not negative; undefined where the parameter is absent. */
export function numberParameter(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name)
  if (text === null) return undefined
  const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : NaN
  if (!Number.isSafeInteger(value)) throw new AppError('BAD_REQUEST', `${name} is ${JSON.stringify(text.slice(0, 60))}, not a number`)
  return value
}
