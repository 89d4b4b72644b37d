/** The real clock and randomness. */
import { randomBytes } from 'node:crypto'
import { AppError } from '../errors.ts'
import type { Clock, Random } from '../system.ts'

/** setTimeout fires at once above this: longer sleeps go in steps. */
const TIMER_MS_MAX = 0x7fff_ffff

export function nodeClock(): Clock {
  return {
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    sleep: async (ms, signal) => {
      for (let rest = ms; rest > 0; rest -= TIMER_MS_MAX) await timer(Math.min(rest, TIMER_MS_MAX), signal)
    },
  }
}

function timer(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => {
      clearTimeout(timeout)
      reject(new AppError('ABORTED', 'sleep was interrupted'))
    }
    if (signal?.aborted === true) {
      reject(new AppError('ABORTED', 'sleep was interrupted'))
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
