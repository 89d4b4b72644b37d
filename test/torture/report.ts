/** A verdict in words. */
import type { Verdict } from './judge.ts'

const FINDINGS_MAX = 20
const EXCUSES_MAX = 5

export function explainVerdict(verdict: Verdict): string[] {
  const { view, lines, bytes, lost, doubled, reordered, excused, streams, findings, excuses } = verdict
  const summary = `${view}: ${lines} lines, ${bytes} bytes in ${streams} streams; lost ${lost}, doubled ${doubled}, reordered ${reordered}; E1 ${excused}`
  return [summary, ...shown('WRONG', findings, FINDINGS_MAX), ...shown('excused', excuses, EXCUSES_MAX)]
}

function shown(label: string, texts: readonly string[], most: number): string[] {
  const rest = texts.length > most ? [`  ${label}: and ${texts.length - most} more`] : []
  return [...texts.slice(0, most).map((text) => `  ${label}: ${text}`), ...rest]
}
