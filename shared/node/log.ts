/**
 * Log lines about ourselves, on stderr: JSON for machines, one readable line each when stderr is a terminal. Values
 * named like secrets are never printed.
 */
import { AppError } from '../errors.ts'
import type { Log, LogFields } from '../system.ts'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
export const logLevels: readonly LogLevel[] = ['debug', 'info', 'warn', 'error']

export interface LogOptions {
  readonly level: LogLevel
  readonly isTerminal: boolean
  readonly write: (line: string) => void
  readonly nowMs: () => number
  /** Fields of every line, such as the component. */
  readonly fields?: LogFields
}

export function createLog(options: LogOptions): Log {
  const least = logLevels.indexOf(options.level)
  const emit = (level: LogLevel, event: string, fields: LogFields = {}): void => {
    if (logLevels.indexOf(level) < least) return
    const format = options.isTerminal ? formatText : formatJson
    options.write(format(options.nowMs(), level, event, { ...options.fields, ...fields }))
  }
  return {
    debug: (event, fields) => emit('debug', event, fields),
    info: (event, fields) => emit('info', event, fields),
    warn: (event, fields) => emit('warn', event, fields),
    error: (event, fields) => emit('error', event, fields),
  }
}

function formatJson(nowMs: number, level: LogLevel, event: string, fields: LogFields): string {
  return `${JSON.stringify({ time: new Date(nowMs).toISOString(), level, event, ...printable(fields) })}\n`
}

function formatText(nowMs: number, level: LogLevel, event: string, fields: LogFields): string {
  const rest = Object.entries(printable(fields)).map(([key, value]) => ` ${key}=${textOf(value)}`)
  return `${new Date(nowMs).toISOString().slice(11, 23)} ${level.padEnd(5)} ${event}${rest.join('')}\n`
}

function textOf(value: unknown): string {
  return typeof value === 'string' && /^[\w./:@+-]+$/.test(value) ? value : JSON.stringify(value)
}

const secretName = /token|secret|password|authorization|passphrase/i

function printable(fields: LogFields): Record<string, unknown> {
  const out: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(fields)) {
    out[key] = secretName.test(key) ? '[hidden]' : printableValue(value)
  }
  return out
}

function printableValue(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (value instanceof AppError) {
    return { code: value.code, message: value.message, ...(value.hint === undefined ? {} : { hint: value.hint }) }
  }
  if (value instanceof Error) return { message: value.message, stack: value.stack }
  if (Buffer.isBuffer(value)) return value.toString('hex')
  return value
}
