/** A verdict, and a whole torture, in words and as figures for machines. */
import type { Verdict } from './judge.ts'
import type { TortureResult } from './run.ts'

const FINDINGS_MAX = 20
const EXCUSES_MAX = 200

export function explainTorture(result: TortureResult): string[] {
  const { faults, requestFaults, kills, selfEnds, seconds, verdicts, checks } = result
  const others = sum(faults.values()) - kills
  return [
    '',
    ...[...faults].map(([name, count]) => `  ${name.padEnd(36)} ${count}`),
    ...[...requestFaults].map(([name, count]) => `  request: ${name.padEnd(27)} ${count}`),
    `kills ${kills}, faults of processes and machines ${others + kills}, of requests ${sum(requestFaults.values())}, ends by themselves ${selfEnds}, ${seconds.toFixed(0)} s`,
    ...verdicts.flatMap((verdict) => explainVerdict(verdict)),
    ...checks.map(({ what, findings }) => `${findings.length === 0 ? 'ok' : 'WRONG'}: ${what}`),
    ...checks.flatMap(({ what, findings }) => shown('WRONG', findings.map((finding) => `${what}: ${finding}`), FINDINGS_MAX)),
  ]
}

export function explainVerdict(verdict: Verdict): string[] {
  const { view, lines, bytes, lost, doubled, reordered, excused, streams, findings, excuses } = verdict
  const summary = `${view}: ${lines} lines, ${bytes} bytes in ${streams} streams; lost ${lost}, doubled ${doubled}, reordered ${reordered}; E1 ${excused}`
  return [summary, ...shown('WRONG', findings, FINDINGS_MAX), ...shown('excused', excuses, EXCUSES_MAX)]
}

/** For `--json`: every check, the verdicts among them, passed or failed. */
export function figuresOf(result: TortureResult): object {
  const { kills, faults, requestFaults, selfEnds, seconds, verdicts, checks } = result
  const asked = [...verdicts.map(({ view, findings }) => ({ what: view, findings })), ...checks]
  const failed = asked.filter(({ findings }) => findings.length > 0)
  return {
    kills,
    selfEnds,
    seconds: Math.round(seconds),
    faults: Object.fromEntries(faults),
    requestFaults: Object.fromEntries(requestFaults),
    verdicts: verdicts.map(({ findings: _findings, excuses: _excuses, ...figures }) => figures),
    passed: asked.length - failed.length,
    failed: failed.length,
    failures: failed.map(({ what }) => what),
  }
}

function shown(label: string, texts: readonly string[], most: number): string[] {
  const rest = texts.length > most ? [`  ${label}: and ${texts.length - most} more`] : []
  return [...texts.slice(0, most).map((text) => `  ${label}: ${text}`), ...rest]
}

function sum(counts: Iterable<number>): number {
  let total = 0
  for (const count of counts) total += count
  return total
}
