/** An agent under measurement, in the environment of its unit (packaging/systemd). */
import { ownProgram, Program } from './programs.ts'

/** As `tailrace-agent.service` sets it; test/packaging.test.ts holds the two together. */
export const AGENT_ENVIRONMENT: Readonly<Record<string, string>> = { MALLOC_ARENA_MAX: '1' }

export interface AgentOptions {
  readonly collectorUrl: string
  readonly topic: string
  /** Default `warn`; `error` where the collector goes away on purpose. */
  readonly logLevel?: 'warn' | 'error'
  /** undefined = wherever the kernel wants. */
  readonly core?: number
  /** Flags and files. */
  readonly args: readonly string[]
}

export function startAgent({ collectorUrl, topic, logLevel = 'warn', core, args }: AgentOptions): Program {
  return new Program({
    command: [...ownProgram('tailrace-agent'), 'run', '--collector', collectorUrl, '--topic', topic, '--admin', 'off', '--log-level', logLevel, ...args],
    core,
    env: AGENT_ENVIRONMENT,
  })
}

/** Ships a file to its end; fails with what the agent said. */
export async function shipWhole(collectorUrl: string, path: string, args: readonly string[]): Promise<void> {
  const agent = startAgent({ collectorUrl, topic: 'bench', args: ['--once', ...args, path] })
  if ((await agent.ended()) !== 0) throw new Error(`the agent ended with ${agent.child.exitCode}: ${agent.said}`)
}
