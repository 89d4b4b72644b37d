/**
 * The oracle's book: every content that was written, how many bytes of it reached the kernel, and when its last copy was
 * taken away. Interruptions are noted too (of agents, the collector, its disk, the network), because a loss counts as
 * exclusion E1 only when a content was destroyed while nobody was able to read and to ship it.
 */
import type { Flavour } from './content.ts'

/** What a file held between its creation, or a truncation, and the next. */
export interface Incarnation {
  readonly file: string
  readonly number: number
  readonly flavour: Flavour
  /** The agent whose globs name it. */
  readonly agent: string
  /** Bytes that `write` has taken. */
  bytes: number
  /** Monotonic time of the last write. */
  writtenAtMs: number
  /** Monotonic time when the last name of it, and of every copy, was removed. */
  destroyedAtMs: number | undefined
}

/** A time in which a daemon did not run or was stopped, or in which the network or the disk was away. */
export interface Interruption {
  /** An agent's name, or one of `everybodys`. */
  readonly what: string
  readonly fromMs: number
  toMs: number
}

/** What stands in the way of every agent. */
const everybodys: readonly string[] = ['collector', 'network', 'disk']
/** Before a file is destroyed an agent has to have found it; behind it, it holds the descriptor until killed. */
const FOUND_WITHIN_MS = 3000
const HELD_MS = 60_000
/** So long a rest without any interruption is enough to find and ship what is there: the longest wait of a retry is 15 s. */
const SHIPPED_WITHIN_MS = 20_000

export class Ledger {
  readonly incarnations = new Map<string, Incarnation>()
  readonly interruptions: Interruption[] = []

  begin(options: { file: string; flavour: Flavour; agent: string }, number: number): Incarnation {
    const incarnation: Incarnation = { ...options, number, bytes: 0, writtenAtMs: performance.now(), destroyedAtMs: undefined }
    this.incarnations.set(keyOf(incarnation), incarnation)
    return incarnation
  }

  get bytes(): number {
    let bytes = 0
    for (const incarnation of this.incarnations.values()) bytes += incarnation.bytes
    return bytes
  }

  interrupt(what: string): Interruption {
    const interruption: Interruption = { what, fromMs: performance.now(), toMs: Number.POSITIVE_INFINITY }
    this.interruptions.push(interruption)
    return interruption
  }

  /**
   * Why bytes that are missing were nobody's to read, or undefined when they were: the agent that held the file was
   * interrupted, and between the last write and the end of the last copy there was no rest in which to ship it.
   */
  explain(incarnation: Incarnation): string | undefined {
    const { destroyedAtMs, writtenAtMs, agent } = incarnation
    if (destroyedAtMs === undefined) return undefined
    const isHurt = this.interruptions.some(
      (each) => each.what === agent && each.toMs > destroyedAtMs - FOUND_WITHIN_MS && each.fromMs < destroyedAtMs + HELD_MS,
    )
    if (!isHurt) return undefined
    const restMs = longestRest(this.interruptions.filter(({ what }) => what === agent || everybodys.includes(what)), { fromMs: writtenAtMs, toMs: destroyedAtMs })
    if (restMs >= SHIPPED_WITHIN_MS) return undefined
    return `E1: its last copy was removed ${seconds(destroyedAtMs - writtenAtMs)} after the last write, and ${agent}, collector, network and disk were all well for ${seconds(restMs)} of that at a stretch, ${agent} interrupted`
  }
}

/** The longest time within a span in which nothing was interrupted. */
function longestRest(interruptions: readonly Interruption[], span: { fromMs: number; toMs: number }): number {
  let longest = 0
  let sinceMs = span.fromMs
  for (const { fromMs, toMs } of interruptions.toSorted((a, b) => a.fromMs - b.fromMs)) {
    longest = Math.max(longest, Math.min(fromMs, span.toMs) - sinceMs)
    sinceMs = Math.max(sinceMs, toMs)
  }
  return Math.max(longest, span.toMs - sinceMs, 0)
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}

export function keyOf(name: { file: string; number: number }): string {
  return `${name.file}#${name.number}`
}
