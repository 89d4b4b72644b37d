/**
 * Discovery: walks the directories of the globs and says which files are there, and why a path that matches is left
 * alone. The sweep works on every file system; events only make it come sooner. Decides nothing about identity.
 */
import { errnoOf } from '../shared/errors.ts'
import { NAME_BYTES_MAX } from '../shared/source-header.ts'
import type { DirectoryEntry, FileStat, System } from '../shared/system.ts'
import type { InputConfig } from './config.ts'
import { joinPath, parentOf, type InputGlobs, type WalkRoot } from './globs.ts'
import { inGroups } from './in-groups.ts'
import { LeftOut } from './left-out.ts'
import { describeReadError } from './read-error.ts'

const DIRECTORIES_MAX = 20_000
export const FILES_MAX = 200_000
/** A look is a system call in the thread pool; events do not wait for it. */
const DIRECTORY_LOOKS_MAX = 64
/** The mtime of a directory has the grain of a kernel tick: a change in the same tick is seen by looking again. */
const MTIME_GRAIN_MS = 1000
/** Longer makes no difference to anybody. */
const QUIET_MS_MAX = 86_400_000

export interface FoundFile {
  readonly input: InputConfig
  readonly path: string
  /** Differs from `path` for a followed symlink. */
  readonly openPath: string
  readonly stat: FileStat
  /** For how long it was not written, by its mtime; 0 where that lies ahead of the clock, at most a day. */
  readonly quietMs: number
}

export interface Sweep {
  /** In the order in which they were found; without those that were as known. */
  readonly files: readonly FoundFile[]
  readonly leftOut: LeftOut
  /** Directories that are there and should be watched, with the nearest ancestor of one that is missing. */
  readonly directories: readonly string[]
}

/** One walk in the making. */
interface Walk {
  readonly globs: InputGlobs
  readonly take: (file: FoundFile) => void
  readonly leftOut: LeftOut
  readonly seen: Set<string>
}

export class Watcher {
  private readonly system: System
  private readonly globs: readonly InputGlobs[]
  /** mtime of each directory at the last sweep, and when that was. */
  private mtimes = new Map<string, number>()
  private directories: readonly string[] = []
  private sweptAtMs = 0
  /** Names that the globs matched in this sweep. */
  private matchCount = 0
  /** Where `hasChanged` stands in its round. */
  private nextDirectory = 0

  constructor(system: System, globs: readonly InputGlobs[]) {
    this.system = system
    this.globs = globs
  }

  matches(path: string): boolean {
    return this.globs.some((globs) => globs.matches(path))
  }

  /**
   * Whether a name may have come or gone in some directory since the last sweep. Of many directories some are looked at in
   * each call, and each one in turn.
   */
  async hasChanged(): Promise<boolean> {
    const due: string[] = []
    for (let look = Math.min(this.directories.length, DIRECTORY_LOOKS_MAX); look > 0; look -= 1) {
      this.nextDirectory = (this.nextDirectory + 1) % this.directories.length
      due.push(this.directories[this.nextDirectory] ?? '/')
    }
    let hasChanged = false
    await inGroups(due, async (directory) => {
      const stat = await this.statQuietly(directory)
      const mtimeMs = this.mtimes.get(directory) ?? 0
      if ((stat?.mtimeMs ?? 0) !== mtimeMs) hasChanged = true
      if (mtimeMs > this.sweptAtMs - MTIME_GRAIN_MS && this.system.clock.nowMs() - this.sweptAtMs > MTIME_GRAIN_MS) hasChanged = true
    })
    return hasChanged
  }

  /** Ten thousand files that are as known are not gathered only to be compared at the end: that would be memory to no use. */
  async sweep(isAsKnown: (file: FoundFile) => boolean = () => false): Promise<Sweep> {
    this.sweptAtMs = this.system.clock.nowMs()
    this.mtimes = new Map()
    this.matchCount = 0
    const files: FoundFile[] = []
    const take = (file: FoundFile): void => {
      if (!isAsKnown(file)) files.push(file)
    }
    const leftOut = new LeftOut()
    for (const globs of this.globs) {
      const walk: Walk = { globs, take, leftOut, seen: new Set() }
      for (const root of globs.roots) await this.walkFrom(root, walk)
    }
    this.directories = [...this.mtimes.keys()]
    return { files, leftOut, directories: this.directories }
  }

  /**
   * What one path holds that an event named: the regular file there, for each input that takes it. undefined where only a
   * sweep can tell.
   */
  async glance(path: string): Promise<readonly FoundFile[] | undefined> {
    const stat = await this.statQuietly(path, { followSymlinks: false })
    if (stat?.kind !== 'file' || Buffer.byteLength(path) > NAME_BYTES_MAX) return undefined
    const takers = this.globs.filter((globs) => globs.matches(path))
    return takers.map(({ input }) => this.found(input, { path, openPath: path }, stat))
  }

  /** All regular files of one directory that no exclusion names, matched or not: where rotation leaves its files. */
  async siblingsIn(directory: string, input: InputConfig): Promise<FoundFile[]> {
    const globs = this.globs.find((candidate) => candidate.input === input)
    const entries = await this.listQuietly(directory)
    const paths = (entries ?? [])
      .filter((entry) => entry.kind === 'file')
      .map((entry) => joinPath(directory, entry.name))
      .filter((path) => globs?.isExcluded(path) !== true)
    const found: FoundFile[] = []
    await inGroups(paths.slice(0, FILES_MAX), async (path) => {
      const stat = await this.statQuietly(path)
      if (stat?.kind === 'file') found.push(this.found(input, { path, openPath: path }, stat))
    })
    return found
  }

  private found(input: InputConfig, at: { path: string; openPath: string }, stat: FileStat): FoundFile {
    const quietMs = Math.min(QUIET_MS_MAX, Math.max(0, Math.round(this.system.clock.nowMs() - stat.mtimeMs)))
    return { input, path: at.path, openPath: at.openPath, stat, quietMs }
  }

  private async walkFrom(root: WalkRoot, walk: Walk): Promise<void> {
    const stat = await this.statQuietly(root.directory)
    if (stat === undefined) await this.noteAncestor(root.directory)
    let level = [root.directory]
    for (let depth = 0; depth <= root.depth && level.length > 0; depth += 1) {
      const next: string[] = []
      for (const directory of level) {
        if (walk.seen.has(directory) || this.mtimes.size >= DIRECTORIES_MAX) continue
        walk.seen.add(directory)
        next.push(...(await this.visit(directory, walk)))
      }
      level = next
    }
  }

  /** Takes in one directory; answers its subdirectories. */
  private async visit(directory: string, walk: Walk): Promise<string[]> {
    const stat = await this.statQuietly(directory)
    if (stat !== undefined) this.mtimes.set(directory, stat.mtimeMs)
    const entries = await this.listQuietly(directory, walk)
    const subdirectories: string[] = []
    const files: string[] = []
    for (const entry of entries ?? []) {
      const path = joinPath(directory, entry.name)
      if (entry.kind === 'directory') {
        subdirectories.push(path)
        if (walk.globs.names(path)) walk.leftOut.add({ path, topic: walk.globs.input.topic, reason: 'it is a directory' })
      } else if (entry.kind === 'symlink' && walk.globs.input.followSymlinks) subdirectories.push(...(await this.followLink(path, walk)))
      else if (walk.globs.matches(path)) this.sort(entry, path, { files, walk })
      else noteExcluded(path, walk)
    }
    await inGroups(files, (path) => this.take({ path, openPath: path }, walk))
    return subdirectories
  }

  /** What can't be read by kind is told; the rest is looked at. */
  private sort(entry: DirectoryEntry, path: string, into: { files: string[]; walk: Walk }): void {
    const { walk, files } = into
    const skip = (reason: string): void => {
      walk.leftOut.add({ path, topic: walk.globs.input.topic, reason })
    }
    if (entry.kind === 'symlink') skip('it is a symbolic link: followSymlinks is off')
    else if (entry.kind === 'fifo') skip('it is a FIFO')
    else if (entry.kind !== 'file') skip('it is not a regular file')
    else if (Buffer.byteLength(path) > NAME_BYTES_MAX) skip(`its path is longer than ${NAME_BYTES_MAX} bytes`)
    else if (this.matchCount >= FILES_MAX) skip(`more than ${FILES_MAX} files match`)
    else {
      this.matchCount += 1
      files.push(path)
    }
  }

  private async take(at: { path: string; openPath: string }, walk: Walk): Promise<void> {
    const stat = await this.statQuietly(at.openPath)
    if (stat?.kind === 'file') walk.take(this.found(walk.globs.input, at, stat))
  }

  /** A followed link: a file is taken in, a directory is walked unless it was seen under its own name. */
  private async followLink(path: string, walk: Walk): Promise<string[]> {
    try {
      const openPath = await this.system.fs.realPath(path)
      const stat = await this.system.fs.stat(openPath)
      if (stat?.kind === 'directory') return path.startsWith(`${openPath}/`) ? [] : [path]
      if (walk.globs.matches(path)) await this.take({ path, openPath }, walk)
    } catch (error) {
      walk.leftOut.add({ path, topic: walk.globs.input.topic, reason: `its target: ${describeReadError(error).text}` })
    }
    return []
  }

  /** A directory that is to appear is announced by the nearest one above it. */
  private async noteAncestor(directory: string): Promise<void> {
    for (let at = parentOf(directory); ; at = parentOf(at)) {
      const stat = await this.statQuietly(at)
      if (stat !== undefined) {
        if (!this.mtimes.has(at)) this.mtimes.set(at, stat.mtimeMs)
        return
      }
      if (at === '/') return
    }
  }

  private async statQuietly(path: string, options = { followSymlinks: true }): Promise<FileStat | undefined> {
    try {
      return await this.system.fs.stat(path, options)
    } catch (error) {
      // A path that can't be looked at is as good as absent: listing its directory tells the reason.
      if (errnoOf(error) === undefined) throw error
      return undefined
    }
  }

  private async listQuietly(directory: string, walk?: Walk): Promise<DirectoryEntry[] | undefined> {
    try {
      return await this.system.fs.list(directory)
    } catch (error) {
      if (errnoOf(error) === undefined) throw error
      const { text, isGone } = describeReadError(error)
      if (!isGone) walk?.leftOut.add({ path: directory, topic: walk.globs.input.topic, reason: text })
      return undefined
    }
  }
}

function noteExcluded(path: string, { globs, leftOut }: Walk): void {
  const pattern = globs.excludedBy(path)
  if (pattern !== undefined) leftOut.addExcluded({ path, topic: globs.input.topic }, pattern)
}
