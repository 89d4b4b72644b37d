/**
 * A wall clock that can be moved under running daemons, monotonic time left alone: each loads a few lines before its own
 * program, which add to `Date` what a file says. libfaketime does the same but is rarely there, and Node needs no more.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

const PRELOAD = `
import { readFileSync } from 'node:fs'
const RealDate = Date
let offsetMs = 0
let nextLookMs = 0
const offset = () => {
  const nowMs = performance.now()
  if (nowMs >= nextLookMs) {
    nextLookMs = nowMs + 100
    offsetMs = Number(readFileSync(process.env.TORTURE_CLOCK_FILE, 'utf8')) || 0
  }
  return offsetMs
}
globalThis.Date = class Date extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(RealDate.now() + offset())
    else super(...args)
  }
  static now() {
    return RealDate.now() + offset()
  }
}
`

export interface MovedClock {
  readonly env: Readonly<Record<string, string>>
  move(offsetMs: number): void
}

export function makeMovedClock(work: string): MovedClock {
  const preload = join(work, 'moved-clock.mjs')
  const file = join(work, 'clock-offset')
  writeFileSync(preload, PRELOAD)
  writeFileSync(file, '0')
  return {
    env: { NODE_OPTIONS: `--import=${preload}`, TORTURE_CLOCK_FILE: file },
    move: (offsetMs) => writeFileSync(file, String(Math.round(offsetMs))),
  }
}
