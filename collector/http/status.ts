/**
 * How the collector is: `/v1/status` for people, `/metrics` for Prometheus, `/health` (the process answers) and `/ready`
 * (it takes lines). The last two are for probes and need no identity, so they tell nothing but yes or no and a code.
 */
import { errorResponse, jsonResponse, textResponse } from '../../shared/http-body.ts'
import type { ServerResponse } from '../../shared/http-handler.ts'
import type { Gauge, System } from '../../shared/system.ts'
import { paths, type CollectorStatus } from '../../shared/wire.ts'
import { AppError } from '../../shared/errors.ts'
import type { TopicLog } from '../storage/topic-log.ts'
import type { AgentRegistry } from './agent-registry.ts'
import type { MemoryBudget } from './memory-budget.ts'
import type { Route } from './router.ts'

export interface StatusDependencies {
  readonly system: Pick<System, 'clock' | 'fs' | 'metrics'>
  readonly log: TopicLog
  readonly agents: AgentRegistry
  readonly budget: MemoryBudget
  readonly version: string
  readonly dataDirectory: string
  readonly startedMs: number
  /** URL of the export store, without secrets. */
  readonly exportTo: string | undefined
  readonly alarms: () => CollectorStatus['alarms']
  /** Someone looked at the wall clock after a step: retention by age goes on. */
  readonly confirmClock: () => void
  /** Why no lines are taken, or undefined. */
  readonly notReadyBecause: () => AppError | undefined
}

/** Agents told about; beyond, a page is for machines, and those read /metrics. */
const AGENTS_SHOWN_MAX = 1000
const prometheusType = 'text/plain; version=0.0.4; charset=utf-8'

export function createStatusRoutes(dependencies: StatusDependencies): readonly Route[] {
  const { metrics } = dependencies.system
  const gauges = {
    budget: metrics.gauge('tailrace_collector_request_bytes', 'Bytes of requests held in memory'),
    free: metrics.gauge('tailrace_collector_disk_free_bytes', 'Free bytes on the disk of the data folder'),
    agents: metrics.gauge('tailrace_collector_agents', 'Agents heard since the start'),
    ready: metrics.gauge('tailrace_collector_ready', '1 while lines are taken'),
  }
  return [
    { method: 'GET', pattern: paths.status, role: 'read', handler: async () => jsonResponse(await status(dependencies)) },
    {
      method: 'POST',
      pattern: paths.confirmClock,
      role: 'admin',
      handler: () => {
        dependencies.confirmClock()
        return Promise.resolve(jsonResponse({ confirmed: true }))
      },
    },
    { method: 'GET', pattern: paths.metrics, role: 'read', handler: () => renderMetrics(dependencies, gauges) },
    { method: 'GET', pattern: paths.health, role: 'public', handler: () => Promise.resolve(textResponse('ok\n')) },
    { method: 'GET', pattern: paths.ready, role: 'public', handler: () => Promise.resolve(ready(dependencies)) },
  ]
}

async function status(dependencies: StatusDependencies): Promise<CollectorStatus> {
  const { system, log, agents } = dependencies
  const openStreams = new Map<string, number>()
  for (const { source, isOpen } of log.streams.list()) {
    if (isOpen) openStreams.set(source.agentId, (openStreams.get(source.agentId) ?? 0) + 1)
  }
  return {
    version: dependencies.version,
    clusterId: log.clusterId,
    logEpoch: log.logEpoch,
    startedMs: dependencies.startedMs,
    nowMs: system.clock.nowMs(),
    ready: dependencies.notReadyBecause() === undefined,
    topics: log.topics().length,
    streams: log.streams.size,
    freeBytes: await system.fs.freeBytes(dependencies.dataDirectory),
    exportTo: dependencies.exportTo ?? null,
    alarms: dependencies.alarms(),
    agents: agents
      .list()
      .slice(-AGENTS_SHOWN_MAX)
      .map((agent) => ({ ...agent, openStreams: openStreams.get(agent.agentId) ?? 0 })),
  }
}

interface StatusGauges {
  readonly budget: Gauge
  readonly free: Gauge
  readonly agents: Gauge
  readonly ready: Gauge
}

async function renderMetrics({ system, agents, budget, dataDirectory, notReadyBecause }: StatusDependencies, gauges: StatusGauges): Promise<ServerResponse> {
  gauges.budget.set(budget.bytes)
  gauges.free.set(await system.fs.freeBytes(dataDirectory))
  gauges.agents.set(agents.list().length)
  gauges.ready.set(notReadyBecause() === undefined ? 1 : 0)
  return textResponse(await system.metrics.render(), { contentType: prometheusType })
}

function ready({ notReadyBecause }: StatusDependencies): ServerResponse {
  const reason = notReadyBecause()
  if (reason === undefined) return textResponse('ready\n')
  return { ...errorResponse(new AppError(reason.code, 'no lines are taken; the log and /v1/status say why', { retryable: reason.retryable })), status: 503 }
}
