/**
 * A bell for one loop: others ring it, the loop waits for it or for time to pass. Ringing while nobody waits is
 * remembered once. Not a queue: what there is to do stands elsewhere. One waiter at a time.
 */
import { AppError, assert } from '../shared/errors.ts'
import type { Clock } from '../shared/system.ts'

/** Aborting with a ready-made reason: a DOMException with a stack for each wake-up would cost more than the work. */
const woken = new AppError('ABORTED', 'woken')

export class Waker {
  private readonly clock: Clock
  private isRung = false
  private ring: (() => void) | undefined

  constructor(clock: Clock) {
    this.clock = clock
  }

  wake(): void {
    this.isRung = true
    this.ring?.()
  }

  /** Resolves when rung, after `ms`, or when the signal fires: the caller looks at the signal itself. */
  async wait(ms: number, signal?: AbortSignal): Promise<void> {
    assert(this.ring === undefined, 'one loop waits at a waker')
    if (!this.isRung && signal?.aborted !== true) {
      const ended = new AbortController()
      const stop = (): void => ended.abort(woken)
      this.ring = stop
      signal?.addEventListener('abort', stop, { once: true })
      try {
        await sleepUnlessWoken(this.clock, ms, ended.signal)
      } finally {
        signal?.removeEventListener('abort', stop)
        this.ring = undefined
      }
    }
    this.isRung = false
  }
}

async function sleepUnlessWoken(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  try {
    await clock.sleep(ms, signal)
  } catch (error) {
    // Being woken early is what the abort means here.
    if (!(error instanceof AppError && error.code === 'ABORTED')) throw error
  }
}

/** Sleeps, and answers false when the signal ended the sleep. */
export async function sleepQuietly(clock: Clock, ms: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return false
  await sleepUnlessWoken(clock, ms, signal)
  return !signal.aborted
}

/** The promise's outcome, or ABORTED when the signal fires first; what the promise does then is nobody's concern here. */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(new AppError('ABORTED', 'waiting was interrupted'))
    if (signal.aborted) stop()
    signal.addEventListener('abort', stop, { once: true })
    void promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop))
  })
}
