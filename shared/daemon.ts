/**
 * The life of a process around a service: signals, service manager, last words. SIGTERM and SIGINT drain with a
 * deadline (a second one ends at once), SIGHUP reloads, a bug or a broken disk ends with 1 so that the service manager
 * starts us again: recovery is an ordinary path.
 *
 * systemd is told by the `systemd-notify` program (NotifyAccess=all), because Node can't send to the datagram socket
 * itself. Outside systemd nothing is spawned.
 */
import { spawn } from 'node:child_process'
import { AppError, BugError, errnoOf } from './errors.ts'
import type { System } from './system.ts'

export interface DaemonService {
  /** Reads certificates, tokens and the like anew. A rejection is logged, and the old ones stay. */
  reload?(): Promise<void>
  /** Ends in order; nothing that was acknowledged may depend on it. */
  close(): Promise<void>
  /** Resolves when the service has ended by itself, with the exit code. */
  readonly done?: Promise<number>
}

export interface DaemonOptions {
  readonly system: Pick<System, 'clock' | 'log'>
  /** `fatal` ends the process with 1 as soon as possible, without draining: what is on disk must be looked at anew. */
  readonly start: (fatal: (error: unknown) => void) => Promise<DaemonService>
  /** After this the process ends with 1, drained or not. */
  readonly drainMs: number
}

type End = { readonly kind: 'signal'; readonly name: string } | { readonly kind: 'done'; readonly code: number } | { readonly kind: 'fatal' }

/** Resolves with the exit code; the caller exits with it at once. */
export async function runDaemon({ system, start, drainMs }: DaemonOptions): Promise<number> {
  const life: Life = { service: undefined }
  const end = await new Promise<End>((resolve) => {
    const fatal = (error: unknown): void => {
      system.log.error(isBug(error) ? 'BUG' : 'fatal', { error })
      resolve({ kind: 'fatal' })
    }
    watchProcess({ fatal, onSignal: (name) => resolve({ kind: 'signal', name }) })
    const run = async (): Promise<void> => {
      try {
        const code = await live(life, { system, start: () => start(fatal) })
        if (code !== undefined) resolve({ kind: 'done', code })
      } catch (error) {
        explainStart(error, fatal)
      }
    }
    void run()
  })
  if (end.kind === 'fatal') return 1
  // A signal during the start: there is nothing to drain, and what was begun is recovered as after a crash.
  if (life.service === undefined) return 0
  return stop(life.service, { system, drainMs, end })
}

interface Life {
  service: DaemonService | undefined
}

/** The exit code of a service that ends by itself; undefined for one that ends by signal. */
async function live(life: Life, { system, start }: { system: Pick<System, 'clock' | 'log'>; start: () => Promise<DaemonService> }): Promise<number | undefined> {
  let isReloadDue = false
  // Listened to before the start, which may be a long recovery: an unheard SIGHUP ends a process.
  process.on('SIGHUP', () => {
    if (life.service === undefined) isReloadDue = true
    else void reload(life.service, system)
  })
  const service = await start()
  life.service = service
  if (isReloadDue) void reload(service, system)
  connectManager(system).ready()
  return service.done
}

function isBug(error: unknown): boolean {
  return error instanceof BugError || (!(error instanceof AppError) && errnoOf(error) === undefined)
}

/** A start that fails is mostly a mistake of the operator: words and a hint, not a stack. */
function explainStart(error: unknown, fatal: (error: unknown) => void): void {
  const errno = errnoOf(error)
  const isOfDisk = !(error instanceof AppError) || error.code === 'STORAGE_ERROR'
  if (isOfDisk && (errno === 'EACCES' || errno === 'EPERM' || errno === 'EROFS')) {
    const message = error instanceof Error ? error.message : String(error)
    fatal(new AppError('NOT_PERMITTED', message, { cause: error, hint: 'check the owner and mode of the folder, and as whom this runs' }))
  } else {
    fatal(error)
  }
}

interface ProcessEvents {
  readonly fatal: (error: unknown) => void
  readonly onSignal: (name: string) => void
}

function watchProcess({ fatal, onSignal }: ProcessEvents): void {
  let signals = 0
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.on(name, () => {
      signals += 1
      if (signals > 1) process.exit(1)
      onSignal(name)
    })
  }
  process.on('uncaughtException', fatal)
  process.on('unhandledRejection', fatal)
  for (const stream of [process.stdout, process.stderr]) {
    // Whoever read our log has gone; that is no reason to stop shipping.
    stream.on('error', (error) => {
      if (errnoOf(error) !== 'EPIPE') fatal(error)
    })
  }
}

async function reload(service: DaemonService, { log }: Pick<System, 'log'>): Promise<void> {
  try {
    await service.reload?.()
    log.info('reloaded')
  } catch (error) {
    log.error('reload failed, the old settings stay', { error })
  }
}

async function stop(service: DaemonService, { system, drainMs, end }: { system: Pick<System, 'clock' | 'log'>; drainMs: number; end: End }): Promise<number> {
  const { clock, log } = system
  if (end.kind === 'signal') log.info('stopping', { signal: end.name })
  connectManager(system).stopping()
  const late = new AbortController()
  const deadline = clock.sleep(drainMs, late.signal).then(
    () => 'late' as const,
    () => 'cancelled' as const,
  )
  try {
    const outcome = await Promise.race([service.close(), deadline])
    if (outcome === 'late') {
      log.warn('stopped before everything had ended', { drainMs })
      return 1
    }
  } catch (error) {
    log.error('stopping failed', { error })
    return 1
  } finally {
    late.abort()
  }
  log.info('stopped')
  return end.kind === 'done' ? end.code : 0
}

interface Manager {
  ready(): void
  stopping(): void
}

/** systemd, where it started us; else nobody. */
function connectManager(system: Pick<System, 'clock' | 'log'>): Manager {
  const { NOTIFY_SOCKET, WATCHDOG_USEC } = process.env
  if (NOTIFY_SOCKET === undefined) return { ready: () => undefined, stopping: () => undefined }
  const notify = (state: string): void => {
    const child = spawn('systemd-notify', [state], { stdio: 'ignore' })
    child.once('error', (error) => system.log.warn('systemd-notify can not be run', { error }))
  }
  return {
    ready: () => {
      notify('READY=1')
      const watchdogMs = Number(WATCHDOG_USEC) / 1000
      if (watchdogMs > 0) void feedWatchdog(system, { everyMs: watchdogMs / 2, notify })
    },
    stopping: () => notify('STOPPING=1'),
  }
}

/** That this loop runs is the sign of life: a stuck event loop feeds nobody. Ends with the process. */
async function feedWatchdog({ clock }: Pick<System, 'clock'>, { everyMs, notify }: { everyMs: number; notify: (state: string) => void }): Promise<void> {
  for (;;) {
    await clock.sleep(everyMs)
    notify('WATCHDOG=1')
  }
}
