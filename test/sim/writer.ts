/**
 * One application that writes a log, and whoever rotates it: appends of whole and of partial lines, and every way of
 * rotation that is turned on. Each line says who wrote it and which one it is, so that it can be told from all others.
 */
import type { Dice } from './dice.ts'
import type { HostDisk, HostNode } from './host-disk.ts'
import type { Kind } from './kinds.ts'
import type { Scheduler } from './scheduler.ts'
import type { Trace } from './trace.ts'

export interface WriterOptions {
  readonly name: string
  readonly path: string
  readonly disk: HostDisk
  readonly dice: Dice
  readonly scheduler: Scheduler
  readonly trace: Trace
  readonly has: (kind: Kind) => boolean
  /** Average time between writes. */
  readonly writeMs: number
  readonly rotateMs: number
}

const rotations = ['rename', 'rename in glob', 'copytruncate', 'delete', 'truncate', 'small files', 'restore'] as const
type Rotation = (typeof rotations)[number]

const KEPT_ROTATED = 3
/** Longer than `lineBytesMax` now and then. */
const LONG_LINE = 3_000
export const LONG_QUIET_MS: readonly [number, number] = [62_000, 90_000]
/** A writer that goes on in a file that was rotated away does so for less than the agent's grace. */
const LINGER_MAX_MS = 3_000

export class Writer {
  readonly name: string
  private readonly options: WriterOptions
  private readonly styles: readonly Rotation[]
  private readonly banner: Buffer
  private node: HostNode
  private sequence = 0
  private rotated = 0
  private isRotating = false
  private isStopped = false
  private isQuiet = false
  /** The end of a line whose beginning is written. */
  private rest: Buffer | undefined

  constructor(options: WriterOptions) {
    this.options = options
    this.name = options.name
    this.styles = rotations.filter((rotation) => options.has(rotation))
    this.banner = options.has('banner') ? bannerOf(options.dice.between(800, 3_000)) : Buffer.alloc(0)
    this.node = options.disk.at(options.path) ?? this.begin()
  }

  start(): void {
    if (this.options.has('long quiet')) this.pauseOnce()
    this.later(this.options.writeMs, () => this.writeSome())
    if (this.styles.length > 0) this.later(this.options.rotateMs, () => this.rotateSome())
  }

  stop(): void {
    this.isStopped = true
  }

  private begin(): HostNode {
    const node = this.options.disk.create(this.options.path)
    if (this.banner.length > 0) this.options.disk.append(node, this.banner)
    return node
  }

  private later(meanMs: number, work: () => void): void {
    const { scheduler, dice } = this.options
    scheduler.in(dice.gap(meanMs), () => {
      if (this.isStopped) return
      if (!this.isQuiet) work()
      this.later(meanMs, work)
    })
  }

  /** Longer than an agent goes on looking at a file that nobody writes to. */
  private pauseOnce(): void {
    const { scheduler, dice } = this.options
    scheduler.in(dice.between(2_000, 20_000), () => {
      this.isQuiet = true
      scheduler.in(dice.between(...LONG_QUIET_MS), () => {
        this.isQuiet = false
      })
    })
  }

  private writeSome(): void {
    const { disk, dice, has } = this.options
    const pieces: Buffer[] = this.rest === undefined ? [] : [this.rest]
    this.rest = undefined
    for (let count = dice.between(1, dice.isHit(0.05) ? 200 : 6); count > 0; count -= 1) pieces.push(this.line())
    if (has('partial lines') && dice.isHit(0.2)) {
      const line = this.line()
      const cut = dice.between(1, line.length - 1)
      pieces.push(line.subarray(0, cut))
      this.rest = line.subarray(cut)
    }
    disk.append(this.node, Buffer.concat(pieces))
  }

  private line(): Buffer {
    const { dice, has } = this.options
    this.sequence += 1
    const size = dice.isHit(0.01) ? LONG_LINE : dice.between(0, 120)
    const odd = has('odd bytes') && dice.isHit(0.1) ? Buffer.from([0, 0xff, 0x0d, 0x80]) : Buffer.alloc(0)
    return Buffer.concat([Buffer.from(`${this.name} ${this.sequence} ${'x'.repeat(size)}`), odd, Buffer.from('\n')])
  }

  private rotateSome(): void {
    if (this.isRotating) return
    const { dice, trace, disk } = this.options
    const style = dice.pick(this.styles)
    trace.note(disk.name, `${this.options.path}: ${style}`)
    switch (style) {
      case 'rename':
        return this.renameAway()
      case 'rename in glob':
        return this.renameInGlob()
      case 'copytruncate':
        return this.copyTruncate()
      case 'delete':
        return this.deleteIt()
      case 'truncate':
        return this.truncateIt()
      case 'small files':
        return this.smallFile()
      case 'restore':
        return this.restoreOld()
    }
  }

  /** app.log.2 → app.log.3 and so on: logrotate with numbers, outside the agent's glob. */
  private shift(): void {
    const { path, disk } = this.options
    if (disk.at(`${path}.${KEPT_ROTATED}`) !== undefined) disk.remove(`${path}.${KEPT_ROTATED}`)
    for (let number = KEPT_ROTATED - 1; number >= 1; number -= 1) {
      if (disk.at(`${path}.${number}`) !== undefined) disk.rename(`${path}.${number}`, `${path}.${number + 1}`)
    }
  }

  private renameAway(): void {
    const { path, disk, dice, has } = this.options
    if (disk.at(path) === undefined) return
    this.shift()
    disk.rename(path, `${path}.1`)
    this.reopen()
    if (has('gz') && dice.isHit(0.5)) this.after(dice.between(50, 8_000), () => this.compress(`${path}.1`))
  }

  private renameInGlob(): void {
    const { disk, path } = this.options
    if (disk.at(path) === undefined) return
    this.rotated += 1
    disk.rename(path, this.inGlob(this.rotated))
    const old = this.inGlob(this.rotated - KEPT_ROTATED)
    if (disk.at(old) !== undefined) disk.remove(old)
    this.reopen()
  }

  private inGlob(number: number): string {
    return this.options.path.replace(/\.log$/, `-${number}.log`)
  }

  /** The new file comes at once or a little later; the writer changes over later still. */
  private reopen(): void {
    const { dice, path, disk } = this.options
    this.isRotating = true
    this.after(dice.isHit(0.5) ? 0 : dice.between(1, 500), () => {
      const fresh = disk.at(path) ?? this.begin()
      this.after(dice.isHit(0.5) ? 0 : dice.between(1, LINGER_MAX_MS), () => {
        this.finishLine()
        this.node = fresh
        this.isRotating = false
      })
    })
  }

  /** An application closes a file behind a whole line, mostly. */
  private finishLine(): void {
    const { disk, dice } = this.options
    if (this.rest !== undefined && dice.isHit(0.7)) disk.append(this.node, this.rest)
    this.rest = undefined
  }

  private copyTruncate(): void {
    const { path, disk, dice, has } = this.options
    const original = disk.at(path)
    if (original === undefined || original.incarnation.size === 0) return
    this.isRotating = true
    const target = has('rename in glob') ? this.inGlob((this.rotated += 1)) : `${path}.1`
    if (target === `${path}.1`) this.shift()
    if (disk.at(target) !== undefined) disk.remove(target)
    const copy = disk.create(target, original.incarnation)
    this.copyOn(original, copy, () => {
      const { size } = original.incarnation
      disk.truncate(original)
      // A writer without O_APPEND goes on where it was: the file begins with a hole.
      if (has('odd bytes') && dice.isHit(0.2) && original === this.node) disk.writeAt(original, size, this.line())
      else if (this.banner.length > 0) disk.append(original, this.banner)
      this.rest = undefined
      this.isRotating = false
    })
  }

  private copyOn(from: HostNode, to: HostNode, done: () => void): void {
    const { dice, disk } = this.options
    const at = to.incarnation.size
    const piece = from.incarnation.view().subarray(at, at + dice.between(500, 20_000))
    if (piece.length === 0) {
      // What is written between the end of the copy and the truncation is lost to everybody but a fast agent.
      this.after(dice.isHit(0.5) ? 0 : dice.between(1, 60), done)
      return
    }
    disk.append(to, Buffer.from(piece))
    this.after(dice.isHit(0.5) ? 0 : dice.between(1, 200), () => this.copyOn(from, to, done))
  }

  private deleteIt(): void {
    const { path, disk } = this.options
    if (disk.at(path) === undefined) return
    disk.remove(path)
    this.reopen()
  }

  private truncateIt(): void {
    const { disk } = this.options
    this.rest = undefined
    disk.truncate(this.node)
    if (this.banner.length > 0) disk.append(this.node, this.banner)
  }

  private smallFile(): void {
    const { disk, dice } = this.options
    this.rotated += 1
    const node = disk.create(this.inGlob(this.rotated))
    if (this.banner.length > 0 && dice.isHit(0.5)) disk.append(node, this.banner)
    for (let count = dice.between(0, 8); count > 0; count -= 1) disk.append(node, this.line())
  }

  /** A rotated file vanishes with its mount and comes back from a backup. */
  private restoreOld(): void {
    const { disk, dice, path } = this.options
    const old = [this.inGlob(this.rotated), `${path}.1`, `${path}.2`].find((each) => disk.at(each) !== undefined)
    const node = old === undefined ? undefined : disk.at(old)
    if (old === undefined || node === undefined || node === this.node || node.incarnation.copyOf !== undefined) return
    const { incarnation } = node
    disk.remove(old)
    this.after(dice.between(500, 8_000), () => {
      if (disk.at(old) !== undefined) return
      disk.append(disk.create(old, incarnation), Buffer.from(incarnation.view()))
    })
  }

  private compress(path: string): void {
    const { disk, dice } = this.options
    const node = disk.at(path)
    if (node === undefined || node === this.node) return
    if (disk.at(`${path}.gz`) !== undefined) disk.remove(`${path}.gz`)
    disk.append(disk.create(`${path}.gz`), Buffer.from(`gz ${dice.between(0, 1_000_000)}\n`))
    disk.remove(path)
  }

  /** Work that was begun is ended, also when the writer is stopped meanwhile. */
  private after(ms: number, work: () => void): void {
    if (ms === 0) work()
    else this.options.scheduler.in(ms, work)
  }
}

/** The same for every file of every application: heads say nothing then. */
function bannerOf(bytes: number): Buffer {
  return Buffer.from(`${'# the same words at the head of each file, which tell nobody which one it is\n'.repeat(Math.ceil(bytes / 77))}`)
}
