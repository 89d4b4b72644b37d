/**
 * The collector of the simulation: the product's own assembly on a simulated disk, its handler taken instead of a port.
 * Killed or cut off from power at any time, started again, audited before anybody is let in.
 */
import { startCollector, type RunningCollector } from '../../collector/collector.ts'
import type { CollectorConfig } from '../../collector/config.ts'
import { createInProcessExecutor } from '../../collector/query/in-process-executor.ts'
import { BugError, toAppError } from '../../shared/errors.ts'
import type { Handler } from '../../shared/http-handler.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { SimFileSystem } from '../sim-fs.ts'
import { SimMetrics } from '../sim-system.ts'
import { ask, type Audited, type Auditor } from './auditor.ts'
import type { Dice } from './dice.ts'
import { Life, type WallClock } from './life.ts'
import type { SimNetwork } from './network.ts'
import { checkSettled, recoverTwice, standingOf, type Standing } from './recovery-check.ts'
import type { Scheduler } from './scheduler.ts'
import { SlowDisk } from './slow-disk.ts'
import type { Trace } from './trace.ts'

export interface SimCollectorOptions {
  readonly scheduler: Scheduler
  readonly wall: WallClock
  readonly trace: Trace
  readonly network: SimNetwork
  readonly disk: SimFileSystem
  readonly dice: Dice
  readonly zstd: Zstd
  readonly auditor: Auditor
  readonly syncMs: () => number
  readonly config: CollectorConfig
  /** Whether a start may fail just now because of a fault that we made. */
  readonly mayFail: () => boolean
  /** Called when the collector was audited after a start. */
  readonly onAudited: (audited: Audited) => void
}

const FOLLOW_MS = 400
const RESTART_MS = 1_000

export class SimCollector {
  life: Life | undefined
  running: RunningCollector | undefined
  handler: Handler | undefined
  starts = 0
  private readonly options: SimCollectorOptions

  constructor(options: SimCollectorOptions) {
    this.options = options
  }

  get isRunning(): boolean {
    return this.life?.isAlive === true
  }

  /** Open to agents: started, recovered and audited. */
  get isServing(): boolean {
    return this.isRunning && this.options.network.server?.life === this.life
  }

  start(): void {
    if (this.isRunning) return
    this.starts += 1
    const { scheduler, wall, trace } = this.options
    const life = new Life({ name: `collector/${this.starts}`, scheduler, wall })
    this.life = life
    trace.note(life.name, 'starts')
    this.open(life).catch((error: unknown) => this.startFailed(life, error))
  }

  private async open(life: Life): Promise<void> {
    const { trace, dice, disk, zstd, syncMs, config, auditor, network } = this.options
    const before = await standingOf(disk)
    if (dice.isHit(0.15) && !this.options.mayFail()) await recoverTwice({ disk, zstd, trace, config })
    const fs = new SlowDisk({ base: disk, life, dice, trace, syncMs })
    const system = { clock: life.clock, random: dice.random(), fs, http: unreachable, log: trace.log(life.name), metrics: new SimMetrics() }
    let handler: Handler | undefined
    const running = await life.hold(
      startCollector(system, config, {
        zstd,
        executor: createInProcessExecutor(zstd),
        exportHttp: { http: unreachable, streamingHttp: unreachable },
        onFatal: (error) => this.fatal(life, error),
        serve: (given) => {
          handler = given
          return Promise.resolve({ host: '127.0.0.1', port: 4280, url: 'http://127.0.0.1:4280', reloadTls: () => undefined, close: () => Promise.resolve() })
        },
      }),
    )
    if (handler === undefined) throw new Error('the collector offered no handler')
    await checkSettled({ disk, trace, before: before satisfies Standing })
    const audited = await auditor.afterStart(handler, life)
    if (!life.isAlive) return
    this.options.onAudited(audited)
    this.running = running
    this.handler = handler
    network.server = { handler, life }
    trace.note(life.name, 'serves')
    await this.follow(handler, life)
  }

  private async follow(handler: Handler, life: Life): Promise<void> {
    while (life.isAlive) {
      await life.pass(FOLLOW_MS)
      try {
        await this.options.auditor.follow(handler)
      } catch (error) {
        // A partition that has failed is not there to be read; the end of the process follows.
        if (!this.options.mayFail()) throw error
      }
    }
  }

  private startFailed(life: Life, error: unknown): void {
    if (!life.isAlive) return
    const { trace, scheduler, disk } = this.options
    const { code, message } = toAppError(error)
    trace.note(life.name, `does not start: ${code} ${message}`)
    if (!this.options.mayFail() || error instanceof BugError) trace.violation('start', `the collector failed: ${error instanceof Error ? (error.stack ?? message) : message}`)
    life.kill()
    disk.kill()
    scheduler.in(RESTART_MS, () => this.start())
  }

  /** The process ends, as main.ts does it, and a supervisor starts it again. */
  private fatal(life: Life, error: unknown): void {
    if (!life.isAlive) return
    const { trace, scheduler } = this.options
    const { code, message } = toAppError(error)
    trace.note(life.name, `ends: ${code} ${message}`)
    if (error instanceof BugError || code === 'INTERNAL' || !this.options.mayFail()) {
      trace.violation('collector', `${life.name} died: ${error instanceof Error ? (error.stack ?? message) : message}`)
    }
    this.kill()
    scheduler.in(RESTART_MS, () => this.start())
  }

  /** kill -9: what was written stays in the page cache, unsynced. */
  kill(): void {
    if (this.life?.isAlive !== true) return
    this.options.trace.note(this.life.name, 'is killed')
    this.life.kill()
    this.options.disk.kill()
  }

  /** The machine loses power: what was not synced is lost, torn or kept, each by chance. */
  cutPower(): void {
    const { trace, disk, dice } = this.options
    trace.note('power', 'is cut')
    this.life?.kill()
    disk.crash(dice.isHit(0.3) ? {} : { seed: dice.between(1, 1_000_000) })
  }

  /** Everything rolled and exported. */
  async exportNow(): Promise<void> {
    if (this.handler !== undefined) await ask(this.handler, '/v1/exports', {}, 'POST')
  }
}

const unreachable = {
  request: () => Promise.reject(new Error('the collector asks nobody in this simulation')),
  close: () => Promise.resolve(),
}
