/** What a person should look at, by key; the same alarm raised again keeps the time it began. */
import type { Clock } from '../../shared/system.ts'

export interface Alarm {
  readonly code: string
  readonly message: string
  readonly sinceMs: number
}

const ALARMS_MAX = 1000

export class Alarms {
  private readonly clock: Clock
  private readonly raised = new Map<string, Alarm>()

  constructor(clock: Clock) {
    this.clock = clock
  }

  raise(key: string, alarm: { code: string; message: string }): void {
    const known = this.raised.get(key)
    if (known === undefined && this.raised.size >= ALARMS_MAX) return
    this.raised.set(key, { ...alarm, sinceMs: known?.sinceMs ?? this.clock.nowMs() })
  }

  clear(key: string): void {
    this.raised.delete(key)
  }

  list(): Alarm[] {
    return [...this.raised.values()]
  }
}
