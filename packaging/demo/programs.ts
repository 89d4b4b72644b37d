/** The real programs as children of the demo: started, shown with their output, and ended with it. */
import { spawn, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

const DEADLINE_MS = 60_000
const POLL_MS = 100
const STOP_MS = 10_000

export class Programs {
  private readonly daemons: ChildProcess[] = []
  private readonly signal: AbortSignal

  constructor(signal: AbortSignal) {
    this.signal = signal
  }

  /** Starts a daemon; what it says is shown only when it ends before the demo does. */
  start(name: string, args: readonly string[]): void {
    printCommand(name, args)
    const child = spawnProgram(name, args, ['ignore', 'ignore', 'pipe'])
    let tail = ''
    child.stderr?.setEncoding('utf8').on('data', (piece: string) => {
      tail = (tail + piece).slice(-4_000)
    })
    child.once('exit', (code) => {
      if (!this.signal.aborted && code !== 0 && code !== null) process.stdout.write(`${name} ended with ${code}:\n${tail}\n`)
    })
    this.daemons.push(child)
  }

  /** Runs a command in the open; answers its exit code, 0 when it was stopped on purpose. */
  async show(name: string, args: readonly string[], options: { stopAfterMs?: number } = {}): Promise<number> {
    printCommand(name, args)
    const child = spawnProgram(name, args, ['ignore', 'inherit', 'inherit'])
    const stop = (): void => {
      child.kill('SIGTERM')
    }
    this.signal.addEventListener('abort', stop, { once: true })
    const timer = options.stopAfterMs === undefined ? undefined : setTimeout(stop, options.stopAfterMs)
    await once(child, 'exit')
    clearTimeout(timer)
    this.signal.removeEventListener('abort', stop)
    if (options.stopAfterMs !== undefined || this.signal.aborted) return 0
    return child.exitCode ?? 1
  }

  /** SHA-256 of the first `bytes` that a command prints. */
  async hashOutput(name: string, args: readonly string[], bytes: number): Promise<string> {
    const child = spawnProgram(name, args, ['ignore', 'pipe', 'inherit'])
    const hash = createHash('sha256')
    let rest = bytes
    child.stdout?.on('data', (piece: Buffer) => {
      hash.update(piece.subarray(0, rest))
      rest -= Math.min(rest, piece.length)
    })
    await once(child, 'close')
    return hash.digest('hex')
  }

  async stopAll(): Promise<void> {
    await Promise.all(this.daemons.map(endProcess))
  }
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  const hard = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
  await exited
  clearTimeout(hard)
}

function spawnProgram(name: string, args: readonly string[], stdio: Array<'ignore' | 'pipe' | 'inherit'>): ChildProcess {
  // A group of its own: Ctrl-C reaches the demo alone, which then ends its children in order.
  return spawn(process.execPath, [new URL(`${name}.js`, import.meta.url).pathname, ...args], { stdio, detached: true })
}

function printCommand(name: string, args: readonly string[]): void {
  const shown = args.map((arg) => (/^[\w./:@=-]+$/.test(arg) ? arg : `'${arg}'`))
  process.stdout.write(`$ ${name} ${shown.join(' ')}\n`)
}

export async function waitFor(what: string, signal: AbortSignal, condition: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + DEADLINE_MS
  let last: unknown
  while (performance.now() < end) {
    if (signal.aborted) throw new Error('interrupted')
    try {
      if (await condition()) return
    } catch (error) {
      last = error
    }
    await delay(POLL_MS, signal)
  }
  throw new Error(`waited in vain until ${what}${last === undefined ? '' : `: ${last instanceof Error ? last.message : JSON.stringify(last)}`}`)
}

export function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', finish)
      resolve()
    }
    const timer = setTimeout(finish, ms)
    signal.addEventListener('abort', finish, { once: true })
  })
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no free port')
  return address.port
}
