/**
 * Paths that match a glob and are not read, with the reason, for `status`. Bounded: what a setting leaves out (thousands
 * of rotated archives, perhaps) can't crowd out what somebody should mend. Filled by one sweep, then only read.
 */

export interface LeftOutPath {
  readonly path: string
  readonly topic: string
  readonly reason: string
}

/** Of each kind: what exclusions name, and everything else. */
const LISTED_MAX = 1000

export class LeftOut {
  readonly paths: LeftOutPath[] = []
  /** Paths that are not in the list. */
  unlisted = 0
  private excluded = 0
  private others = 0

  add(path: LeftOutPath): void {
    if (this.others >= LISTED_MAX) {
      this.unlisted += 1
      return
    }
    this.others += 1
    this.paths.push(path)
  }

  addExcluded(path: Omit<LeftOutPath, 'reason'>, pattern: string): void {
    if (this.excluded >= LISTED_MAX) {
      this.unlisted += 1
      return
    }
    this.excluded += 1
    this.paths.push({ ...path, reason: `excluded by ${pattern}` })
  }
}
