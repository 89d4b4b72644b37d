/**
 * Real processes for the end-to-end tests: the bundled programs of dist/, each started as its user starts it. Waiting
 * is on a condition with a deadline, never on a guess.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const dist = new URL('../../dist/', import.meta.url)
const DEADLINE_MS = 60_000
const POLL_MS = 25

export interface Finished {
  readonly code: number | null
  readonly stdout: Buffer
  readonly stderr: string
}

export interface Running {
  readonly child: ChildProcess
  /** Everything it printed on stderr so far. */
  log(): string
  kill(signal: NodeJS.Signals): Promise<number | null>
}

export async function temporaryFolder(): Promise<{ path: string; remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'tailrace-e2e-'))
  return { path, remove: () => rm(path, { recursive: true, force: true }) }
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

export function start(program: string, args: readonly string[]): Running {
  const child = spawn(process.execPath, [new URL(`${program}.js`, dist).pathname, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, NO_COLOR: '1' },
  })
  const pieces: string[] = []
  child.stderr?.setEncoding('utf8').on('data', (piece: string) => pieces.push(piece))
  return {
    child,
    log: () => pieces.join(''),
    kill: async (signal) => {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode
      const exited = once(child, 'exit')
      child.kill(signal)
      await exited
      return child.exitCode
    },
  }
}

/** Runs to the end; stdout is kept whole. */
export async function run(program: string, args: readonly string[], options: { timeoutMs?: number } = {}): Promise<Finished> {
  const child = spawn(process.execPath, [new URL(`${program}.js`, dist).pathname, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1' },
    timeout: options.timeoutMs ?? DEADLINE_MS,
    killSignal: 'SIGKILL',
  })
  const stdout: Buffer[] = []
  const stderr: Buffer[] = []
  child.stdout.on('data', (piece: Buffer) => stdout.push(piece))
  child.stderr.on('data', (piece: Buffer) => stderr.push(piece))
  await once(child, 'close')
  return { code: child.exitCode, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString('utf8') }
}

/** Polls until `condition` gives something; fails with `what` and the last error after a minute. */
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
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  throw new Error(`waited ${deadlineMs} ms in vain until ${what}`, { cause: last })
}

export async function getJson(url: string): Promise<unknown> {
  const answer = await fetch(url)
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}: ${await answer.text()}`)
  return answer.json()
}

export interface Collector extends Running {
  readonly url: string
  readonly port: number
}

export async function startCollector(options: { data: string; port?: number; args?: readonly string[] }): Promise<Collector> {
  const port = options.port ?? (await freePort())
  const url = `http://127.0.0.1:${port}`
  const running = start('tailrace-collector', ['run', '--data', options.data, '--listen', `127.0.0.1:${port}`, ...(options.args ?? [])])
  await until(`the collector is ready; it said: ${running.log()}`, async () => {
    if (running.child.exitCode !== null) throw new Error(`collector ended with ${running.child.exitCode}: ${running.log()}`)
    return (await fetch(`${url}/ready`)).ok
  })
  return { ...running, url, port }
}

export async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer)
  return hash.digest('hex')
}

export function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
