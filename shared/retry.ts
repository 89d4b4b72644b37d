/**
 * How long to wait before trying again: exponential growth with full jitter, so that a thousand clients of a server that
 * comes back do not come back in the same instant. Pure: the caller sleeps, counts its attempts and knows when to stop.
 */

export interface BackoffLimits {
  /** Upper end of the first wait. */
  readonly baseMs: number
  /** Upper end of any wait. */
  readonly maxMs: number
}

/** Doubling beyond this changes nothing any more and would run out of the exact numbers. */
const DOUBLINGS_MAX = 30

/** Uniform in [0, min(maxMs, baseMs × 2^attempt)); `attempt` counts from 0, `random` is in [0, 1). */
export function backoffMs(attempt: number, limits: BackoffLimits, random: number): number {
  const ceiling = Math.min(limits.maxMs, limits.baseMs * 2 ** Math.min(attempt, DOUBLINGS_MAX))
  return Math.floor(ceiling * random)
}

/** What the server asked for wins over a shorter wait of our own; what it asks for is capped, since it may be hostile. */
export function retryDelayMs(
  retry: { attempt: number; retryAfterMs: number | undefined; random: number },
  limits: BackoffLimits,
): number {
  const own = backoffMs(retry.attempt, limits, retry.random)
  if (retry.retryAfterMs === undefined) return own
  return Math.max(own, Math.min(retry.retryAfterMs, 4 * limits.maxMs))
}
