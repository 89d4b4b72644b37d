/** Conditions that need a person: raised once, listed until they are cleared, logged and counted. */
import type { Clock, Gauge, Log } from '../../shared/system.ts'

export type AlarmCode = 'CLOCK_STEPPED' | 'DATA_DAMAGED' | 'DISK_FULL' | 'PARTITION_FAILED' | 'SNAPSHOT_BAD' | 'SNAPSHOT_NOT_WRITTEN' | 'TOPIC_FILE_BAD'

export interface Alarm {
  readonly code: AlarmCode
  readonly message: string
  readonly sinceMs: number
  readonly range?: DamagedRange
}

/** Offsets [fromOffset, toOffset) that the disk does not hold any more. */
export interface DamagedRange {
  readonly topic: string
  readonly partition: number
  readonly fromOffset: number
  readonly toOffset: number
}

/** More than this of one kind say nothing new. */
const ALARMS_MAX = 200

export class Alarms {
  private readonly system: { readonly clock: Clock; readonly log: Log }
  private readonly gauge: Gauge
  private readonly active = new Map<string, Alarm>()

  constructor(system: { clock: Clock; log: Log }, gauge: Gauge) {
    this.system = system
    this.gauge = gauge
    gauge.set(0)
  }

  raise(code: AlarmCode, message: string, subject = '', range?: DamagedRange): void {
    const key = `${code} ${subject}`
    if (this.active.has(key) || this.active.size >= ALARMS_MAX) return
    this.active.set(key, { code, message, sinceMs: this.system.clock.nowMs(), ...(range === undefined ? {} : { range }) })
    this.gauge.set(this.active.size)
    this.system.log.error('alarm', { code, message, subject })
  }

  clear(code: AlarmCode, subject = ''): void {
    if (!this.active.delete(`${code} ${subject}`)) return
    this.gauge.set(this.active.size)
    this.system.log.info('alarm cleared', { code, subject })
  }

  list(): readonly Alarm[] {
    return [...this.active.values()]
  }
}
