/**
 * How often files are looked at when nothing was told of them. Looking costs a system call in the thread pool for each
 * file, so with thousands of files it is spread out; events, where there are any, do not wait for it. Numbers only: the
 * follower looks.
 */
import type { SourceFile } from './source-file.ts'

/** Ticks between two sweeps that look at every file, whatever the directories say. */
const FULL_SWEEP_EVERY = 10
/** The part of the time that they may take: where a sweep takes long, the next one is further away, */
const FULL_SWEEP_SHARE = 1 / 400
/** but never further than this. */
const FULL_SWEEP_MS_MAX = 60_000
/** One that events want, where new names come without end, rests for three times as long as it took, a tick at most. */
const WANTED_SWEEP_REST = 3
/** Files written to within this time (untied ones: found within this time) are looked at between sweeps, too, */
const ACTIVE_MS = 60_000
/** so many of them in one tick at most: of more, each one in every second tick, or every third. 200 cost 0.8 % of a core. */
const LOOKS_MAX = 200

export class SweepPace {
  /** Before it no sweep is made only because an event wants one. */
  wantedSweepAtMs = Number.NEGATIVE_INFINITY
  private fullSweepAtMs = Number.NEGATIVE_INFINITY
  private tick = 0
  private active = 0
  private turns = 1

  isFullSweepDue(nowMs: number): boolean {
    return nowMs >= this.fullSweepAtMs
  }

  /** All times monotonic. */
  noteSweep(took: { fromMs: number; toMs: number; tickMs: number }): void {
    const tookMs = took.toMs - took.fromMs
    this.wantedSweepAtMs = took.toMs + Math.min(took.tickMs, WANTED_SWEEP_REST * tookMs)
    const restMs = Math.min(tookMs / FULL_SWEEP_SHARE, FULL_SWEEP_MS_MAX)
    this.fullSweepAtMs = took.toMs + Math.max(restMs, FULL_SWEEP_EVERY * took.tickMs)
  }

  beginTick(): void {
    this.tick += 1
    this.turns = Math.max(1, Math.ceil(this.active / LOOKS_MAX))
    this.active = 0
  }

  /** Asked once in a tick for each file, always in the same order. */
  isLookDue(file: Pick<SourceFile, 'lastGrowthMs' | 'lastWriteMs' | 'cursor'>, nowMs: number): boolean {
    if (nowMs - (file.cursor === undefined ? file.lastGrowthMs : file.lastWriteMs) >= ACTIVE_MS) return false
    this.active += 1
    return this.active % this.turns === this.tick % this.turns
  }
}
