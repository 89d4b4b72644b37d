/**
 * The severity that a line seems to have, for the column `level`. A guess for people and filters, made from the line's
 * first bytes: `level=warn`, `"severity":"ERROR"`, `[error]`, or a word such as INFO in capitals. Undefined where nothing
 * of the kind is there; the line itself is always in `message`.
 */

/** Levels stand at the front; a longer look costs more than it finds. */
const LOOK_BYTES = 256

const names: Readonly<Record<string, string>> = {
  trace: 'trace', debug: 'debug', info: 'info', notice: 'info', warn: 'warn', warning: 'warn', err: 'error', error: 'error', severe: 'error',
  crit: 'fatal', critical: 'fatal', alert: 'fatal', emerg: 'fatal', panic: 'fatal', fatal: 'fatal',
}
const anyName = Object.keys(names).join('|')
const field = new RegExp(`\\b(?:level|severity|lvl)["']?[ \\t]?[:=][ \\t]?["']?(${anyName})\\b`, 'i')
const bracketed = new RegExp(`[[<](${anyName})[\\]>]`, 'i')
const capitals = new RegExp(`\\b(${anyName.toUpperCase()})\\b`)

export function lineLevel(raw: Buffer, start: number, end: number): string | undefined {
  const text = raw.toString('latin1', start, Math.min(end, start + LOOK_BYTES))
  const found = field.exec(text)?.[1] ?? bracketed.exec(text)?.[1] ?? capitals.exec(text)?.[1]
  return found === undefined ? undefined : names[found.toLowerCase()]
}
