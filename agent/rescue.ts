/**
 * The search among siblings, after a file was lost or truncated and at the start: rotation leaves files beside the ones
 * that the globs name. A sibling that carries on a known stream is read to its end; an unknown one that was born after
 * the last known stream of its base path ships under that path. What was compressed meanwhile is gone (E1).
 */
import type { System } from '../shared/system.ts'
import { isSiblingPath } from './identity.ts'
import type { KnownStream } from './known-stream.ts'
import { parentOf } from './globs.ts'
import type { Registry } from './registry.ts'
import type { SourceFile } from './source-file.ts'
import type { FoundFile, Watcher } from './watcher.ts'
import type { InputConfig } from './config.ts'

export interface RescueDeps {
  readonly system: System
  readonly registry: Registry
  readonly watcher: Watcher
  readonly inputs: readonly InputConfig[]
  /** Streams that the collector knows and no file ships into. */
  readonly unclaimed: () => Iterable<KnownStream>
}

/** A path that rotation may have taken a file away from, and when the last stream of it that we know was born. */
interface Base {
  readonly path: string
  readonly lastBirthtimeNs: bigint
}

/**
 * Follows renamed files to their new names, and adds guests to the registry for what may carry on a stream. `lost` are
 * files whose name is gone or whose content was cut.
 */
export async function rescue(deps: RescueDeps, options: { directories: ReadonlySet<string>; lost: readonly SourceFile[] }): Promise<void> {
  for (const directory of options.directories) {
    for (const input of deps.inputs) {
      const unclaimed = [...deps.unclaimed()].filter((stream) => stream.isOpen && stream.topic === input.topic && parentOf(stream.path) === directory)
      const lost = options.lost.filter((file) => file.input === input && parentOf(file.path) === directory)
      if (unclaimed.length === 0 && lost.length === 0) continue
      const siblings = await deps.watcher.siblingsIn(directory, input)
      for (const sibling of siblings) takeIn(deps, sibling, { unclaimed, lost })
    }
  }
}

function takeIn(
  deps: RescueDeps,
  sibling: FoundFile,
  known: { unclaimed: readonly KnownStream[]; lost: readonly SourceFile[] },
): void {
  const { registry } = deps
  const { input, stat, path } = sibling
  const file = registry.find(stat, input.topic)
  if (file !== undefined) {
    // Renamed, out of the globs: it is read on under its new name.
    if (!file.isListed && file.path !== path) registry.move(file, sibling)
    return
  }
  if (deps.watcher.matches(path)) return
  const nowMs = deps.system.clock.monotonicMs()
  const isKnown = known.unclaimed.some((stream) => stream.inode === stat.inode && stream.birthtimeNs === stat.birthtimeNs)
  const bases = basesOf(known, path)
  const first = bases[0]
  if (isKnown) registry.add(sibling, { nowMs, guest: 'resumes only' })
  else if (first !== undefined) {
    const between = bases.find((base) => wasBornBetween(registry, sibling, base))
    registry.add(sibling, between === undefined ? { nowMs, guest: 'resumes only' } : { nowMs, guest: 'may begin', keyPath: between.path })
  }
}

function basesOf(known: { unclaimed: readonly KnownStream[]; lost: readonly SourceFile[] }, path: string): Base[] {
  const bases = new Map<string, Base>()
  const note = (base: Base): void => {
    if (base.path === path || !isSiblingPath(base.path, path)) return
    const before = bases.get(base.path)
    if (before === undefined || before.lastBirthtimeNs < base.lastBirthtimeNs) bases.set(base.path, base)
  }
  for (const stream of known.unclaimed) {
    note({ path: stream.path, lastBirthtimeNs: stream.birthtimeNs })
    note({ path: stream.keyPath, lastBirthtimeNs: stream.birthtimeNs })
  }
  for (const file of known.lost) {
    note({ path: file.path, lastBirthtimeNs: file.birthtimeNs })
    note({ path: file.keyPath, lastBirthtimeNs: file.birthtimeNs })
  }
  return [...bases.values()]
}

/** It bore the base path after the last stream that we know of it, and before the file that bears it now. */
function wasBornBetween(registry: Registry, sibling: FoundFile, base: Base): boolean {
  const born = sibling.stat.birthtimeNs
  if (born === 0n || base.lastBirthtimeNs === 0n || born <= base.lastBirthtimeNs) return false
  const current = registry.atPath(base.path, sibling.input.topic)
  return current === undefined || !current.isListed || current.birthtimeNs > born
}
