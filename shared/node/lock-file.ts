/**
 * An exclusive lock between processes, as a file that names its holder by boot, process id and process start time: a
 * holder that died is recognised, also after a reboot and when its process id was given to another process. Node has no
 * flock, and an abstract socket would not cross network namespaces. Processes that share the folder but not the
 * process table (two containers) are told apart by host name and never break each other's lock.
 */
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import * as fs from 'node:fs/promises'
import { createServer } from 'node:net'
import { hostname } from 'node:os'
import { AppError, errnoOf } from '../errors.ts'
import type { FileLock } from '../system.ts'

const ATTEMPTS_MAX = 100

export async function lockFile(path: string): Promise<FileLock> {
  const mine = await describeProcess(process.pid)
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`
  await fs.writeFile(temporary, `${mine}\n`, { mode: 0o644 })
  try {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      if (await tryLink(temporary, path)) return { release: () => release(path, mine) }
      const holder = await readHolder(path)
      if (holder === undefined) continue
      if (await isAlive(holder)) throw held(path, holder)
      await takeAway(path, holder)
    }
  } finally {
    await fs.unlink(temporary).catch(ignoreMissing)
  }
  throw new AppError('LOCKED', `${path} changes hands all the time`, { hint: 'start one process at a time' })
}

async function tryLink(from: string, to: string): Promise<boolean> {
  try {
    await fs.link(from, to)
    return true
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false
    throw error
  }
}

/**
 * Removes a stale lock. Between a look and a removal another starter may have put its own lock there, so both happen
 * under a guard that only one process has at a time and that the kernel takes back when it dies: an abstract socket.
 */
async function takeAway(path: string, staleHolder: string): Promise<void> {
  const guard = createServer()
  const name = createHash('sha256').update(path).digest('hex').slice(0, 32)
  guard.listen(`\0tailrace-lock-${name}`)
  try {
    await once(guard, 'listening')
  } catch (error) {
    if (errnoOf(error) === 'EADDRINUSE') return // another starter is at it: look again
    throw error
  }
  try {
    if ((await readHolder(path)) === staleHolder) await fs.unlink(path)
  } finally {
    guard.close()
    await once(guard, 'close')
  }
}

async function readHolder(path: string): Promise<string | undefined> {
  try {
    return (await fs.readFile(path, 'utf8')).trim()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

function held(path: string, holder: string): AppError {
  const [host, , pid] = holder.split(' ')
  return new AppError('LOCKED', `${path} is held by process ${pid ?? '?'} on ${host ?? '?'}`, {
    hint: 'stop that process, or give this one another data folder',
  })
}

async function release(path: string, mine: string): Promise<void> {
  if ((await readHolder(path)) === mine) await fs.unlink(path).catch(ignoreMissing)
}

/** `<host> <boot id> <pid> <start time in ticks since boot>` */
async function describeProcess(pid: number): Promise<string> {
  const boot = (await readOrEmpty('/proc/sys/kernel/random/boot_id')).trim() || 'no-boot-id'
  return `${hostname()} ${boot} ${pid} ${await startTicks(pid)}`
}

/** Field 22 of /proc/<pid>/stat; `?` where there is no /proc or no such process. */
async function startTicks(pid: number): Promise<string> {
  const stat = await readOrEmpty(`/proc/${pid}/stat`)
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields[19] ?? '?'
}

async function isAlive(holder: string): Promise<boolean> {
  const [host, boot, pid, ticks, ...more] = holder.split(' ')
  // Linked only when it was written, so a running holder's is whole: this one lost its bytes in a power cut.
  if (host === undefined || ticks === undefined || more.length > 0 || holder.includes('\0')) return false
  if (host !== hostname()) return true
  const now = (await describeProcess(Number(pid))).split(' ')
  if (now[1] !== boot) return false
  if (!processExists(Number(pid))) return false
  return now[3] === '?' || ticks === '?' || now[3] === ticks
}

function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return errnoOf(error) === 'EPERM'
  }
}

async function readOrEmpty(path: string): Promise<string> {
  try {
    return await fs.readFile(path, 'utf8')
  } catch (error) {
    if (errnoOf(error) !== undefined) return ''
    throw error
  }
}

function ignoreMissing(error: unknown): void {
  if (errnoOf(error) !== 'ENOENT') throw error
}
