/**
 * What goes wrong and when: a seeded choice of one fault after the other, each begun and ended here. Faults of single
 * requests are the proxy's; these are the ones that last.
 */
import { catchUp } from './evidence.ts'
import { pause, type Daemon } from './machine.ts'
import type { MovedClock } from './moved-clock.ts'
import type { Rig } from './rig.ts'
import type { SmallDisk } from './small-disk.ts'

export interface ScheduleOptions {
  readonly rig: Rig
  readonly disk: SmallDisk
  readonly clock: MovedClock
  readonly random: () => number
  readonly say: (text: string) => void
}

interface Fault {
  readonly weight: number
  readonly name: string
  readonly act: () => Promise<void>
}

const HOUR_MS = 3_600_000
const LONG_REST_EVERY = 15

export class Schedule {
  readonly counts = new Map<string, number>()
  private readonly options: ScheduleOptions
  private readonly faults: readonly Fault[]
  /** Each kind once, in a seeded order, before weights decide: so that short runs meet all of them. */
  private readonly firstRound: Fault[]
  private rests = 0

  constructor(options: ScheduleOptions) {
    this.options = options
    this.faults = [
      { weight: 30, name: 'kill -9 agent', act: () => this.killAgent() },
      { weight: 20, name: 'kill -9 agent, rm -rf its folder', act: () => this.killAgent({ isWiped: true }) },
      { weight: 30, name: 'kill -9 collector', act: () => this.killAndRestart(options.rig.collector) },
      { weight: 5, name: 'kill -9 both', act: () => this.killBoth() },
      { weight: 6, name: 'SIGTERM and restart', act: () => this.restart() },
      { weight: 8, name: 'SIGSTOP', act: () => this.stopAndGo() },
      { weight: 4, name: 'network away', act: () => this.networkAway() },
      { weight: 4, name: 'all connections cut', act: () => this.cutAll() },
      ...(options.disk.skipped === undefined ? [{ weight: 4, name: 'disk full', act: () => this.diskFull() }] : []),
      { weight: 4, name: 'clock moved', act: () => this.clockMoved() },
    ]
    const order = new Map(this.faults.map((fault) => [fault, options.random()]))
    this.firstRound = this.faults.toSorted((a, b) => (order.get(a) ?? 0) - (order.get(b) ?? 0))
  }

  /** Every kind of fault that can strike here. */
  get kinds(): readonly string[] {
    return this.faults.map(({ name }) => name)
  }

  get kills(): number {
    return this.options.rig.agents.reduce((sum, agent) => sum + agent.kills, this.options.rig.collector.kills)
  }

  /**
   * Quiet between two faults; sometimes until what waits is shipped, as between real ones. How long that takes is the
   * machine's: without it a slow one would measure how much the writers throw away unread.
   */
  async rest(): Promise<void> {
    this.rests += 1
    if (this.rests % LONG_REST_EVERY === 0) await catchUp(this.options.rig)
    else await pause(100 + this.options.random() * 500)
  }

  /** One fault from its beginning to its end. */
  async next(): Promise<void> {
    const fault = this.firstRound.pop() ?? this.draw()
    this.counts.set(fault.name, (this.counts.get(fault.name) ?? 0) + 1)
    this.options.say(fault.name)
    await fault.act()
  }

  private draw(): Fault {
    const { faults } = this
    let dice = this.options.random() * faults.reduce((total, { weight }) => total + weight, 0)
    const fault = faults.find(({ weight }) => (dice -= weight) < 0) ?? faults[0]
    if (fault === undefined) throw new Error('there is no fault')
    return fault
  }

  /** Everything runs again and nothing stands in the way. */
  heal(): void {
    const { rig, disk, clock } = this.options
    disk.free()
    clock.move(0)
    rig.proxy.isUp = true
    for (const daemon of [rig.collector, ...rig.agents]) {
      daemon.proceed()
      daemon.start()
    }
  }

  private agent(): Daemon {
    const { rig, random } = this.options
    const agent = rig.agents[Math.floor(random() * rig.agents.length)]
    if (agent === undefined) throw new Error('there is no agent')
    return agent
  }

  private any(): Daemon {
    return this.options.random() < 0.5 ? this.agent() : this.options.rig.collector
  }

  private killAgent(options: { isWiped?: boolean } = {}): Promise<void> {
    return this.killAndRestart(this.agent(), options)
  }

  private async killAndRestart(daemon: Daemon, options: { isWiped?: boolean } = {}): Promise<void> {
    await daemon.kill()
    if (options.isWiped === true) daemon.removeFolder()
    await pause(this.options.random() ** 3 * 3000)
    daemon.start()
  }

  private async killBoth(): Promise<void> {
    const agent = this.agent()
    await Promise.all([this.killAndRestart(agent), this.killAndRestart(this.options.rig.collector)])
  }

  private async restart(): Promise<void> {
    const daemon = this.any()
    await daemon.kill('SIGTERM')
    daemon.start()
  }

  private async stopAndGo(): Promise<void> {
    const daemon = this.any()
    daemon.pause()
    await pause(200 + this.options.random() * 4000)
    if (this.options.random() < 0.3) await this.killAndRestart(daemon)
    else daemon.proceed()
  }

  private async networkAway(): Promise<void> {
    const { proxy, ledger } = this.options.rig
    const interruption = ledger.interrupt('network')
    proxy.isUp = false
    proxy.cutAll()
    await pause(500 + this.options.random() * 4000)
    proxy.isUp = true
    interruption.toMs = performance.now()
  }

  private async cutAll(): Promise<void> {
    this.options.rig.proxy.cutAll()
    await pause(100)
  }

  private async diskFull(): Promise<void> {
    const { disk, random, rig } = this.options
    const interruption = rig.ledger.interrupt('disk')
    if (!disk.fill()) throw new Error('the disk could not be filled')
    await pause(1000 + random() * 3000)
    if (random() < 0.4) await this.killAndRestart(rig.collector)
    disk.free()
    interruption.toMs = performance.now()
    await pause(500)
  }

  private async clockMoved(): Promise<void> {
    const { clock, random } = this.options
    clock.move((random() - 0.5) * 200 * HOUR_MS)
    await pause(300 + random() * 1500)
    if (random() < 0.5) await this.killAndRestart(this.any())
    // Put back: the daemons' clocks are moved, the kernel's, which stamps the births of files, can't be.
    clock.move(0)
  }
}
