/** Who breaks things: each kind of fault that is on happens again and again, until the chaos is over; then all is mended. */
import type { Dice } from './dice.ts'
import type { Kind } from './kinds.ts'
import type { LedgerSnapshot } from './ledger.ts'
import type { World } from './world.ts'

const HOUR_MS = 3_600_000

export class Director {
  private readonly world: World
  private readonly dice: Dice
  private isOver = false
  private knownBeforeLies: LedgerSnapshot | undefined

  constructor(world: World) {
    this.world = world
    this.dice = world.dice('director')
  }

  begin(): void {
    const { network, plan } = this.world
    network.state.faults = plan.networkFaults
    network.state.faultChance = plan.networkFaults.length > 0 ? plan.faultChance : 0
    this.world.diskTrouble.readErrors = this.world.has('read errors') ? 0.01 : 0
    this.often('kill agent', 1, () => this.killAgent())
    this.often('stop agent', 2, () => this.stopAgent())
    this.often('kill collector', 1, () => this.breakCollector(() => this.world.collector.kill()))
    this.often('power cut', 1, () => this.cutPower())
    this.often('wall jumps', 1, () => this.jump())
    this.often('outage', 2, () => this.cutNetwork())
    this.often('disk full', 1.5, () => this.fillDisk())
    this.often('short writes', 1, () => this.shortWrite())
    this.often('failed sync', 2, () => this.failSync())
    if (this.world.has('set back')) this.world.scheduler.in(this.dice.between(1_500, plan.chaosMs / 2), () => this.keepBackup())
    // One of the two: both set the log back, and each to a state of its own.
    else if (this.world.has('lying sync')) this.world.scheduler.in(this.dice.between(1_500, plan.chaosMs / 2), () => this.beginToLie())
    if (this.world.has('clone')) this.world.scheduler.in(this.dice.between(1_000, Math.max(2_000, plan.chaosMs - 2_000)), () => this.clone())
  }

  /** No new faults, and those that last are ended. */
  end(): void {
    const { world } = this
    this.isOver = true
    world.trace.note('director', 'the chaos is over')
    world.network.state.faultChance = 0
    world.network.state.isCut = false
    world.diskTrouble.readErrors = 0
    world.disk.capacityBytes = Number.MAX_SAFE_INTEGER
    world.disk.inject = undefined
    if (world.disk.lies) world.disk.lie(false)
    world.diskTrouble.until = world.scheduler.nowMs + 5_000
    for (const { writers } of world.hosts) for (const writer of writers) writer.stop()
    if (!world.collector.isRunning) world.collector.start()
    for (const { agent } of world.hosts) agent.start()
  }

  private often(kind: Kind, rarity: number, work: () => void): void {
    if (!this.world.has(kind)) return
    const next = (): void => {
      this.world.scheduler.in(this.dice.gap(this.world.plan.eventMs * rarity), () => {
        if (this.isOver) return
        work()
        next()
      })
    }
    next()
  }

  /** Soon, late, or at once. */
  private restartIn(start: () => void): void {
    this.world.scheduler.in(this.dice.isHit(0.3) ? 0 : this.dice.gap(this.dice.isHit(0.7) ? 400 : 6_000), start)
  }

  private killAgent(): void {
    const { agent } = this.dice.pick(this.world.hosts)
    agent.kill()
    this.restartIn(() => agent.start())
  }

  private stopAgent(): void {
    this.dice.pick(this.world.hosts).agent.stop()
  }

  private breakCollector(how: () => void): void {
    if (!this.world.collector.isRunning) return
    how()
    this.restartIn(() => this.world.collector.start())
  }

  /** Now, or right after the next answer of a kind has left: what it told must have been synced by then. */
  private cutPower(): void {
    const { world } = this
    const cut = (): void => (world.disk.lies ? this.uncoverLies() : this.breakCollector(() => world.collector.cutPower()))
    const when = this.dice.pick(['now', 'acknowledged', 'told'] as const)
    if (when === 'now') cut()
    else world.afterAnswer = { when, call: () => world.scheduler.in(0, () => (this.isOver ? undefined : cut())) }
  }

  private jump(): void {
    const byMs = this.dice.pick([-30 * HOUR_MS, -90_000, -500, 500, 90_000, 30 * HOUR_MS])
    this.world.moveWall(this.dice.pick(this.world.walls), byMs)
  }

  private cutNetwork(): void {
    const { network, trace, scheduler } = this.world
    trace.note('director', 'the network is cut')
    network.state.isCut = true
    scheduler.in(this.dice.gap(5_000), () => {
      network.state.isCut = false
    })
  }

  /** The room that is left now is all there is, for a while. */
  private fillDisk(): void {
    const { disk, trace, scheduler } = this.world
    trace.note('director', 'the disk is full')
    disk.capacityBytes = disk.usedBytes() + this.dice.between(0, 20_000)
    const forMs = this.dice.gap(4_000)
    this.trouble(forMs + 3_000)
    scheduler.in(forMs, () => {
      disk.capacityBytes = Number.MAX_SAFE_INTEGER
    })
  }

  private shortWrite(): void {
    const { disk } = this.world
    disk.inject = (call) => {
      if (call.kind !== 'write' || call.bytes < 2) return undefined
      disk.inject = undefined
      this.trouble(3_000)
      return { written: this.dice.between(1, call.bytes - 1) }
    }
  }

  private failSync(): void {
    const { disk, trace } = this.world
    disk.inject = (call) => {
      if (call.kind !== 'sync') return undefined
      disk.inject = undefined
      this.trouble(3_000)
      trace.note('director', `the sync of ${call.path} fails`)
      return { errno: 'EIO' }
    }
  }

  private trouble(forMs: number): void {
    const { diskTrouble, scheduler } = this.world
    diskTrouble.until = Math.max(diskTrouble.until, scheduler.nowMs + forMs)
  }

  /** The data folder as it is now, and the export store with it, comes back later. */
  private keepBackup(): void {
    const { world } = this
    const backup = world.disk.clone()
    const known = world.ledger.snapshot()
    world.trace.note('director', 'a backup of the collector is made')
    world.scheduler.in(this.dice.between(1_000, world.plan.chaosMs / 3), () => {
      if (this.isOver) return
      world.trace.note('director', 'the collector is set back to its backup')
      world.collector.kill()
      world.disk.restoreFrom(backup)
      this.noteSetBack(known)
      this.restartIn(() => world.collector.start())
    })
  }

  private noteSetBack(known: LedgerSnapshot): void {
    this.world.ledger.setBack(known)
    this.world.setBack = { greeted: new Set(), caughtUpMs: new Map() }
  }

  /** The disk answers syncs and does nothing, until the power goes. */
  private beginToLie(): void {
    const { world } = this
    if (this.isOver) return
    world.trace.note('director', 'the disk begins to lie')
    world.disk.lie(true)
    this.knownBeforeLies = world.ledger.snapshot()
    world.scheduler.in(this.dice.between(1_000, world.plan.chaosMs / 3), () => this.uncoverLies())
  }

  /**
   * All that was written since is lost at once, as a cache without a battery loses it. A part of it may survive a real
   * one; what is left then is damage, which `verify` finds and nothing can mend.
   */
  private uncoverLies(): void {
    const { world, knownBeforeLies } = this
    if (this.isOver || !world.disk.lies || knownBeforeLies === undefined) return
    world.trace.note('director', 'the power goes, and what the disk lied about is lost')
    world.collector.kill()
    world.disk.crash()
    this.noteSetBack(knownBeforeLies)
    this.restartIn(() => world.collector.start())
  }

  private clone(): void {
    const { world } = this
    const original = world.hosts[0]
    if (original === undefined || this.isOver) return
    world.trace.note('director', 'host0 is cloned')
    world.addHost('host2', 'host0', original).agent.start()
  }
}
