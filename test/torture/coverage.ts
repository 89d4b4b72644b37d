/**
 * The harness judged by itself: a fault that never struck, or that nobody felt, or an excuse that covers too much proves
 * nothing. Only a long run can tell: a short one draws a few of the kinds.
 */
import { proxyFaults, type ProxyFault } from './faulty-proxy.ts'
import type { Verdict } from './judge.ts'

/** Kills, or minutes, from which every kind of fault has to have happened. */
const LONG_KILLS = 100
const LONG_MINUTES = 5
/** E1 is a window. Where it covers more, the writers throw away what nobody had a chance to read. */
const EXCUSED_SHARE_MAX = 0.01

export interface Course {
  readonly kills: number
  readonly minutes: number
  /** Every kind of fault that can be had here. */
  readonly kinds: readonly string[]
  readonly counts: ReadonlyMap<string, number>
  readonly requestCounts: ReadonlyMap<ProxyFault, number>
  /** What the daemons wrote to their logs. */
  readonly logs: readonly string[]
  readonly verdicts: readonly Pick<Verdict, 'view' | 'lines' | 'excused'>[]
}

/** Faults that the daemons have to have noticed, with the words in their logs. */
const traces: readonly { readonly fault: string; readonly words: string }[] = [
  { fault: 'disk full', words: 'disk full, append refused' },
  { fault: 'clock moved', words: 'the wall clock stepped' },
]

export function weaknesses({ kills, minutes, kinds, counts, requestCounts, logs, verdicts }: Course): readonly string[] {
  const found: string[] = []
  for (const { view, lines, excused } of verdicts) {
    if (excused > lines * EXCUSED_SHARE_MAX) found.push(`${view}: E1 excuses ${excused} of ${lines} lines, more than one in a hundred`)
  }
  if (kills < LONG_KILLS && minutes < LONG_MINUTES) return found
  for (const kind of kinds) if ((counts.get(kind) ?? 0) === 0) found.push(`the fault "${kind}" never happened`)
  for (const fault of proxyFaults) if ((requestCounts.get(fault) ?? 0) === 0) found.push(`no request met the fault "${fault}"`)
  for (const { fault, words } of traces) {
    if (kinds.includes(fault) && !logs.some((log) => log.includes(words))) found.push(`the fault "${fault}" left no trace in any log`)
  }
  return found
}
