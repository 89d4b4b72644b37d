/**
 * One life of one simulated process, from start to kill. Everything that it waits for comes through its life, so that a
 * kill -9 stops it where it stands: what it awaits then never resolves, and its timers never fire.
 */
import { AppError } from '../../shared/errors.ts'
import type { Clock } from '../../shared/system.ts'
import type { Scheduler } from './scheduler.ts'

/** The wall clock of one machine: it may jump, and its processes share it. */
export interface WallClock {
  offsetMs: number
}

export class Life {
  readonly name: string
  isAlive = true
  readonly clock: Clock
  private readonly scheduler: Scheduler
  private readonly deathCalls = new Set<() => void>()

  constructor(options: { name: string; scheduler: Scheduler; wall: WallClock }) {
    const { scheduler, wall } = options
    this.name = options.name
    this.scheduler = scheduler
    this.clock = {
      nowMs: () => Math.floor(scheduler.nowMs + wall.offsetMs),
      monotonicMs: () => scheduler.nowMs,
      sleep: (ms, signal) => this.sleep(ms, signal),
    }
  }

  kill(): void {
    if (!this.isAlive) return
    this.isAlive = false
    for (const call of this.deathCalls) call()
    this.deathCalls.clear()
  }

  /** Answers a function that forgets the call. */
  onDeath(call: () => void): () => void {
    this.deathCalls.add(call)
    return () => this.deathCalls.delete(call)
  }

  /** The promise for as long as this life lasts. */
  hold<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      promise.then(
        (value) => {
          if (this.isAlive) resolve(value)
        },
        (error: unknown) => {
          if (this.isAlive) reject(error instanceof Error ? error : new Error(String(error)))
        },
      )
    })
  }

  /** Virtual time passes for this process only; after its death for ever. */
  pass(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.scheduler.in(ms, () => {
        if (this.isAlive) resolve()
      })
    })
  }

  private sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(new AppError('ABORTED', 'sleep was interrupted'))
        return
      }
      const aborted = (): void => {
        cancel()
        reject(new AppError('ABORTED', 'sleep was interrupted'))
      }
      const cancel = this.scheduler.in(ms, () => {
        signal?.removeEventListener('abort', aborted)
        if (this.isAlive) resolve()
      })
      signal?.addEventListener('abort', aborted, { once: true })
    })
  }
}
