/**
 * The oracle's book: every content that was written, how many bytes of it reached the kernel, and when its last copy was
 * taken away. Interruptions of agents are noted too, because a loss counts as exclusion E1 only when a content was
 * destroyed while nobody was able to read it.
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
  /** Monotonic time when the last name of it, and of every copy, was removed. */
  destroyedAtMs: number | undefined
}

/** A time in which an agent was not running, or was stopped. */
export interface Interruption {
  readonly agent: string
  readonly fromMs: number
  toMs: number
}

/** Before a file is destroyed an agent has to have found it; behind it, it holds the descriptor until killed. */
const FOUND_WITHIN_MS = 3000
const SHIPPED_WITHIN_MS = 60_000

export class Ledger {
  readonly incarnations = new Map<string, Incarnation>()
  readonly interruptions: Interruption[] = []

  begin(options: { file: string; flavour: Flavour; agent: string }, number: number): Incarnation {
    const incarnation: Incarnation = { ...options, number, bytes: 0, destroyedAtMs: undefined }
    this.incarnations.set(keyOf(incarnation), incarnation)
    return incarnation
  }

  get bytes(): number {
    let bytes = 0
    for (const incarnation of this.incarnations.values()) bytes += incarnation.bytes
    return bytes
  }

  interrupt(agent: string): Interruption {
    const interruption: Interruption = { agent, fromMs: performance.now(), toMs: Number.POSITIVE_INFINITY }
    this.interruptions.push(interruption)
    return interruption
  }

  /** Why bytes that are missing were nobody's to read, or undefined when they were. */
  explain(incarnation: Incarnation): string | undefined {
    const { destroyedAtMs, agent } = incarnation
    if (destroyedAtMs === undefined) return undefined
    const cause = this.interruptions.find(
      (each) => each.agent === agent && each.toMs > destroyedAtMs - FOUND_WITHIN_MS && each.fromMs < destroyedAtMs + SHIPPED_WITHIN_MS,
    )
    if (cause === undefined) return undefined
    const seconds = (ms: number): string => `${ms < destroyedAtMs ? '' : '+'}${((ms - destroyedAtMs) / 1000).toFixed(1)} s`
    return `E1: its last copy was removed, and ${agent} did not run from ${seconds(cause.fromMs)} to ${seconds(cause.toMs)} of that`
  }
}

export function keyOf(name: { file: string; number: number }): string {
  return `${name.file}#${name.number}`
}
