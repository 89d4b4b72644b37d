/**
 * Since when each base path is followed, on the clock of file births: a sibling that rotation left there and that nobody
 * knows is ours to ship only if it is younger. What stood there before the path was ever followed is left alone.
 *
 * Evidence is the birth of a file that was followed under the base path and does not bear it any more (a renamed one, or
 * a copy that carries on a stream), or, where no such file is left, the first append to the oldest stream we know of, or
 * the start of this process where the path appeared later. The last two are wall clocks, the collector's and our own:
 * they only ever decide between shipping an old file too much and losing a new one. Earliest evidence wins and is
 * never forgotten; bounded by the number of base paths.
 */
export interface Evidence {
  readonly inode: bigint
  readonly birthtimeNs: bigint
}

interface Since {
  /** The two earliest births of different files: one of them may bear the base path now, and then says nothing. */
  first: Evidence | undefined
  second: Evidence | undefined
  timeNs: bigint | undefined
}

const NS_PER_MS = 1_000_000n

export class FollowedSince {
  private readonly bases = new Map<string, Since>()

  /** A file that ships, or once shipped, under the base path. */
  noteFile(base: string, file: Evidence): void {
    const since = this.of(base)
    const { first, second } = since
    if (file.birthtimeNs === 0n || isSame(first, file) || isSame(second, file)) return
    const birth = { inode: file.inode, birthtimeNs: file.birthtimeNs }
    if (first === undefined) since.first = birth
    else if (birth.birthtimeNs < first.birthtimeNs) {
      since.first = birth
      since.second = first
    } else if (second === undefined || birth.birthtimeNs < second.birthtimeNs) since.second = birth
  }

  /** Wall clock in ms: a time at which the path was followed already. */
  noteTime(base: string, timeMs: number): void {
    const since = this.of(base)
    const timeNs = BigInt(Math.floor(timeMs)) * NS_PER_MS
    if (since.timeNs === undefined || timeNs < since.timeNs) since.timeNs = timeNs
  }

  has(base: string): boolean {
    return this.bases.has(base)
  }

  /** Whether the file came to be after the path was followed. `current` is the file that bears the base path. */
  isYounger(base: string, file: Evidence & { readonly mtimeMs: number }, current: Evidence | undefined): boolean {
    const since = this.bases.get(base)
    if (since === undefined) return false
    // A file system without birth times: the last write is no earlier than the birth.
    const bornNs = file.birthtimeNs === 0n ? BigInt(Math.floor(file.mtimeMs)) * NS_PER_MS : file.birthtimeNs
    const isEarlier = (each: Evidence | undefined): boolean => each !== undefined && !isSame(current, each) && each.birthtimeNs < bornNs
    if (isEarlier(since.first) || isEarlier(since.second)) return true
    return since.timeNs !== undefined && since.timeNs < bornNs
  }

  private of(base: string): Since {
    const known = this.bases.get(base)
    if (known !== undefined) return known
    const since: Since = { first: undefined, second: undefined, timeNs: undefined }
    this.bases.set(base, since)
    return since
  }
}

function isSame(a: Evidence | undefined, b: Evidence): boolean {
  return a?.inode === b.inode && a.birthtimeNs === b.birthtimeNs
}
