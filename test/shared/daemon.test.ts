import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { afterAll, beforeAll, expect, test } from 'vitest'

/** A service whose behaviour the environment chooses; it says on stdout what it does. */
const program = `
import { createServer } from 'node:net'
import { runDaemon } from './shared/daemon.ts'
import { AppError } from './shared/errors.ts'
import { createNodeSystem } from './shared/node-system.ts'
const mode = process.env.MODE
const system = createNodeSystem()
const listening = createServer().listen(0, '127.0.0.1') // what keeps a real service's process alive
const say = (text) => process.stdout.write(text + '\\n')
process.exitCode = await runDaemon({
  system,
  drainMs: mode === 'stuck' ? 50 : 20_000,
  start: async (fatal) => {
    if (mode === 'locked') throw new AppError('LOCKED', 'held by process 7', { hint: 'stop it' })
    if (mode === 'denied') throw Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' })
    if (mode === 'bug') void Promise.resolve().then(() => { throw new TypeError('not a function') })
    if (mode === 'broken-disk') queueMicrotask(() => fatal(new AppError('STORAGE_ERROR', 'fsync failed')))
    if (mode === 'slow-start') { say('starting'); await system.clock.sleep(300) }
    say('started')
    return {
      reload: async () => { say('reloaded'); if (mode === 'bad-reload') throw new AppError('INVALID_CONFIG', 'bad file') },
      close: async () => { say('closing'); if (mode === 'stuck' || mode === 'slow') await system.clock.sleep(30_000) },
      ...(mode === 'once' ? { done: Promise.resolve(7) } : {}),
    }
  },
})
process.exit()
`

let folder: string
let bundle: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tailrace-daemon-'))
  bundle = join(folder, 'daemon.mjs')
  const root = fileURLToPath(new URL('../..', import.meta.url))
  const banner = { js: "import { createRequire as createRequireForBundle } from 'node:module'\nconst require = createRequireForBundle(import.meta.url)" }
  await build({ stdin: { contents: program, resolveDir: root, loader: 'ts' }, outfile: bundle, bundle: true, platform: 'node', format: 'esm', banner, logLevel: 'error' })
})

afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
})

interface Daemon {
  readonly child: ChildProcess
  /** Resolves when it has said this on stdout or stderr. */
  said(text: string): Promise<void>
  end(): Promise<{ code: number | null; output: string }>
}

function run(mode: string, env: Readonly<Record<string, string>> = {}): Daemon {
  const child = spawn(process.execPath, [bundle], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env, MODE: mode } })
  const exited = once(child, 'close')
  let output = ''
  const listeners = new Set<() => void>()
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (piece: Buffer) => {
      output += piece.toString()
      for (const listener of listeners) listener()
    })
  }
  return {
    child,
    said: (text) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (output.includes(text)) resolve()
        }
        listeners.add(look)
        void exited.then(() => reject(new Error(`it ended without saying ${text}: ${output}`)))
        look()
      }),
    end: async () => {
      await exited
      return { code: child.exitCode, output }
    },
  }
}

test('SIGTERM closes the service and ends with 0', async () => {
  const daemon = run('plain')
  await daemon.said('started')
  daemon.child.kill('SIGTERM')
  expect(await daemon.end()).toMatchObject({ code: 0, output: expect.stringContaining('closing') as string })
})

test('a second signal does not wait', async () => {
  const daemon = run('slow')
  await daemon.said('started')
  daemon.child.kill('SIGINT')
  await daemon.said('closing')
  daemon.child.kill('SIGINT')
  expect((await daemon.end()).code).toBe(1)
})

test('a service that does not close in time is left behind with 1', async () => {
  const daemon = run('stuck')
  await daemon.said('started')
  daemon.child.kill('SIGTERM')
  expect(await daemon.end()).toMatchObject({ code: 1, output: expect.stringContaining('stopped before everything had ended') as string })
})

test('SIGHUP reloads, and a reload that fails leaves the service running', async () => {
  const daemon = run('bad-reload')
  await daemon.said('started')
  daemon.child.kill('SIGHUP')
  await daemon.said('reload failed')
  daemon.child.kill('SIGTERM')
  expect(await daemon.end()).toMatchObject({ code: 0, output: expect.stringContaining('reloaded') as string })
})

test('a SIGHUP during a long start does not end the process, and is obeyed when the start has ended', async () => {
  const daemon = run('slow-start')
  await daemon.said('starting')
  daemon.child.kill('SIGHUP')
  await daemon.said('reloaded')
  daemon.child.kill('SIGTERM')
  expect((await daemon.end()).code).toBe(0)
})

test('a start that fails tells code and hint without a stack, and ends with 1', async () => {
  const locked = await run('locked').end()
  expect(locked.code).toBe(1)
  expect(locked.output).toContain('"code":"LOCKED","message":"held by process 7","hint":"stop it"')
  expect(locked.output).not.toContain('at ')
  const denied = await run('denied').end()
  expect([denied.code, denied.output.includes('NOT_PERMITTED')]).toEqual([1, true])
})

test('an unexpected rejection is logged as a bug with its stack and ends the process', async () => {
  const { code, output } = await run('bug').end()
  expect([code, output.includes('"event":"BUG"'), output.includes('not a function')]).toEqual([1, true, true])
})

test('a broken disk ends the process with 1 and without closing', async () => {
  const { code, output } = await run('broken-disk').end()
  expect([code, output.includes('STORAGE_ERROR'), output.includes('closing')]).toEqual([1, true, false])
})

test('a service that ends by itself gives the exit code', async () => {
  expect((await run('once').end()).code).toBe(7)
})

test('systemd hears that we are ready, alive and stopping', async () => {
  const told = join(folder, 'told')
  await writeFile(told, '')
  await writeFile(join(folder, 'systemd-notify'), `#!/bin/sh\necho "$1" >> ${told}\necho "told $1" >&2\n`)
  await chmod(join(folder, 'systemd-notify'), 0o755)
  const daemon = run('plain', { NOTIFY_SOCKET: '/run/x', WATCHDOG_USEC: '20000', PATH: `${folder}${delimiter}${process.env['PATH'] ?? ''}` })
  await daemon.said('started')
  await until(async () => (await readFile(told, 'utf8')).includes('WATCHDOG=1'))
  daemon.child.kill('SIGTERM')
  await daemon.end()
  await until(async () => (await readFile(told, 'utf8')).includes('STOPPING=1'))
  expect((await readFile(told, 'utf8')).split('\n')[0]).toBe('READY=1')
})

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let turn = 0; turn < 10_000; turn += 1) {
    if (await condition()) return
  }
  throw new Error('the condition never came true')
}
