/**
 * Names that events told of and that nobody knows: looked at one by one, without a walk through everything, which takes
 * 0.2 s for ten thousand files. Only a plain new file is taken in here; what may be a rotated one, a link or a directory
 * is left to a sweep. One look at a time.
 */
import type { System } from '../shared/system.ts'
import { isReusedInode, type Registry } from './registry.ts'
import type { SourceFile } from './source-file.ts'
import { FILES_MAX, type FoundFile, type Watcher } from './watcher.ts'

/** More names at a time are quicker found by a sweep. */
const NAMES_MAX = 32

export interface GlancesDeps {
  readonly system: System
  readonly registry: Registry
  readonly watcher: Watcher
  readonly onAppeared: (file: SourceFile) => void
}

export class Glances {
  private readonly deps: GlancesDeps
  private readonly paths = new Set<string>()

  constructor(deps: GlancesDeps) {
    this.deps = deps
  }

  get isEmpty(): boolean {
    return this.paths.size === 0
  }

  note(path: string): void {
    this.paths.add(path)
  }

  /** Whether a sweep has to tell what some of them are. */
  async needSweep(): Promise<boolean> {
    const paths = [...this.paths]
    this.paths.clear()
    if (paths.length > NAMES_MAX) return true
    for (const path of paths) {
      const found = await this.deps.watcher.glance(path)
      if (found === undefined || found.length === 0 || !found.every((file) => this.take(file))) return true
    }
    return false
  }

  /** False for what is not simply new, or known and without a stream. */
  private take(found: FoundFile): boolean {
    const { registry, system, onAppeared } = this.deps
    const { path, stat, input } = found
    const file = registry.find(stat, input.topic)
    if (registry.atPath(path, input.topic) !== file || registry.size >= FILES_MAX) return false
    if (file === undefined) onAppeared(registry.add(found, { nowMs: system.clock.monotonicMs() }))
    else if (isReusedInode(file, stat) || file.cursor !== undefined) return false
    else registry.sees(file, stat)
    return true
  }
}
