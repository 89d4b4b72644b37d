/**
 * Programs under measurement, each a process of its own, pinned to a core where the workload says so. Whoever starts one
 * stops it in a `finally`.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { costOf, type Cost } from './process-cost.ts'

const STDERR_CHARACTERS_MAX = 64 * 1024
const POLL_MS = 20
const DEADLINE_MS = 120_000

export interface ProgramOptions {
  readonly command: readonly string[]
  /** undefined = wherever the kernel wants. */
  readonly core?: number | undefined
  readonly env?: Readonly<Record<string, string>>
  readonly stdout?: 'ignore' | 'pipe'
}

export class Program {
  readonly child: ChildProcess
  private readonly pieces: string[] = []
  private characters = 0

  constructor(options: ProgramOptions) {
    const command = options.core === undefined ? options.command : ['taskset', '-c', String(options.core), ...options.command]
    const [file, ...args] = command
    if (file === undefined) throw new Error('an empty command line')
    // A service has no certificates of its shell's: each Node would parse them at its start.
    const { NODE_EXTRA_CA_CERTS: _, ...inherited } = process.env
    this.child = spawn(file, args, { stdio: ['ignore', options.stdout ?? 'ignore', 'pipe'], env: { ...inherited, NO_COLOR: '1', ...options.env } })
    this.child.on('error', (error) => this.pieces.push(error.message))
    this.child.stderr?.setEncoding('utf8').on('data', (piece: string) => this.keep(piece))
  }

  get pid(): number {
    return this.child.pid ?? 0
  }

  get isRunning(): boolean {
    return this.child.pid !== undefined && this.child.exitCode === null && this.child.signalCode === null
  }

  /** What it said on stderr, as far as that is kept. */
  get said(): string {
    return this.pieces.join('').trim()
  }

  cost(): Promise<Cost> {
    return costOf(this.pid)
  }

  async ended(): Promise<number | null> {
    if (this.isRunning) await once(this.child, 'exit')
    return this.child.exitCode
  }

  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (!this.isRunning) return
    const exited = once(this.child, 'exit')
    this.child.kill(signal)
    await exited
  }

  private keep(piece: string): void {
    this.characters += piece.length
    if (this.characters <= STDERR_CHARACTERS_MAX) this.pieces.push(piece)
  }
}

/** The command line of one of our own programs, which stand beside this one. */
export function ownProgram(name: string): readonly string[] {
  return [process.execPath, new URL(`${name}.js`, import.meta.url).pathname]
}

/** Runs a short command; undefined when there is no such program. */
export async function outputOf(command: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string | undefined> {
  const program = new Program({ command, stdout: 'pipe', env })
  const pieces: string[] = []
  program.child.stdout?.setEncoding('utf8').on('data', (piece: string) => pieces.push(piece))
  if (program.child.pid === undefined) return undefined
  await once(program.child, 'close')
  return `${pieces.join('')}${program.said}`
}

export async function temporaryFolder(): Promise<{ path: string; remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'tailrace-bench-'))
  return { path, remove: () => rm(path, { recursive: true, force: true }) }
}

export async function inTemporaryFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await temporaryFolder()
  try {
    return await work(folder.path)
  } finally {
    await folder.remove()
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

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Polls until `condition` gives something; fails with `what` and the last error. */
export async function until<T>(what: string, condition: () => Promise<T | undefined | false>, deadlineMs = DEADLINE_MS): Promise<T> {
  const end = performance.now() + deadlineMs
  let last: unknown
  while (performance.now() < end) {
    try {
      const value = await condition()
      if (value !== undefined && value !== false) return value
    } catch (error) {
      last = error
    }
    await sleep(POLL_MS)
  }
  throw new Error(`waited ${deadlineMs} ms in vain until ${what}`, { cause: last })
}
