/** A verdict in words. */
import type { Verdict } from './judge.ts'

const SHOWN_MAX = 20

export function explainVerdict(verdict: Verdict): string[] {
  const { view, lines, bytes, lost, doubled, reordered, excused, streams, findings, excuses } = verdict
  const summary = `${view}: ${lines} lines, ${bytes} bytes in ${streams} streams; lost ${lost}, doubled ${doubled}, reordered ${reordered}; E1 ${excused}`
  return [summary, ...shown('WRONG', findings), ...shown('excused', excuses)]
}

function shown(label: string, texts: readonly string[]): string[] {
  const rest = texts.length > SHOWN_MAX ? [`  ${label}: and ${texts.length - SHOWN_MAX} more`] : []
  return [...texts.slice(0, SHOWN_MAX).map((text) => `  ${label}: ${text}`), ...rest]
}
