/**
 * The search among siblings, after a file was lost or truncated and at the start: rotation leaves files beside the ones
 * that the globs name. All of them become guests, and the identifier decides by their content: one that carries on a
 * known stream is read to its end, an unknown one that is younger than the base path's time with us ships under that
 * path, and the rest is let go. What was compressed meanwhile is gone (E1).
 */
import type { System } from '../shared/system.ts'
import type { InputConfig } from './config.ts'
import { parentOf } from './globs.ts'
import { isSiblingPath } from './identity.ts'
import type { KnownStream } from './known-stream.ts'
import { isReusedInode, type Registry } from './registry.ts'
import type { SourceFile } from './source-file.ts'
import type { FoundFile, Watcher } from './watcher.ts'

export interface RescueDeps {
  readonly system: System
  readonly registry: Registry
  readonly watcher: Watcher
  readonly inputs: readonly InputConfig[]
  /** What hello told of and no file ships into. */
  readonly known: () => Iterable<KnownStream>
}

/** `lost` are files whose name is gone or whose content was cut. Answers files that gave way to another with their inode. */
export async function rescue(deps: RescueDeps, options: { directories: ReadonlySet<string>; lost: readonly SourceFile[] }): Promise<readonly SourceFile[]> {
  const replaced: SourceFile[] = []
  for (const directory of options.directories) {
    for (const input of deps.inputs) {
      const bases = basesIn(deps, { directory, input, lost: options.lost })
      if (bases.length === 0) continue
      for (const sibling of await deps.watcher.siblingsIn(directory, input)) {
        const former = takeIn(deps, sibling, bases)
        if (former !== undefined) replaced.push(former)
      }
    }
  }
  return replaced
}

/** Base paths of this directory, longest first: the nearest one is a sibling's. */
function basesIn(deps: RescueDeps, { directory, input, lost }: { directory: string; input: InputConfig; lost: readonly SourceFile[] }): string[] {
  const bases = new Set<string>()
  for (const stream of deps.known()) if (stream.topic === input.topic && parentOf(stream.keyPath) === directory) bases.add(stream.keyPath)
  const add = (file: SourceFile): void => {
    if (file.input !== input) return
    for (const path of [file.keyPath, file.cursor?.stream.identity.keyPath]) if (path !== undefined && parentOf(path) === directory) bases.add(path)
  }
  for (const file of lost) add(file)
  for (const file of deps.registry.files) add(file)
  return [...bases].sort((a, b) => b.length - a.length)
}

/** Answers the file that it takes the place of. */
function takeIn({ registry, watcher, system }: RescueDeps, sibling: FoundFile, bases: readonly string[]): SourceFile | undefined {
  const { input, stat, path } = sibling
  const file = registry.find(stat, input.topic)
  // A rotated file that was removed before it was opened gives its inode to any new one: not a rename, another file.
  const former = file !== undefined && isReusedInode(file, stat) ? file : undefined
  if (file !== undefined && former === undefined) {
    // Renamed, out of the globs: it is read on under its new name.
    if (!file.isListed && file.path !== path) registry.move(file, sibling)
    return undefined
  }
  const base = bases.find((each) => isSiblingPath(each, path))
  if (base === undefined || watcher.matches(path) || registry.isFinished(stat, input.topic)) return undefined
  registry.add(sibling, { nowMs: system.clock.monotonicMs(), isGuest: true, keyPath: base })
  return former
}
