/** Globs of one input, compiled: where to begin walking, how deep, and what matches. Knows no disk. */
import picomatch from 'picomatch'
import type { InputConfig } from './config.ts'

/** Directories deeper than this below a `**` are not walked. */
const DEPTH_MAX = 64

export interface WalkRoot {
  readonly directory: string
  /** Levels of directories below `directory` that can hold a match. */
  readonly depth: number
}

export interface InputGlobs {
  readonly input: InputConfig
  readonly roots: readonly WalkRoot[]
  /** Whether the path is wanted: some glob matches and no exclusion does. */
  matches(path: string): boolean
  isExcluded(path: string): boolean
  /** Whether a glob that is not for whole trees matches: who wrote it meant this very path to be a file. */
  names(path: string): boolean
}

export function compileGlobs(input: InputConfig): InputGlobs {
  const isIncluded = picomatch([...input.files])
  const isNamed = picomatch(input.files.filter((glob) => !glob.includes('**')))
  const byName = picomatch(input.exclude.filter((glob) => !glob.includes('/')), { dot: true })
  const byPath = picomatch(input.exclude.filter((glob) => glob.includes('/')), { dot: true })
  const isExcluded = (path: string): boolean => byName(path.slice(path.lastIndexOf('/') + 1)) || byPath(path)
  return {
    input,
    roots: mergeRoots(input.files.map(walkRoot)),
    matches: (path) => isIncluded(path) && !isExcluded(path),
    isExcluded,
    names: (path) => isNamed(path) && !isExcluded(path),
  }
}

function walkRoot(glob: string): WalkRoot {
  const { base, glob: rest } = picomatch.scan(glob)
  if (rest === '') return { directory: parentOf(glob), depth: 0 }
  const directory = base === '' ? '/' : base
  // A brace may hold slashes, so segments are only counted where there is none.
  const isDeep = rest.includes('**') || (rest.includes('{') && rest.includes('/'))
  return { directory, depth: isDeep ? DEPTH_MAX : rest.split('/').length - 1 }
}

function mergeRoots(roots: readonly WalkRoot[]): WalkRoot[] {
  const merged = new Map<string, WalkRoot>()
  for (const root of roots) {
    const before = merged.get(root.directory)
    if (before === undefined || before.depth < root.depth) merged.set(root.directory, root)
  }
  return [...merged.values()]
}

export function parentOf(path: string): string {
  const slash = path.lastIndexOf('/')
  return slash <= 0 ? '/' : path.slice(0, slash)
}

export function joinPath(directory: string, name: string): string {
  return directory === '/' ? `/${name}` : `${directory}/${name}`
}
