/**
 * Real processes under torture: started as their users start them, killed and stopped at will, restarted as a service
 * manager would when they end by themselves. The programs are copied first, so that a build meanwhile changes nothing.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, cpSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Interruption, Ledger } from './ledger.ts'

const POLL_MS = 50

export interface Programs {
  pathOf(program: string): string
}

/** Copies dist/ into the working folder, beside a link to the packages that the bundles leave outside. */
export function copyPrograms(work: string): Programs {
  const beside = new URL('./', import.meta.url)
  const dist = existsSync(new URL('tailrace-agent.js', beside)) ? beside : new URL('../../dist/', import.meta.url)
  if (!existsSync(new URL('tailrace-agent.js', dist))) throw new Error('there is no dist/: run `npm run build` first')
  const folder = join(work, 'programs')
  cpSync(dist, folder, { recursive: true })
  symlinkSync(new URL('../node_modules', dist).pathname, join(work, 'node_modules'))
  return { pathOf: (program) => join(folder, `${program}.js`) }
}

export interface DaemonOptions {
  readonly name: string
  readonly program: string
  readonly args: () => readonly string[]
  /** Its working folder, made anew after it was removed. */
  readonly folder: string
  readonly logFile: string
  readonly env?: Readonly<Record<string, string>>
  /** Interruptions are noted here under the daemon's name. */
  readonly ledger?: Ledger
}

export class Daemon {
  readonly name: string
  kills = 0
  /** Times that it ended without being told to. */
  selfEnds = 0
  private readonly options: DaemonOptions
  private child: ChildProcess | undefined
  private isWanted = false
  private isStopped = false
  private interruption: Interruption | undefined

  constructor(options: DaemonOptions) {
    this.options = options
    this.name = options.name
  }

  get isRunning(): boolean {
    return this.child !== undefined && this.child.exitCode === null && this.child.signalCode === null
  }

  start(): void {
    if (this.isRunning) return
    this.isWanted = true
    const { program, args, folder, logFile, env } = this.options
    mkdirSync(folder, { recursive: true })
    const log = openSync(logFile, 'a')
    const child = spawn(process.execPath, [program, ...args()], {
      cwd: folder,
      stdio: ['ignore', log, log],
      env: { ...process.env, NO_COLOR: '1', HOME: folder, TMPDIR: folder, ...env },
    })
    closeSync(log)
    this.child = child
    child.once('exit', () => {
      if (this.child !== child) return
      this.interrupted()
      if (!this.isWanted) return
      this.selfEnds += 1
      setTimeout(() => {
        if (this.isWanted) this.start()
      }, 300)
    })
    this.resumed()
  }

  async kill(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<number | null> {
    this.isWanted = false
    const { child } = this
    if (child === undefined || !this.isRunning) return child?.exitCode ?? null
    if (signal === 'SIGKILL') this.kills += 1
    this.interrupted()
    const exited = once(child, 'exit')
    child.kill(signal)
    if (this.isStopped) child.kill('SIGCONT')
    this.isStopped = false
    const hard = setTimeout(() => child.kill('SIGKILL'), 30_000)
    await exited
    clearTimeout(hard)
    return child.exitCode
  }

  /** For the end of the harness itself, when nothing can be waited for. */
  killNow(): void {
    this.isWanted = false
    if (this.isRunning) this.child?.kill('SIGKILL')
  }

  pause(): void {
    if (!this.isRunning || this.isStopped) return
    this.isStopped = true
    this.interrupted()
    this.child?.kill('SIGSTOP')
  }

  proceed(): void {
    if (!this.isStopped) return
    this.isStopped = false
    this.child?.kill('SIGCONT')
    this.resumed()
  }

  /** Everything the daemon has on disk. */
  removeFolder(): void {
    rmSync(this.options.folder, { recursive: true, force: true })
  }

  /** Everything that it wrote to its log. */
  logText(): string {
    return existsSync(this.options.logFile) ? readFileSync(this.options.logFile, 'utf8') : ''
  }

  /** Lines of its log that name a bug, and the last ones. */
  logLines(): { bugs: readonly string[]; last: readonly string[] } {
    const lines = this.logText().split('\n').filter((line) => line !== '')
    return { bugs: lines.filter((line) => /\bBUG\b/.test(line)), last: lines.slice(-5) }
  }

  private interrupted(): void {
    this.interruption ??= this.options.ledger?.interrupt(this.name)
  }

  private resumed(): void {
    if (this.interruption !== undefined) this.interruption.toMs = performance.now()
    this.interruption = undefined
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Polls; answers whether the condition held before the deadline. */
export async function waitUntil(condition: () => Promise<boolean> | boolean, deadlineMs: number): Promise<boolean> {
  const end = performance.now() + deadlineMs
  while (performance.now() < end) {
    try {
      if (await condition()) return true
    } catch (error) {
      if (error instanceof TypeError && !/fetch failed|terminated/.test(error.message)) throw error
    }
    await pause(POLL_MS)
  }
  return false
}

export interface Output {
  readonly code: number | null
  readonly stdout: Buffer
  readonly stderr: string
}

/** Runs a program to its end. */
export async function runProgram(path: string, args: readonly string[], timeoutMs = 300_000): Promise<Output> {
  const child = spawn(process.execPath, [path, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1' }, timeout: timeoutMs, killSignal: 'SIGKILL' })
  const stdout: Buffer[] = []
  const stderr: Buffer[] = []
  child.stdout.on('data', (piece: Buffer) => stdout.push(piece))
  child.stderr.on('data', (piece: Buffer) => stderr.push(piece))
  await once(child, 'close')
  return { code: child.exitCode, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString('utf8') }
}
