/**
 * The agent in this process on real files: inodes, birth times, renames and truncations are the kernel's. Time is
 * virtual, the collector is in memory. What a kernel can't be asked to do on demand (use an inode again at once, have no
 * birth times, number two file systems alike) is put over its answers by `see`.
 */
import { appendFileSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Agent } from '../../agent/agent.ts'
import type { AgentConfig } from '../../agent/config.ts'
import { nodeFileSystem } from '../../shared/node/file-system.ts'
import type { FileStat, FileSystem } from '../../shared/system.ts'
import type { Zstd } from '../../shared/zstd.ts'
import { overridden } from '../overridden.ts'
import { simulate, type Simulation } from '../sim-system.ts'
import { testConfig } from './agent-rig.ts'
import { FakeCollector, type StoredStream } from './fake-collector.ts'

const STEP_MS = 100
/** Trips to the thread pool after each step of the clock, so that files are read in the time that passes. */
const TRIPS = 6
/** Kernels stamp files with a clock of 1 to 10 ms. */
const KERNEL_STEP_MS = 25

export class RotationRig {
  readonly folder = mkdtempSync(join(tmpdir(), 'tailrace-rotation-'))
  readonly collector: FakeCollector
  /** What the agent's file system says about a file instead of the kernel. */
  see: (stat: FileStat, path: string) => FileStat = (seen) => seen
  private readonly zstd: Zstd
  private readonly globs: readonly string[]
  private readonly config: Partial<AgentConfig>
  private readonly input: Partial<AgentConfig['inputs'][number]>
  private sim: Simulation
  private agent: Agent | undefined
  private ended: Promise<unknown> = Promise.resolve()

  constructor(zstd: Zstd, globs: readonly string[], options: { config?: Partial<AgentConfig>; input?: Partial<AgentConfig['inputs'][number]> } = {}) {
    this.zstd = zstd
    this.globs = globs
    this.config = options.config ?? {}
    this.input = options.input ?? {}
    this.collector = new FakeCollector(zstd)
    this.collector.nowMs = () => this.kernelMs()
    this.sim = this.machine()
  }

  private machine(): Simulation {
    return simulate({ http: this.collector, nowMs: this.kernelMs() + 1 })
  }

  /** The clock that birth times come from. */
  private kernelMs(): number {
    const probe = join(this.folder, '.clock')
    writeFileSync(probe, '')
    return Math.floor(statSync(probe).mtimeMs)
  }

  /** What is written from here on is younger, also by a kernel clock that moves in steps of some ms. */
  letKernelClockStep(): void {
    const before = this.kernelMs()
    while (this.kernelMs() < before + KERNEL_STEP_MS) continue
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  append(name: string, text: string): void {
    appendFileSync(this.path(name), text)
  }

  write(name: string, text: string | Buffer): void {
    writeFileSync(this.path(name), text)
  }

  /** As logrotate does: the copy first, then the cut. */
  copyTruncate(name: string, copy: string): void {
    copyFileSync(this.path(name), this.path(copy))
    truncateSync(this.path(name), 0)
  }

  directory(name: string): void {
    mkdirSync(this.path(name), { recursive: true })
  }

  /** A new process, with nothing but the files and the collector. */
  async start(): Promise<this> {
    this.sim = this.machine()
    const globs = this.globs.map((glob) => this.path(glob))
    this.agent = new Agent({
      system: { ...this.sim.system, fs: this.seen(nodeFileSystem()) },
      zstd: this.zstd,
      config: testConfig({ config: this.config, input: { files: globs, ...this.input } }),
      token: () => undefined,
    })
    this.ended = this.agent.run()
    await this.pass(2000)
    return this
  }

  async stop(): Promise<void> {
    this.agent?.stop()
    let hasEnded = false
    const ended = this.ended.finally(() => {
      hasEnded = true
    })
    for (let step = 0; step < 300 && !hasEnded; step += 1) await this.pass(STEP_MS)
    await ended
  }

  async close(): Promise<void> {
    await this.stop()
    rmSync(this.folder, { recursive: true, force: true })
  }

  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= STEP_MS) {
      await this.sim.clock.advance(Math.min(STEP_MS, left))
      for (let trip = 0; trip < TRIPS; trip += 1) await stat(this.folder)
    }
  }

  /** What the collector holds, one text for each stream, in the order in which they began. */
  get stored(): string[] {
    return this.streams.map(({ bytes }) => bytes.toString('latin1'))
  }

  get streams(): StoredStream[] {
    return [...this.collector.streams.values()]
  }

  get warnings(): string[] {
    return this.sim.log.events('warn')
  }

  metric(name: string): number {
    return this.sim.metrics.sum(name)
  }

  private seen(fs: FileSystem): FileSystem {
    return {
      ...fs,
      stat: async (path, options) => {
        const found = await fs.stat(path, options)
        return found === undefined ? undefined : this.see(found, path)
      },
      open: async (path, mode, permissions) => {
        const handle = await fs.open(path, mode, permissions)
        return overridden(handle, { stat: async () => this.see(await handle.stat(), path) })
      },
    }
  }
}

/** Lines that are enough to be told apart: over 1 KiB. */
export function lines(name: string, count = 40): string {
  return Array.from({ length: count }, (_, index) => `${name} line ${index} ${'x'.repeat(40)}\n`).join('')
}
