/**
 * The agent as a service: starts it with its admin server, reloads by putting a new agent in the place of the old one
 * (it has no state, so nothing is carried over), and ends `--once` with its exit code.
 */
import { AppError } from '../shared/errors.ts'
import type { DaemonService } from '../shared/daemon.ts'
import { serveHttp, type RunningServer } from '../shared/http-server.ts'
import type { System } from '../shared/system.ts'
import type { Zstd } from '../shared/zstd.ts'
import { adminHandler } from './admin.ts'
import { Agent, type OnceResult } from './agent.ts'
import type { AgentConfig } from './config.ts'
import { chokidarWatcher } from './directory-watcher.ts'

export interface ServiceConfig {
  readonly agent: AgentConfig
  readonly admin: { readonly host: string; readonly port: number } | undefined
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error'
  readonly tls: { readonly ca?: string; readonly cert?: string; readonly key?: string }
  readonly token: () => string | undefined
  readonly ownNames: readonly string[]
  /** All settings as text: whether a reload changes anything. */
  readonly text: string
}

export interface ServiceDeps {
  readonly system: System
  readonly zstd: Zstd
  readonly config: ServiceConfig
  /** Throws INVALID_CONFIG. */
  readonly readConfig: () => ServiceConfig
  /** Processors that this process may use. */
  readonly cores: number
  readonly systemFor: (config: ServiceConfig, system: System) => System
  readonly fatal: (error: unknown) => void
}

/** How long a reload waits for rotated files, which only the old agent's descriptors reach. */
const RELOAD_WAIT_MS = 60_000
const RELOAD_POLL_MS = 100

interface Life {
  readonly agent: Agent
  readonly config: ServiceConfig
  readonly ended: Promise<OnceResult>
}

export async function startAgentService(deps: ServiceDeps): Promise<DaemonService> {
  let life = begin(deps, deps.config, deps.system)
  const admin = await listen(deps, () => ({ agent: life.agent, config: life.config.agent }))
  const done = deps.config.agent.isOnce ? life.ended.then((result) => reportOnce(deps.system, result)) : undefined
  return {
    ...(done === undefined ? {} : { done }),
    reload: async () => {
      const next = deps.readConfig()
      if (next.text === life.config.text && JSON.stringify(next.tls) === JSON.stringify(life.config.tls)) return
      if (JSON.stringify(next.admin) !== JSON.stringify(life.config.admin)) {
        deps.system.log.warn('a new admin address takes a restart', { admin: deps.config.admin })
      }
      await waitForRotated(deps.system, life.agent)
      life.agent.stop()
      await life.ended
      life = begin(deps, next, deps.systemFor(next, deps.system))
    },
    close: async () => {
      life.agent.stop()
      await life.ended
      await admin?.close({ drainMs: 500 })
    },
  }
}

function begin(deps: ServiceDeps, config: ServiceConfig, system: System): Life {
  const agent = new Agent({
    system,
    zstd: deps.zstd,
    config: config.agent,
    token: config.token,
    cores: deps.cores,
    createWatcher: (onEvent) => chokidarWatcher(system, onEvent),
  })
  const ended = agent.run()
  ended.catch(deps.fatal)
  return { agent, config, ended }
}

/** The one admin server of the process; it speaks for whichever agent runs. */
async function listen(deps: ServiceDeps, current: () => { agent: Agent; config: AgentConfig }): Promise<RunningServer | undefined> {
  const { admin, ownNames } = deps.config
  if (admin === undefined || deps.config.agent.isOnce) return undefined
  const handler = adminHandler({ system: deps.system, current, ownNames: [...ownNames, admin.host] })
  const server = await serveHttp(handler, { ...admin, clock: deps.system.clock, log: deps.system.log, onBug: deps.fatal, maxConnections: 64 })
  deps.system.log.info('admin server listens', { url: server.url })
  return server
}

/** Throws UNAVAILABLE: a reload must not drop the only way to a deleted file's bytes. */
async function waitForRotated(system: System, agent: Agent): Promise<void> {
  const deadlineMs = system.clock.monotonicMs() + RELOAD_WAIT_MS
  while (agent.heldForRotation > 0) {
    if (system.clock.monotonicMs() >= deadlineMs) {
      throw new AppError('UNAVAILABLE', `${agent.heldForRotation} rotated files are not shipped yet`, { hint: 'reload again once the collector has taken them' })
    }
    await system.clock.sleep(RELOAD_POLL_MS)
  }
}

function reportOnce({ log }: System, { problems }: OnceResult): number {
  for (const problem of problems) log.error('not shipped', { problem })
  return problems.length === 0 ? 0 : 1
}
