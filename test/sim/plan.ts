/** What a seed stands for: which kinds of faults are on, how hard, for how long. Made of the seed alone. */
import { Dice } from './dice.ts'
import { kinds, type Kind } from './kinds.ts'
import type { NetworkFault } from './network.ts'
import { LONG_QUIET_MS } from './writer.ts'

export interface PlanOptions {
  readonly seed: number
  readonly without?: readonly Kind[]
  /** Only these, whatever the seed says. */
  readonly only?: readonly Kind[]
  /** Virtual time during which things go wrong. Default by seed. */
  readonly chaosMs?: number
}

export interface Plan {
  readonly seed: number
  readonly kinds: ReadonlySet<Kind>
  readonly chaosMs: number
  readonly writers: number
  readonly writeMs: number
  readonly rotateMs: number
  readonly networkFaults: readonly NetworkFault[]
  readonly faultChance: number
  /** Average time between two faults of a kind that comes as an event. */
  readonly eventMs: number
  readonly partitions: number
  readonly segmentBytes: number
}

export function planOf(options: PlanOptions): Plan {
  const { seed } = options
  const dice = new Dice(seed, 'plan')
  const density = dice.fraction()
  // A dice for each, so that a new kind leaves the plans of all seeds as they are but for itself.
  const drawn = kinds.filter((kind) => new Dice(seed, `plan ${kind}`).isHit(0.15 + 0.6 * density))
  const on = new Set((options.only ?? drawn).filter((kind) => options.without?.includes(kind) !== true))
  const drawnChaosMs = dice.between(8_000, 40_000)
  const partitions = dice.between(1, 3)
  const small = dice.between(4, 32) * 1024
  return {
    seed, kinds: on, partitions,
    // The quiet time comes on top of it.
    chaosMs: options.chaosMs ?? drawnChaosMs + (on.has('long quiet') ? LONG_QUIET_MS[1] : 0),
    writers: dice.between(1, 3),
    writeMs: dice.between(40, 700),
    rotateMs: dice.between(2_000, 9_000),
    faultChance: dice.between(2, 25) / 100,
    eventMs: dice.between(2_500, 12_000),
    networkFaults: networkFaults(on),
    segmentBytes: on.has('small segments') || on.has('retention') ? small : 64 * 1024 * 1024,
  }
}

function networkFaults(on: ReadonlySet<Kind>): NetworkFault[] {
  const faults: NetworkFault[] = []
  if (on.has('lost messages')) faults.push('refuse', 'lose request', 'lose answer', 'lose answer')
  if (on.has('cut messages')) faults.push('cut request', 'cut answer')
  if (on.has('late messages')) faults.push('late', 'double')
  if (on.has('crossed answers')) faults.push('cross')
  return faults
}
