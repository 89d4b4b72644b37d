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
  /** The exclusion that keeps back a path which some glob matches; undefined for every other path. */
  excludedBy(path: string): string | undefined
  /** Whether a glob that is not for whole trees matches: who wrote it meant this very path to be a file. */
  names(path: string): boolean
}

export function compileGlobs(input: InputConfig): InputGlobs {
  const isIncluded = picomatch([...input.files])
  const isNamed = picomatch(input.files.filter((glob) => !glob.includes('**')))
  const exclusions = input.exclude.map((glob) => ({ glob, isOfName: !glob.includes('/'), matches: picomatch(glob, { dot: true }) }))
  const exclusionOf = (path: string): string | undefined => {
    const name = path.slice(path.lastIndexOf('/') + 1)
    return exclusions.find(({ isOfName, matches }) => matches(isOfName ? name : path))?.glob
  }
  const isExcluded = (path: string): boolean => exclusionOf(path) !== undefined
  return {
    input,
    roots: mergeRoots(input.files.map(walkRoot)),
    matches: (path) => isIncluded(path) && !isExcluded(path),
    isExcluded,
    excludedBy: (path) => (isIncluded(path) ? exclusionOf(path) : undefined),
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
