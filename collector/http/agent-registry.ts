/**
 * Who has spoken to this collector since it started: for the status page, and to notice two live agents with one id (a
 * cloned machine). Only what people look at: no decision about data is taken from it. In memory, bounded.
 */
import type { System } from '../../shared/system.ts'

export interface SeenAgent {
  readonly agentId: string
  readonly host: string
  readonly lastSeenMs: number
  /** Live sessions (processes) as far as one can tell: more than one only where two take turns, since a restart begins a new one too. */
  readonly sessions: number
}

const AGENTS_MAX = 10_000
const SESSIONS_MAX = 4
/** Two that take turns say hello at each reconnect; after so long without that, one of them is taken for gone. */
const SESSION_MS = 3_600_000

interface Session {
  readonly id: string
  readonly lastSeenMs: number
}

interface AgentState {
  host: string
  lastSeenMs: number
  /** Newest last. */
  sessions: readonly Session[]
  doubledSinceMs: number | undefined
}

export class AgentRegistry {
  private readonly system: Pick<System, 'clock' | 'log'>
  /** Least recently seen first. */
  private readonly agents = new Map<string, AgentState>()

  constructor(system: Pick<System, 'clock' | 'log'>) {
    this.system = system
  }

  /** An agent that sent a batch. */
  seen(agent: { agentId: string; host: string }): void {
    this.touch(agent)
  }

  /** An agent that said hello. A session that comes back after another one began means that both live. */
  hello(agent: { agentId: string; host: string; session: string }): void {
    const state = this.touch(agent)
    const nowMs = this.system.clock.nowMs()
    const recent = this.recentSessions(state)
    const at = recent.findIndex(({ id }) => id === agent.session)
    if (at >= 0 && at < recent.length - 1 && state.doubledSinceMs === undefined) {
      state.doubledSinceMs = nowMs
      this.system.log.warn('two agents share one id', {
        agentId: agent.agentId,
        host: agent.host,
        hint: 'a cloned machine? give each agent its own agentId',
      })
    }
    // The other one was given its own id, or stopped.
    if (recent.length <= 1) state.doubledSinceMs = undefined
    const others = recent.filter(({ id }) => id !== agent.session)
    state.sessions = [...others, { id: agent.session, lastSeenMs: nowMs }].slice(-SESSIONS_MAX)
  }

  list(): readonly SeenAgent[] {
    return [...this.agents].map(([agentId, state]) => {
      const live = this.recentSessions(state).length
      return { agentId, host: state.host, lastSeenMs: state.lastSeenMs, sessions: state.doubledSinceMs === undefined ? Math.min(1, live) : live }
    })
  }

  /** Ids that two live agents use: each would begin the other's files anew, again and again. */
  alarms(): { code: string; message: string; sinceMs: number }[] {
    return [...this.agents].flatMap(([agentId, state]) => {
      const sinceMs = state.doubledSinceMs
      if (sinceMs === undefined || this.recentSessions(state).length < 2) return []
      return [{ code: 'AGENT_ID_DOUBLED', message: `two live agents call themselves ${JSON.stringify(agentId)}, last on host ${state.host}`, sinceMs }]
    })
  }

  private recentSessions({ sessions }: AgentState): readonly Session[] {
    const nowMs = this.system.clock.nowMs()
    return sessions.filter(({ lastSeenMs }) => nowMs - lastSeenMs < SESSION_MS)
  }

  private touch({ agentId, host }: { agentId: string; host: string }): AgentState {
    const known = this.agents.get(agentId)
    const state = known ?? { host, lastSeenMs: 0, sessions: [], doubledSinceMs: undefined }
    state.host = host
    state.lastSeenMs = this.system.clock.nowMs()
    this.agents.delete(agentId)
    this.agents.set(agentId, state)
    for (const oldest of this.agents.keys()) {
      if (this.agents.size <= AGENTS_MAX) break
      this.agents.delete(oldest)
    }
    return state
  }
}
