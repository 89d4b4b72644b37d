/**
 * The alarm of a full disk: up while nothing can be stored, down with the next batch that is. Where nobody sends any
 * more, it goes once there is room again and no write has failed for a while.
 */
import type { AppError } from '../../shared/errors.ts'
import type { System } from '../../shared/system.ts'
import type { Alarms } from './alarms.ts'

/** A whole commit group fits. */
const ROOM_BYTES = 16 * 1024 * 1024
/** A quota may be used up though the disk has room: only time shows that it is not. */
const QUIET_MS = 30_000

export class DiskFullWatch {
  private readonly system: Pick<System, 'fs' | 'clock'>
  private readonly alarms: Alarms
  private readonly directory: string
  private failedMs: number | undefined

  constructor(system: Pick<System, 'fs' | 'clock'>, options: { alarms: Alarms; directory: string }) {
    this.system = system
    this.alarms = options.alarms
    this.directory = options.directory
  }

  failed(failure: AppError): void {
    if (failure.code !== 'DISK_FULL') return
    this.failedMs = this.system.clock.monotonicMs()
    this.alarms.raise('DISK_FULL', `${failure.message}: no lines are stored until there is room`)
  }

  stored(): void {
    if (this.failedMs === undefined) return
    this.failedMs = undefined
    this.alarms.clear('DISK_FULL')
  }

  async look(): Promise<void> {
    if (this.failedMs === undefined || this.system.clock.monotonicMs() - this.failedMs < QUIET_MS) return
    if ((await this.system.fs.freeBytes(this.directory)) >= ROOM_BYTES) this.stored()
  }
}
