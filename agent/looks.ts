/**
 * Looks at files between sweeps: at those that were written lately, those whose name is gone and those with an unfinished
 * line in each tick, at all others in turn. An event tells sooner, where there are events; this finds what they missed.
 * One tick at a time; a file may change while its look waits, so each is checked again after that.
 */
import type { System } from '../shared/system.ts'
import type { Handles } from './handles.ts'
import { inGroups } from './in-groups.ts'
import { describeReadError } from './read-error.ts'
import type { Reader } from './reader.ts'
import { isReusedInode, type Registry } from './registry.ts'
import type { SourceFile } from './source-file.ts'
import type { SweepPace } from './sweep-pace.ts'

/** For a rotated file that was never opened and is not where it was found: one in each tick. */
const SEARCHES_MAX = 3

export interface LooksDeps {
  readonly system: System
  readonly registry: Registry
  readonly handles: Handles
  readonly reader: Reader
  readonly pace: SweepPace
  /** It is shorter than what was read of it. */
  readonly onCut: (file: SourceFile) => void
  /** Its name leads nowhere, and no descriptor of it is held: perhaps it lies beside. */
  readonly onLost: (file: SourceFile) => void
  /** Its name, as the last sweep found it, leads nowhere or to another file. */
  readonly onVanished: (file: SourceFile) => void
}

export class Looks {
  private readonly deps: LooksDeps
  /** Where the round through all files stands. Files that come and go meanwhile do it no harm. */
  private round: IterableIterator<SourceFile> | undefined

  constructor(deps: LooksDeps) {
    this.deps = deps
  }

  async tick(): Promise<void> {
    const { registry, pace, system } = this.deps
    const nowMs = system.clock.monotonicMs()
    pace.beginTick()
    const due = new Set<SourceFile>()
    for (const file of registry.awake) if (pace.isLookDue(file, nowMs) || file.isDetached || file.partialBytes > 0) due.add(file)
    for (let looks = pace.roundLooks(registry.size); looks > 0; looks -= 1) {
      const file = this.nextInRound()
      if (file === undefined) break
      if (!registry.awake.has(file) || !pace.isActive(file, nowMs)) due.add(file)
      // Whoever forgets to wake a file only delays it.
      if (!file.isAtRest) registry.wake(file)
    }
    await inGroups([...due], (file) => this.look(file))
  }

  /** undefined at its end. */
  private nextInRound(): SourceFile | undefined {
    this.round ??= this.deps.registry.files
    const next: IteratorResult<SourceFile, unknown> = this.round.next()
    if (next.done !== true) return next.value
    this.round = undefined
    return undefined
  }

  private async look(file: SourceFile): Promise<void> {
    const { system, handles, reader, registry } = this.deps
    try {
      // A descriptor in time: bytes behind a name that goes away are read through it.
      if (file.handle === undefined && (file.isDetached || file.state.kind === 'new')) await handles.of(file)
      // Taken before the stat: those bytes were there, so a smaller size behind it is a truncation and not an old answer.
      const { position } = file
      const stat = await (file.handle?.stat() ?? system.fs.stat(file.openPath))
      if (!registry.has(file)) return
      if (stat === undefined || stat.inode !== file.inode || isReusedInode(file, stat)) {
        if (file.isListed && !file.isDetached) this.deps.onVanished(file)
        return
      }
      if (!registry.sees(file, stat)) return
      if (stat.size > file.size) file.grew(system.clock.monotonicMs())
      // The reader would see it too, but not while it holds the file back because its stream is not taken.
      if (stat.size < position && file.cursor !== undefined && !file.isBusy) this.deps.onCut(file)
      else reader.poke(file)
    } catch (error) {
      this.failed(file, error)
    }
  }

  /** An error is kept to ourselves: what is to be read is read, or fails, in its turn. */
  failed(file: SourceFile, thrown: unknown): void {
    const { text, isGone } = describeReadError(thrown)
    this.deps.system.log.debug('a file could not be looked at', { path: file.path, reason: text, isGone })
    // Rotation went on while the siblings were searched: what was found then bears the next name by now.
    if (!isGone || !file.isDetached || file.handle !== undefined || file.searches >= SEARCHES_MAX) return
    file.searches += 1
    this.deps.onLost(file)
  }
}
