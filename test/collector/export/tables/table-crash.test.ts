/**
 * A process that dies at every single step of publishing, at each change of its own disk and of the store, by kill -9 and
 * by a power cut of both. What a reader of the table folders sees may never be a row twice; what the next life makes of
 * it must be every row once.
 */
import { beforeAll, expect, test } from 'vitest'
import type { RemoteStore } from '../../../../collector/export/remote-store.ts'
import { AppError } from '../../../../shared/errors.ts'
import { loadZstd, type Zstd } from '../../../../shared/zstd.ts'
import { HOUR, MINUTE, START_MS, TableRig, wrongRows } from './table-rig.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

/** Counts changes of both disks; from the last one on nothing works any more. */
class Fate {
  isDead = false
  changes = 0
  private readonly last: number
  private readonly rig: TableRig

  constructor(rig: TableRig, last: number) {
    this.rig = rig
    this.last = last
    rig.sim.fs.inject = ({ kind }) => (kind !== 'read' && kind !== 'list' && this.dies() ? { errno: 'EIO' } : undefined)
  }

  /** The store as the mortal process sees it. Its answers to calls that worked may be lost: that is the death at the next change. */
  get store(): RemoteStore {
    const { store } = this.rig
    const alive = async <T>(call: () => Promise<T>, isChange: boolean): Promise<T> => {
      if (isChange ? this.dies() : this.isDead) throw new AppError('REMOTE_ERROR', 'dead')
      const result = await call()
      if (this.isDead) throw new AppError('REMOTE_ERROR', 'dead')
      return result
    }
    return {
      ...store,
      put: (...args) => alive(() => store.put(...args), true),
      rename: (...args) => alive(() => store.rename(...args), true),
      remove: (...args) => alive(() => store.remove(...args), true),
      makeDirectories: (...args) => alive(() => store.makeDirectories(...args), true),
      stat: (...args) => alive(() => store.stat(...args), false),
      list: (...args) => alive(() => store.list(...args), false),
      matches: (...args) => alive(() => store.matches(...args), false),
    }
  }

  private dies(): boolean {
    this.changes += 1
    if (this.changes > this.last) this.isDead = true
    return this.isDead
  }
}

async function pass(rig: TableRig, ms: number): Promise<void> {
  rig.sim.clock.stepWall(ms - 8_000)
  await rig.sim.clock.advance(8_000)
}

/** Two hours in three segments, exported raw; the tables are to come. */
async function exportedRig(): Promise<TableRig> {
  const rig = new TableRig(zstd)
  for (const from of [0, 40, 80]) {
    const first = START_MS + from * MINUTE
    await rig.segments.add('app', 0, { timestampsMs: [first, first + 30 * MINUTE], linesEach: 2, appendMs: { first, last: first + 30 * MINUTE } })
  }
  const exporter = await rig.startedWithoutTables()
  await exporter.exportNow()
  await exporter.close()
  return rig
}

/** One life that ends at the given change, then a whole one. Answers false when the first life came to its own end. */
async function dieAndGoOn(changes: number, end: 'kill' | 'power cut'): Promise<boolean> {
  const rig = await exportedRig()
  const fate = new Fate(rig, changes)
  // Not awaited here: a start that meets its death waits for a time that must first pass.
  const starting = rig.started({ store: fate.store, startWaitMs: 1 }).catch(() => undefined)
  await pass(rig, 2 * HOUR + 15 * MINUTE)
  const hasDied = fate.isDead
  fate.isDead = true
  const mortal = await starting
  await mortal?.close().catch(() => undefined)
  rig.sim.fs.inject = undefined
  if (end === 'kill') rig.sim.fs.kill()
  else {
    rig.sim.fs.crash({ seed: changes + 1 })
    rig.remoteDisk.crash({ seed: changes + 1 })
  }
  expect(wrongRows(await rig.rows()), `after ${changes} changes and a ${end}`).toEqual([])
  const next = await rig.started()
  await pass(rig, HOUR)
  await pass(rig, HOUR)
  await next.close()
  const rows = await rig.rows()
  expect(wrongRows(rows), `in the life after ${changes} changes and a ${end}`).toEqual([])
  expect(rows.map(({ offset }) => offset).toSorted((a, b) => a - b), `in the life after ${changes} changes and a ${end}`).toEqual(Array.from({ length: 12 }, (_, offset) => offset))
  expect(await rig.store.stat('tables/app/dt=2026-01-01/hour=00/_SUCCESS')).toBeDefined()
  return hasDied
}

test.each(['kill', 'power cut'] as const)('a %s at any change of either disk loses no row and doubles none', { timeout: 120_000 }, async (end) => {
  let deaths = 0
  for (let changes = 0; changes < 2_000; changes += 1) {
    if (!(await dieAndGoOn(changes, end))) break
    deaths += 1
  }
  // Otherwise the process was never in the middle of anything.
  expect(deaths).toBeGreaterThan(60)
  expect(deaths).toBeLessThan(2_000)
})
