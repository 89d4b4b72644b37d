/**
 * The times that `-S` and `-U` take: `10m` and `-2h` (ago), `now`, `today`, `yesterday`, a clock time, a date, a date
 * with a time and perhaps a zone, `@` and seconds since 1970. Without a zone in the text the zone given counts.
 */
import { usageError } from './exit-codes.ts'
import type { TimeZone } from './human.ts'

export interface TimeContext extends TimeZone {
  readonly nowMs: number
}

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 }
const ago = /^-?((?:[0-9]{1,12}(?:ms|s|m|h|d|w))+)$/
const agoPart = /([0-9]{1,12})(ms|s|m|h|d|w)/g
const epoch = /^@([0-9]{1,14})(?:\.([0-9]{1,9}))?$/
const clockText = '([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?'
const clock = new RegExp(`^${clockText}$`)
const dayAndClock = new RegExp(`^(today|yesterday)(?:[T ]${clockText})?$`)
const dateAndClock = new RegExp(`^([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ]${clockText}(Z|[+-][0-9]{2}:?[0-9]{2})?)?$`)

/** ms since 1970. Throws a usage error that names the forms. */
export function parseTimeArgument(text: string, context: TimeContext): number {
  const trimmed = text.trim()
  const value =
    parseAgo(trimmed, context) ?? parseEpoch(trimmed) ?? parseDay(trimmed, context) ?? parseClock(trimmed, context) ??
    parseDate(trimmed, context)
  if (value !== undefined && Number.isFinite(value)) return value
  throw usageError(
    `${JSON.stringify(text)} is not a time`,
    'use 10m, 2h, 3d, now, today, yesterday, 14:30, 2026-03-01, 2026-03-01T14:30:05+02:00 or @1700000000',
  )
}

function parseAgo(text: string, { nowMs }: TimeContext): number | undefined {
  if (text === 'now') return nowMs
  const match = ago.exec(text)
  if (match?.[1] === undefined) return undefined
  let total = 0
  for (const [, count, unit] of match[1].matchAll(agoPart)) total += Number(count) * (unitMs[unit ?? ''] ?? 0)
  return nowMs - total
}

/** Up to 11 digits are seconds, 13 are milliseconds, as in Kafka's tools. */
function parseEpoch(text: string): number | undefined {
  const match = epoch.exec(text)
  if (match?.[1] === undefined) return undefined
  if (match[1].length >= 13) return match[2] === undefined ? Number(match[1]) : undefined
  return Number(match[1]) * 1000 + fractionMs(match[2])
}

function parseDay(text: string, context: TimeContext): number | undefined {
  const match = dayAndClock.exec(text)
  if (match === null) return undefined
  const day = today(context)
  const shift = match[1] === 'yesterday' ? -1 : 0
  const time = timeOfDay(match, 2)
  return time === undefined ? undefined : instant({ ...day, day: day.day + shift }, time, context)
}

function parseClock(text: string, context: TimeContext): number | undefined {
  const match = clock.exec(text)
  const time = match === null ? undefined : timeOfDay(match, 1)
  return time === undefined ? undefined : instant(today(context), time, context)
}

function parseDate(text: string, context: TimeContext): number | undefined {
  const match = dateAndClock.exec(text)
  if (match === null) return undefined
  const date = { year: Number(match[1]), month: Number(match[2]) - 1, day: Number(match[3]) }
  // The 30th of February must not become a day in March.
  const check = new Date(Date.UTC(date.year, date.month, date.day))
  if (check.getUTCMonth() !== date.month || check.getUTCDate() !== date.day) return undefined
  const time = timeOfDay(match, 4)
  if (time === undefined) return undefined
  const zone = match[8]
  if (zone === undefined) return instant(date, time, context)
  const offsetMs = zone === 'Z' ? 0 : zoneOffsetMs(zone)
  return offsetMs === undefined ? undefined : instant(date, time, { utc: true }) - offsetMs
}

function zoneOffsetMs(zone: string): number | undefined {
  const hours = Number(zone.slice(1, 3))
  const minutes = Number(zone.slice(-2))
  if (hours > 14 || minutes > 59) return undefined
  return (zone.startsWith('-') ? -1 : 1) * (hours * 60 + minutes) * 60_000
}

interface CalendarDay {
  readonly year: number
  readonly month: number
  readonly day: number
}

interface TimeOfDay {
  readonly hours: number
  readonly minutes: number
  readonly seconds: number
  readonly ms: number
}

/** Groups hours, minutes, seconds, fraction from `first` on; midnight when there are none. */
function timeOfDay(match: RegExpExecArray, first: number): TimeOfDay | undefined {
  const hours = Number(match[first] ?? 0)
  const minutes = Number(match[first + 1] ?? 0)
  const seconds = Number(match[first + 2] ?? 0)
  if (hours > 23 || minutes > 59 || seconds > 59) return undefined
  return { hours, minutes, seconds, ms: fractionMs(match[first + 3]) }
}

function fractionMs(digits: string | undefined): number {
  return digits === undefined ? 0 : Math.floor(Number(`0.${digits}`) * 1000 + 1e-6)
}

function today({ nowMs, utc }: TimeContext): CalendarDay {
  const now = new Date(nowMs)
  return utc
    ? { year: now.getUTCFullYear(), month: now.getUTCMonth(), day: now.getUTCDate() }
    : { year: now.getFullYear(), month: now.getMonth(), day: now.getDate() }
}

/** The platform's calendar does the zone's daylight saving; a time that a change skips moves forward. */
function instant(day: CalendarDay, time: TimeOfDay, { utc }: TimeZone): number {
  if (utc) return Date.UTC(day.year, day.month, day.day, time.hours, time.minutes, time.seconds, time.ms)
  return new Date(day.year, day.month, day.day, time.hours, time.minutes, time.seconds, time.ms).getTime()
}
