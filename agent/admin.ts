/**
 * The agent's own HTTP answers: metrics, status, health, readiness. Nothing here changes anything. Requests whose Host
 * is a foreign name are refused, so that a web page can't read them through a rebound name.
 */
import { AppError } from '../shared/errors.ts'
import { errorResponse, jsonResponse, textResponse } from '../shared/http-body.ts'
import type { Handler, ServerRequest, ServerResponse } from '../shared/http-handler.ts'
import type { System } from '../shared/system.ts'
import { paths } from '../shared/wire.ts'
import type { Agent } from './agent.ts'
import type { AgentConfig } from './config.ts'
import { agentStatus, connection } from './status.ts'

export const statusPath = '/status'

export interface AdminDeps {
  readonly system: Pick<System, 'clock' | 'metrics'>
  /** The agent of the moment: a reload puts another in its place. */
  readonly current: () => { readonly agent: Agent; readonly config: AgentConfig }
  /** Names that the Host header may bear, beside addresses and localhost. */
  readonly ownNames: readonly string[]
}

export function adminHandler(deps: AdminDeps): Handler {
  return async (request) => {
    try {
      return await route(request, deps)
    } catch (error) {
      return errorResponse(error)
    }
  }
}

async function route(request: ServerRequest, deps: AdminDeps): Promise<ServerResponse> {
  checkHost(request.headers.get('host') ?? '', deps.ownNames)
  if (request.method !== 'GET' && request.method !== 'HEAD') throw new AppError('METHOD_NOT_ALLOWED', `${request.method} is not for this server`)
  const { agent, config } = deps.current()
  switch (request.path) {
    case paths.metrics:
      return textResponse(await deps.system.metrics.render(), { contentType: 'text/plain; version=0.0.4; charset=utf-8' })
    case statusPath:
      return jsonResponse(agentStatus(agent, config, deps.system.clock))
    case paths.health:
      return jsonResponse({ status: 'ok' })
    case paths.ready:
      return ready(agent)
    default:
      throw new AppError('NOT_FOUND', 'there are /metrics, /status, /health and /ready here')
  }
}

function ready(agent: Agent): ServerResponse {
  const { state, reason } = connection(agent)
  if (state === 'connected') return jsonResponse({ status: 'ready' })
  return jsonResponse({ status: 'not connected to the collector', connection: state, reason }, 503)
}

function checkHost(header: string, ownNames: readonly string[]): void {
  const name = header.replace(/:[0-9]+$/, '').toLowerCase()
  const isAddress = /^[0-9.]+$/.test(name) || /^\[[0-9a-f:.]+\]$/.test(name)
  if (isAddress || name === 'localhost' || ownNames.some((own) => own.toLowerCase() === name)) return
  throw new AppError('FORBIDDEN', `this server is not called ${JSON.stringify(name.slice(0, 100))}`, { hint: 'ask for it by address' })
}
