/**
 * How often files are looked at when nothing was told of them. Looking costs a system call in the thread pool for each
 * file, so with thousands of files it is spread out; events, where there are any, do not wait for it. Numbers only: the
 * follower looks.
 */
import type { SourceFile } from './source-file.ts'

/** Ticks between two sweeps of everything, whatever the directories say. */
const FULL_SWEEP_EVERY = 10
/** The part of the time that they may take: where a sweep takes long, the next one is further away, */
const FULL_SWEEP_SHARE = 1 / 1000
/** but never further than this. It finds what no directory's mtime tells: that one may be read now, where a link leads. */
const FULL_SWEEP_MS_MAX = 300_000
/** One that events want, where new names come without end, rests for three times as long as it took, a tick at most. */
const WANTED_SWEEP_REST = 3
/** Files written to within this time (untied ones: found within this time) are looked at in each tick, */
const ACTIVE_MS = 60_000
/** so many of them at most: of more, each one in every second tick, or every third. */
const LOOKS_MAX = 200
/** All files are looked at in a round: in each tick a tenth of them, */
const ROUND_TICKS_MIN = 10
/** of many not more than this, which costs 0.15 % of a core, */
const ROUND_LOOKS = 150
/** unless the round would take longer than this. */
const ROUND_MS_MAX = 60_000

type Times = Pick<SourceFile, 'lastGrowthMs' | 'lastWriteMs' | 'cursor'>

export class SweepPace {
  /** Before it no sweep is made only because an event wants one. */
  wantedSweepAtMs = Number.NEGATIVE_INFINITY
  private readonly tickMs: number
  private fullSweepAtMs = Number.NEGATIVE_INFINITY
  private tick = 0
  private active = 0
  private turns = 1

  constructor(tickMs: number) {
    this.tickMs = tickMs
  }

  isFullSweepDue(nowMs: number): boolean {
    return nowMs >= this.fullSweepAtMs
  }

  /** All times monotonic. */
  noteSweep(took: { fromMs: number; toMs: number }): void {
    const tookMs = took.toMs - took.fromMs
    this.wantedSweepAtMs = took.toMs + Math.min(this.tickMs, WANTED_SWEEP_REST * tookMs)
    const restMs = Math.min(tookMs / FULL_SWEEP_SHARE, FULL_SWEEP_MS_MAX)
    this.fullSweepAtMs = took.toMs + Math.max(restMs, FULL_SWEEP_EVERY * this.tickMs)
  }

  beginTick(): void {
    this.tick += 1
    this.turns = Math.max(1, Math.ceil(this.active / LOOKS_MAX))
    this.active = 0
  }

  isActive(file: Times, nowMs: number): boolean {
    return nowMs - (file.cursor === undefined ? file.lastGrowthMs : file.lastWriteMs) < ACTIVE_MS
  }

  /** Asked once in a tick for each file that may be active, always in the same order. */
  isLookDue(file: Times, nowMs: number): boolean {
    if (!this.isActive(file, nowMs)) return false
    this.active += 1
    return this.active % this.turns === this.tick % this.turns
  }

  /** How many of all files are looked at in one tick, in a round. */
  roundLooks(fileCount: number): number {
    const roundTicksMax = Math.max(ROUND_TICKS_MIN, Math.floor(ROUND_MS_MAX / this.tickMs))
    return Math.max(Math.ceil(fileCount / roundTicksMax), Math.min(Math.ceil(fileCount / ROUND_TICKS_MIN), ROUND_LOOKS))
  }
}
