/**
 * The collector's whole API as one handler: every route, with identity, limits and metrics around it. No sockets, so
 * tests ask it directly; http-server.ts puts it on a port.
 */
import { toAppError, type AppError } from '../../shared/errors.ts'
import type { Handler } from '../../shared/http-handler.ts'
import type { System } from '../../shared/system.ts'
import type { CollectorStatus } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { ReadableLog, TopicLog } from '../storage/topic-log.ts'
import { AgentRegistry } from './agent-registry.ts'
import { createAuthenticator, type AuthOptions } from './auth.ts'
import { createConversationRoutes } from './conversation.ts'
import { IdempotencyWindow } from './idempotency.ts'
import { createIngestRoutes } from './ingest.ts'
import { createLinesRoutes } from './lines.ts'
import { createListingsRoutes, type ExportView } from './listings.ts'
import { MemoryBudget } from './memory-budget.ts'
import { createRouter, type Route } from './router.ts'
import { createSetBackRoutes, type SetBackBook } from './set-back.ts'
import { createStatusRoutes } from './status.ts'
import { createStreamHashesRoutes } from './stream-hashes.ts'
import { createTopicGate } from './topic-gate.ts'
import { createTopicsRoutes } from './topics.ts'

export interface CollectorHandlerOptions {
  readonly system: System
  readonly log: TopicLog
  /** The same with what can be read back from the export. Default: the log alone. */
  readonly readable?: ReadableLog
  readonly zstd: Zstd
  readonly auth: AuthOptions
  readonly isKnownHost: (host: string | undefined) => boolean
  readonly allowsNewTopics: boolean
  readonly memoryBytes: number
  readonly version: string
  readonly dataDirectory: string
  readonly exports: ExportView | undefined
  readonly exportTo: string | undefined
  readonly alarms: () => CollectorStatus['alarms']
  /** Someone looked at the wall clock after a step: retention by age goes on. */
  readonly confirmClock: () => void
  /** Why no lines are taken, or undefined. */
  readonly closedBecause: () => AppError | undefined
  /** What agents know to be lost by a set-back. */
  readonly setBack: SetBackBook
  /** Fetch, query and tail. */
  readonly readRoutes: readonly Route[]
}

const INSTANCE_BYTES = 8

export function createCollectorHandler(options: CollectorHandlerOptions): Handler {
  const { system, log, zstd } = options
  const agents = new AgentRegistry(system)
  const instance = system.random.bytes(INSTANCE_BYTES).toString('hex')
  const budget = new MemoryBudget(options.memoryBytes)
  const gate = createTopicGate({ log, allowsNewTopics: options.allowsNewTopics, closedBecause: options.closedBecause })
  const window = new IdempotencyWindow({ system, log, zstd })
  const alarms = (): CollectorStatus['alarms'] => [...options.alarms(), ...agents.alarms(), ...options.setBack.alarms()]
  const routes = [
    ...createIngestRoutes({ system, log, zstd, budget, gate, agents, instance }),
    ...createConversationRoutes({ log, agents, gate, instance }),
    ...createSetBackRoutes(options.setBack),
    ...createStreamHashesRoutes({ log, zstd }),
    ...createLinesRoutes({ system, log, zstd, budget, gate, window }),
    ...createTopicsRoutes({ system, log, readable: options.readable ?? log, window }),
    ...createListingsRoutes({ log, exports: options.exports }),
    ...createStatusRoutes({
      system,
      log,
      agents,
      budget,
      version: options.version,
      dataDirectory: options.dataDirectory,
      startedMs: system.clock.nowMs(),
      exportTo: options.exportTo,
      alarms,
      confirmClock: options.confirmClock,
      notReadyBecause: options.closedBecause,
    }),
    ...options.readRoutes,
  ]
  const router = createRouter({ routes, authenticate: createAuthenticator(options.auth), isKnownHost: options.isKnownHost })
  return counted(router, system)
}

function counted(handler: Handler, { metrics, clock }: Pick<System, 'metrics' | 'clock'>): Handler {
  const requests = metrics.counter('tailrace_collector_http_requests_total', 'Requests by status or error code', ['status'])
  const seconds = metrics.histogram('tailrace_collector_http_seconds', 'Time until the answer began', [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10])
  return async (request) => {
    const startMs = clock.monotonicMs()
    try {
      const response = await handler(request)
      requests.add(1, { status: String(response.status) })
      return response
    } catch (error) {
      requests.add(1, { status: toAppError(error).code })
      throw error
    } finally {
      seconds.observe((clock.monotonicMs() - startMs) / 1000)
    }
  }
}
