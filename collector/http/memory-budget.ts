/**
 * Bytes of requests that may be held at once. Who does not get his share is told to come back: nothing waits in a queue
 * for memory, because a queue holds memory too.
 */
import { AppError, assert } from '../../shared/errors.ts'

export class MemoryBudget {
  readonly bytesMax: number
  private taken = 0

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax
  }

  get bytes(): number {
    return this.taken
  }

  /** Throws THROTTLED. The answer gives the bytes back; calling it twice is a bug. */
  take(bytes: number): () => void {
    if (this.taken + bytes > this.bytesMax) {
      throw new AppError('THROTTLED', `requests of ${this.taken} bytes are under way, ${bytes} more are over the budget`, {
        retryAfterMs: 1000,
        hint: 'try again a little later; raise memory if this goes on',
      })
    }
    this.taken += bytes
    let isBack = false
    return () => {
      assert(!isBack, 'bytes are given back once')
      isBack = true
      this.taken -= bytes
    }
  }
}
