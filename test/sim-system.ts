/**
 * A System whose every part is simulated: virtual time, seeded randomness, a disk that can lose power, a log and metrics
 * to look at. Time stands still until `clock.advance`.
 */
import { AppError } from '../shared/errors.ts'
import type { Clock, HttpClient, Labels, Log, LogFields, Metrics, Random, System } from '../shared/system.ts'
import { seededRandom, SimFileSystem, type SimFileSystemOptions } from './sim-fs.ts'

export interface SimOptions extends Omit<SimFileSystemOptions, 'nowMs'> {
  readonly seed?: number
  /** Wall clock at the start. Default 2026-01-01T00:00:00Z. */
  readonly nowMs?: number
  /** Default: a client that cannot connect. */
  readonly http?: HttpClient
  /** A disk to go on with, from an earlier life. */
  readonly fs?: SimFileSystem
}

export interface Simulation {
  readonly system: System
  readonly clock: SimClock
  readonly fs: SimFileSystem
  readonly log: SimLog
  readonly metrics: SimMetrics
}

export function simulate(options: SimOptions = {}): Simulation {
  const clock = new SimClock(options.nowMs ?? Date.UTC(2026, 0, 1))
  const fs =
    options.fs ??
    new SimFileSystem({ nowMs: () => clock.nowMs(), ...(options.capacityBytes === undefined ? {} : { capacityBytes: options.capacityBytes }) })
  const log = new SimLog()
  const metrics = new SimMetrics()
  const system: System = { clock, random: simRandom(options.seed ?? 1), fs, http: options.http ?? noNetwork, log, metrics }
  return { system, clock, fs, log, metrics }
}

interface Timer {
  readonly dueMs: number
  readonly fire: () => void
}

/** Wall and monotonic time are kept apart, so that code which mixes them up is caught. */
export class SimClock implements Clock {
  private monotonic = 1_000
  private wallOffset: number
  private timers: Timer[] = []

  constructor(nowMs: number) {
    this.wallOffset = nowMs - this.monotonic
  }

  nowMs(): number {
    return this.monotonic + this.wallOffset
  }

  monotonicMs(): number {
    return this.monotonic
  }

  /** The wall clock jumps; monotonic time does not notice. */
  stepWall(byMs: number): void {
    this.wallOffset += byMs
  }

  get sleeping(): number {
    return this.timers.length
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(new AppError('ABORTED', 'sleep was interrupted'))
        return
      }
      const aborted = (): void => {
        this.timers = this.timers.filter((other) => other !== timer)
        reject(new AppError('ABORTED', 'sleep was interrupted'))
      }
      const timer: Timer = {
        dueMs: this.monotonic + Math.max(0, ms),
        fire: () => {
          signal?.removeEventListener('abort', aborted)
          resolve()
        },
      }
      this.timers.push(timer)
      signal?.addEventListener('abort', aborted, { once: true })
    })
  }

  /** Lets time pass, firing what is due in order and letting everything run that this wakes. */
  async advance(ms: number): Promise<void> {
    const end = this.monotonic + ms
    await settle()
    for (let next = this.nextDue(end); next !== undefined; next = this.nextDue(end)) {
      const timer = next
      this.timers = this.timers.filter((other) => other !== timer)
      this.monotonic = Math.max(this.monotonic, timer.dueMs)
      timer.fire()
      await settle()
    }
    this.monotonic = end
    await settle()
  }

  private nextDue(end: number): Timer | undefined {
    let first: Timer | undefined
    for (const timer of this.timers) if (timer.dueMs <= end && (first === undefined || timer.dueMs < first.dueMs)) first = timer
    return first
  }
}

/** Lets everything run that can run without time passing. */
export async function settle(turns = 4): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve))
}

export function simRandom(seed: number): Random {
  const next = seededRandom(seed)
  return { next, bytes: (count) => Buffer.from(Array.from({ length: count }, () => Math.floor(next() * 256))) }
}

export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly event: string
  readonly fields: LogFields
}

export class SimLog implements Log {
  readonly lines: LogLine[] = []

  debug(event: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'debug', event, fields })
  }
  info(event: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'info', event, fields })
  }
  warn(event: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'warn', event, fields })
  }
  error(event: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'error', event, fields })
  }

  events(level?: LogLine['level']): string[] {
    return this.lines.filter((line) => level === undefined || line.level === level).map((line) => line.event)
  }
}

/** Sums and last values by name and labels. */
export class SimMetrics implements Metrics {
  private readonly values = new Map<string, number>()

  counter(name: string, _help: string, _labelNames?: readonly string[]): { add(count: number, labels?: Labels): void } {
    return { add: (count, labels) => this.values.set(keyOf(name, labels), this.value(name, labels) + count) }
  }

  gauge(name: string, _help: string, _labelNames?: readonly string[]): { set(value: number, labels?: Labels): void } {
    return { set: (value, labels) => this.values.set(keyOf(name, labels), value) }
  }

  histogram(name: string): { observe(value: number, labels?: Labels): void } {
    return {
      observe: (value, labels) => {
        this.values.set(keyOf(`${name}_count`, labels), this.value(`${name}_count`, labels) + 1)
        this.values.set(keyOf(`${name}_sum`, labels), this.value(`${name}_sum`, labels) + value)
      },
    }
  }

  value(name: string, labels?: Labels): number {
    return this.values.get(keyOf(name, labels)) ?? 0
  }

  /** Over all labels. */
  sum(name: string): number {
    let total = 0
    for (const [key, value] of this.values) if (key === name || key.startsWith(`${name}{`)) total += value
    return total
  }

  async render(): Promise<string> {
    await Promise.resolve()
    return [...this.values].map(([key, value]) => `${key} ${value}\n`).join('')
  }
}

function keyOf(name: string, labels: Labels = {}): string {
  const pairs = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => `${key}="${value}"`)
  return pairs.length === 0 ? name : `${name}{${pairs.join(',')}}`
}

const noNetwork: HttpClient = {
  request: async (request) => {
    await Promise.resolve()
    throw new AppError('CANNOT_CONNECT', `no network in this simulation: ${request.url}`)
  },
  close: async () => {
    await Promise.resolve()
  },
}
