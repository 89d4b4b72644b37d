/** What happened, in order: the last of it for reading, all of it as a checksum, so that two runs of a seed can be compared. */
import { crc32c } from '../../shared/crc32c.ts'
import type { Log, LogFields } from '../../shared/system.ts'
import type { Scheduler } from './scheduler.ts'

const KEPT_MAX = 100_000

export class Trace {
  /** First broken invariant first. */
  readonly violations: string[] = []
  checksum = 0
  private readonly scheduler: Scheduler
  private lines: string[] = []

  constructor(scheduler: Scheduler) {
    this.scheduler = scheduler
  }

  note(who: string, what: string): void {
    const line = `${this.scheduler.nowMs.toFixed(2).padStart(11)} ${who.padEnd(12)} ${what}`
    this.checksum = crc32c(Buffer.from(line), this.checksum)
    this.lines.push(line)
    if (this.lines.length > KEPT_MAX) this.lines = this.lines.slice(KEPT_MAX / 2)
  }

  /** A promise is broken: the run ends with this. */
  violation(invariant: string, what: string): void {
    this.note('VIOLATION', `${invariant}: ${what}`)
    this.violations.push(`${invariant}: ${what}`)
  }

  last(count: number): readonly string[] {
    return this.lines.slice(-count)
  }

  log(who: string): Log {
    const write = (level: string) => (event: string, fields: LogFields = {}) => {
      this.note(who, `${level} ${event} ${textOf(fields)}`)
    }
    return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') }
  }
}

function textOf(fields: LogFields): string {
  return Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${valueText(value)}`)
    .join(' ')
}

function valueText(value: unknown): string {
  if (value instanceof Error) return JSON.stringify(value.message)
  if (typeof value === 'bigint') return value.toString()
  return JSON.stringify(value) ?? 'undefined'
}
