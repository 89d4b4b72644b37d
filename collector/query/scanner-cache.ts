/**
 * Compiled scan tasks, a few of them: patterns are compiled once per query and thread, not once per unit. Keyed by the
 * task's own text, so that a worker needs no open and close messages.
 */
import type { Zstd } from '../../shared/zstd.ts'
import type { ScanTask } from './scan-types.ts'
import { createUnitScanner, type UnitScanner } from './scan-unit.ts'

const SCANNERS_MAX = 16

export class ScannerCache {
  private readonly zstd: Zstd
  /** Oldest use first. */
  private readonly scanners = new Map<string, UnitScanner>()

  constructor(zstd: Zstd) {
    this.zstd = zstd
  }

  get(task: ScanTask): UnitScanner {
    const key = JSON.stringify(task)
    const scanner = this.scanners.get(key) ?? createUnitScanner(task, this.zstd)
    this.scanners.delete(key)
    this.scanners.set(key, scanner)
    if (this.scanners.size > SCANNERS_MAX) {
      const [oldest] = this.scanners.keys()
      if (oldest !== undefined) this.scanners.delete(oldest)
    }
    return scanner
  }
}
