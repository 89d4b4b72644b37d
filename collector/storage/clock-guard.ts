/**
 * Watches the wall clock against monotonic time. After a step of more than an hour, either way, nothing may be called
 * old until someone confirms the clock: a wrong date must not delete logs.
 */
import type { Clock } from '../../shared/system.ts'
import { isClockStep } from './policy.ts'

export class ClockGuard {
  private readonly clock: Clock
  /** Wall minus monotonic time at the last look. */
  private difference: number
  private parked = false

  constructor(clock: Clock) {
    this.clock = clock
    this.difference = this.now()
  }

  get isParked(): boolean {
    return this.parked
  }

  /** Answers how far the clock stepped since the last look, 0 when it did not. */
  look(): number {
    const now = this.now()
    const step = isClockStep(this.difference, now) ? now - this.difference : 0
    if (step !== 0) this.parked = true
    this.difference = now
    return step
  }

  /** The newest append that is on disk: a clock that is behind it went back while nobody looked. */
  compareWithDisk(lastAppendMs: number): boolean {
    const nowMs = this.clock.nowMs()
    if (nowMs < lastAppendMs && isClockStep(nowMs, lastAppendMs)) this.parked = true
    return this.parked
  }

  confirm(): void {
    this.parked = false
    this.difference = this.now()
  }

  private now(): number {
    return this.clock.nowMs() - this.clock.monotonicMs()
  }
}
