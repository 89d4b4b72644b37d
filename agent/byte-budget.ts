/**
 * The one global byte budget of `memory`: read windows, record buffers and sealed batches all count here, and reading
 * stops when it is used up. It counts; it owns no buffer. Waiters are served in order, so that a large request is not
 * starved by small ones.
 */
import { AppError, assert } from '../shared/errors.ts'

interface Waiter {
  readonly bytes: number
  readonly admit: () => void
}

export class ByteBudget {
  readonly limitBytes: number
  private used = 0
  private waiters: Waiter[] = []

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes
  }

  get usedBytes(): number {
    return this.used
  }

  /** Waits until `bytes` fit, then takes them. Rejects with ABORTED when the signal fires first. */
  acquire(bytes: number, signal: AbortSignal): Promise<void> {
    assert(bytes <= this.limitBytes, `${bytes} bytes never fit a budget of ${this.limitBytes}`)
    if (signal.aborted) return Promise.reject(aborted())
    if (this.waiters.length === 0 && this.used + bytes <= this.limitBytes) {
      this.used += bytes
      return Promise.resolve()
    }
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        this.waiters = this.waiters.filter((other) => other !== waiter)
        reject(aborted())
      }
      const waiter: Waiter = {
        bytes,
        admit: () => {
          signal.removeEventListener('abort', giveUp)
          this.used += bytes
          resolve()
        },
      }
      this.waiters.push(waiter)
      signal.addEventListener('abort', giveUp, { once: true })
    })
  }

  /** Turns a reservation into what was really needed: a slot of megabytes into a sealed batch of kilobytes. */
  exchange(change: { release: number; take: number }): void {
    this.used += change.take
    this.release(change.release)
  }

  release(bytes: number): void {
    this.used -= bytes
    assert(this.used >= 0, 'no more bytes are released than were taken')
    for (let first = this.waiters[0]; first !== undefined && this.used + first.bytes <= this.limitBytes; first = this.waiters[0]) {
      this.waiters.shift()
      first.admit()
    }
  }
}

function aborted(): AppError {
  return new AppError('ABORTED', 'waiting for memory was interrupted')
}
