/**
 * What a workload is. It prepares its inputs once, then its contestants run in turn, round after round, so that a noisy
 * machine hits all of them. Figures are numbers by name, with the unit in the name; a ratio sets two figures of one
 * round against each other, which is what can be compared between machines.
 */

export type Figures = Readonly<Record<string, number>>

export interface Contestant {
  readonly name: string
  /** The run goes on without it when it fails. */
  readonly isPeer?: true
  run(): Promise<Figures>
}

export interface FigureOf {
  readonly contestant: string
  readonly figure: string
}

export interface RatioSpec {
  readonly name: string
  readonly of: FigureOf
  readonly to: FigureOf
  readonly better: 'higher' | 'lower'
}

export interface Prepared {
  readonly contestants: readonly Contestant[]
  readonly ratios: readonly RatioSpec[]
  /** What a reader has to know: versions, what was left out and why. */
  readonly notes: readonly string[]
  /** Once, before the first round; its figures are thrown away. */
  warmUp?(): Promise<void>
  close(): Promise<void>
}

export interface BenchOptions {
  /** Source bytes of W1, W2, W9, and of W8. */
  readonly bytes: number
  readonly queryBytes: number
  /** Sealed bytes of W6. */
  readonly sealedBytes: number
  /** How long load lasts in W3, W4, W5. */
  readonly seconds: number
  /** How long the collector is away in W7. */
  readonly awaySeconds: number
  readonly linesPerSecond: number
  readonly idleFiles: number
  readonly agents: number
  readonly loghub: string
  readonly hasPeers: boolean
  /** File with further peers. */
  readonly peersFile: string | undefined
  /** Folder that Debian's syslog-ng-core was unpacked to; '/' where it is installed. */
  readonly syslogNgRoot: string
  /** Passed on to every collector and every agent. */
  readonly collectorArgs: readonly string[]
  readonly agentArgs: readonly string[]
}

export interface Workload {
  readonly title: string
  /** Runs when `--runs` says nothing. */
  readonly runs: number
  prepare(options: BenchOptions): Promise<Prepared>
}
