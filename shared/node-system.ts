/** The real System. Only a `main.ts` builds one and passes it down. */
import { createLog, type LogLevel } from './node/log.ts'
import { nodeClock, nodeRandom, type NodeClockOptions } from './node/clock.ts'
import { nodeFileSystem } from './node/file-system.ts'
import { createHttpClient, type HttpClientOptions } from './node/http-client.ts'
import { promMetrics } from './node/metrics.ts'
import type { System } from './system.ts'

export interface NodeSystemOptions {
  /** Default `info`. */
  readonly logLevel?: LogLevel
  /** Field of each log line: `agent`, `collector`. */
  readonly component?: string
  readonly http?: HttpClientOptions
  readonly clock?: NodeClockOptions
}

export function createNodeSystem(options: NodeSystemOptions = {}): System {
  const clock = nodeClock(options.clock)
  return {
    clock,
    random: nodeRandom(),
    fs: nodeFileSystem(),
    http: createHttpClient(options.http),
    log: createLog({
      level: options.logLevel ?? 'info',
      isTerminal: process.stderr.isTTY,
      write: (line) => process.stderr.write(line),
      nowMs: () => clock.nowMs(),
      ...(options.component === undefined ? {} : { fields: { component: options.component } }),
    }),
    metrics: promMetrics(),
  }
}
