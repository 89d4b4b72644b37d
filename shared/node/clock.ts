/** The real clock and randomness. */
import { randomBytes } from 'node:crypto'
import { AppError } from '../errors.ts'
import type { Clock, Random } from '../system.ts'

/** setTimeout fires at once above this: longer sleeps go in steps. */
const TIMER_MS_MAX = 0x7fff_ffff
/** One for all: sleeps are interrupted all the time, and a stack for each would cost more than the sleep. */
const interrupted = new AppError('ABORTED', 'sleep was interrupted')

export interface NodeClockOptions {
  /**
   * Monotonic time in whole ms. Numbers with a fraction cost V8 16 bytes each beside the object that has them, whole ones
   * nothing: for who keeps times by the thousand.
   */
  readonly isWholeMs?: boolean
}

export function nodeClock({ isWholeMs = false }: NodeClockOptions = {}): Clock {
  return {
    nowMs: () => Date.now(),
    monotonicMs: isWholeMs ? () => Math.floor(performance.now()) : () => performance.now(),
    sleep: async (ms, signal) => {
      for (let rest = ms; rest > 0; rest -= TIMER_MS_MAX) await timer(Math.min(rest, TIMER_MS_MAX), signal)
    },
  }
}

function timer(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => {
      clearTimeout(timeout)
      reject(interrupted)
    }
    if (signal?.aborted === true) {
      reject(interrupted)
      return
    }
    const timeout = setTimeout(() => {
      signal?.removeEventListener('abort', aborted)
      resolve()
    }, ms)
    signal?.addEventListener('abort', aborted, { once: true })
  })
}

export function nodeRandom(): Random {
  return { next: () => Math.random(), bytes: (count) => randomBytes(count) }
}
