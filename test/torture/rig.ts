/** What every torture has: a working folder, programs, a ledger, a proxy before a collector, agents, and how to end it all. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { seededRandom } from '../access-log.ts'
import { ContentFactory } from './content.ts'
import { FaultyProxy, type ProxyOptions } from './faulty-proxy.ts'
import { Ledger } from './ledger.ts'
import { copyPrograms, Daemon, freePort, waitUntil, type Programs } from './machine.ts'

export interface RigOptions {
  readonly seed: number
  readonly chooseFault?: ProxyOptions['choose']
  /** Below the working folder by default. */
  readonly dataFolder?: (work: string) => string
  readonly collectorArgs?: readonly string[]
  readonly env?: (work: string) => Readonly<Record<string, string>>
  readonly hasExport?: boolean
}

export const TOPIC = 'torture'
const START_MS = 60_000

export class Rig {
  readonly work: string
  readonly logs: string
  readonly store: string
  readonly data: string
  readonly seed: number
  readonly ledger = new Ledger()
  readonly contents: ContentFactory
  readonly random: () => number
  readonly programs: Programs
  readonly proxy: FaultyProxy
  readonly collector: Daemon
  readonly agents: Daemon[] = []
  readonly port: number
  /** Arguments of the collector's next start. */
  collectorArgs: readonly string[]
  /** Undone when the harness itself is ended: mounts. */
  readonly atExit: (() => void)[] = []
  private isClosed = false
  private readonly env: Readonly<Record<string, string>>
  private readonly killAll = (): void => {
    for (const daemon of [this.collector, ...this.agents]) daemon.killNow()
    for (const undo of this.atExit) undo()
  }

  private constructor(options: RigOptions, port: number) {
    this.seed = options.seed
    this.port = port
    this.work = mkdtempSync(join(tmpdir(), 'tailrace-torture-'))
    this.logs = join(this.work, 'logs')
    this.store = join(this.work, 'store')
    this.data = options.dataFolder?.(this.work) ?? join(this.work, 'data')
    this.contents = new ContentFactory(options.seed)
    this.random = seededRandom(options.seed)
    this.programs = copyPrograms(this.work)
    this.env = options.env?.(this.work) ?? {}
    this.collectorArgs = [...(options.hasExport === false ? [] : ['--export-to', `file://${this.store}`]), ...(options.collectorArgs ?? [])]
    this.proxy = new FaultyProxy({ upstreamPort: port, choose: options.chooseFault ?? (() => undefined), random: this.random })
    this.collector = new Daemon({
      name: 'collector',
      program: this.programs.pathOf('tailrace-collector'),
      args: () => ['run', '--data', this.data, '--listen', `127.0.0.1:${port}`, ...this.collectorArgs],
      folder: join(this.work, 'home-collector'),
      logFile: join(this.work, 'collector.log'),
      env: this.env,
      ledger: this.ledger,
    })
    process.once('exit', this.killAll)
  }

  static async open(options: RigOptions): Promise<Rig> {
    const rig = new Rig(options, await freePort())
    await rig.proxy.listen()
    return rig
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  addAgent(name: string, globs: readonly string[], args: readonly string[] = []): Daemon {
    const agent = new Daemon({
      name,
      program: this.programs.pathOf('tailrace-agent'),
      args: () => ['run', '--collector', `http://127.0.0.1:${this.proxy.port}`, '--topic', TOPIC, '--agent-id', name, '--admin', 'off', ...args, ...globs],
      folder: join(this.work, `home-${name}`),
      logFile: join(this.work, `${name}.log`),
      env: this.env,
      ledger: this.ledger,
    })
    this.agents.push(agent)
    return agent
  }

  /** Starts it and waits until it talks to the collector: what was rotated before it ever ran is nobody's promise. */
  async startAgent(agent: Daemon): Promise<void> {
    const { requests } = this.proxy
    agent.start()
    if (!(await waitUntil(() => this.proxy.requests > requests, START_MS))) throw new Error(`${agent.name} does not start: ${agent.logLines().last.join(' ')}`)
  }

  async isReady(): Promise<boolean> {
    return (await fetch(`${this.url}/ready`, { signal: AbortSignal.timeout(5000) })).ok
  }

  /** Ends all processes; the folder stays when somebody has to look into it. */
  async close(options: { keepFolder: boolean }): Promise<void> {
    for (const agent of this.agents) await agent.kill('SIGKILL')
    await this.collector.kill('SIGKILL')
    if (!this.isClosed) await this.proxy.close()
    this.isClosed = true
    process.removeListener('exit', this.killAll)
    if (!options.keepFolder) rmSync(this.work, { recursive: true, force: true })
  }
}
