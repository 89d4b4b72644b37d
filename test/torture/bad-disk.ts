/**
 * A disk whose fsync fails, or lies, under a running daemon: a few lines that are loaded before its program stand between
 * it and `fdatasync`. The product code does not know.
 */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const FAILING = `
import { open } from 'node:fs/promises'
import { existsSync, unlinkSync } from 'node:fs'
const probe = await open('/dev/null')
const prototype = Object.getPrototypeOf(probe)
await probe.close()
const real = prototype.datasync
prototype.datasync = async function datasync() {
  if (existsSync(process.env.TORTURE_FAIL_SYNC)) {
    unlinkSync(process.env.TORTURE_FAIL_SYNC)
    throw Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO', errno: -5, syscall: 'fdatasync' })
  }
  return real.call(this)
}
`

const LYING = `
import { open } from 'node:fs/promises'
const probe = await open('/dev/null')
const prototype = Object.getPrototypeOf(probe)
await probe.close()
prototype.datasync = async () => undefined
prototype.sync = async () => undefined
`

export interface FailingSync {
  readonly env: Readonly<Record<string, string>>
  /** The next fdatasync fails. */
  arm(): void
  readonly isArmed: boolean
}

export function makeFailingSync(work: string): FailingSync {
  const preload = join(work, 'failing-sync.mjs')
  const trigger = join(work, 'fail-sync')
  writeFileSync(preload, FAILING)
  return {
    env: { NODE_OPTIONS: `--import=${preload}`, TORTURE_FAIL_SYNC: trigger },
    arm: () => writeFileSync(trigger, ''),
    get isArmed() {
      return existsSync(trigger)
    },
  }
}

/** A planted bug: everything is acked, nothing is synced. A harness that does not find it proves nothing. */
export function makeLyingSync(work: string): Readonly<Record<string, string>> {
  const preload = join(work, 'lying-sync.mjs')
  writeFileSync(preload, LYING)
  return { NODE_OPTIONS: `--import=${preload}` }
}
