import { describe, expect, test } from 'vitest'
import { openJournal, type Journal } from '../../../collector/export/journal.ts'
import { encodeFrame, type JournalRecord } from '../../../collector/export/journal-format.ts'
import type { AppError } from '../../../shared/errors.ts'
import { toOffset } from '../../../shared/types.ts'
import { SimFileSystem } from '../../sim-fs.ts'
import { simulate, type Simulation } from '../../sim-system.ts'
import { codeOf } from './remote-store-contract.ts'

const path = '/data/export/journal'
const files = (['log', 'index', 'timeindex', 'manifest.json'] as const).map((kind) => ({ kind, lengthBytes: 100, sha256: 'ab'.repeat(32) }))

function finished(index: number): JournalRecord {
  return { type: 'finished', topic: 'app', partition: 0, baseOffset: toOffset(index * 10), nextOffset: toOffset(index * 10 + 10), epoch: 1, isChecked: true, files }
}

function planned(index: number): JournalRecord {
  return { type: 'planned', topic: 'app', partition: 0, baseOffset: toOffset(index * 10), nextOffset: toOffset(index * 10 + 10), epoch: 1 }
}

function kinds(journal: Journal): string[] {
  return [...journal.segments('app', 0).values()].map(({ key, progress }) => `${key.baseOffset} ${progress.kind}`)
}

async function open(sim: Simulation, onFailed?: (error: AppError) => void): Promise<Journal> {
  return openJournal(sim.system, '/data/export', onFailed)
}

async function appendBytes(fs: SimFileSystem, bytes: Buffer, at?: number): Promise<void> {
  const file = await fs.open(path, 'readWrite')
  await file.write([bytes], at ?? (await file.stat()).size)
  await file.sync()
  await file.close()
}

describe('the export journal', () => {
  test('what was appended survives a power cut right after the answer', async () => {
    const sim = simulate()
    const journal = await open(sim)
    await journal.append({ type: 'boot', boot: 4, nonce: 'n' })
    await journal.append(planned(0))
    sim.fs.crash()
    const next = await open(sim)
    expect(kinds(next)).toEqual(['0 planned'])
    expect([next.boot, next.nonce]).toEqual([4, 'n'])
  })

  test('every step of a segment is there again after a restart, also after compaction', async () => {
    const sim = simulate()
    const journal = await open(sim)
    const where = { topic: 'app', partition: 0, baseOffset: toOffset(0) }
    const steps: JournalRecord[] = [
      planned(0),
      { type: 'encoded', ...where, files },
      { type: 'uploaded', ...where, kind: 'log', temp: '_tmp/a' },
      { type: 'verified', ...where, kind: 'log' },
      { type: 'renamed', ...where, kind: 'log' },
      { type: 'uploaded', ...where, kind: 'index', temp: '_tmp/b' },
      { type: 'verified', ...where, kind: 'index' },
      { type: 'uploaded', ...where, kind: 'timeindex', temp: '_tmp/c' },
      { type: 'discarded', ...where, kind: 'timeindex' },
      { type: 'recorded', ...where },
      { type: 'checked', ...where },
    ]
    for (const step of steps) {
      await journal.append(step)
      const expected = journal.segments('app', 0)
      const copy = simulate({ fs: SimFileSystem.after(sim.fs.operations, sim.fs.operations.length) })
      const reopened = await open(copy)
      expect(reopened.segments('app', 0).get(toOffset(0))?.key).toEqual(expected.get(toOffset(0))?.key)
      expect(kinds(reopened)).toEqual(kinds(journal))
      await reopened.compact()
      await reopened.close()
      const compacted = (await open(copy)).segments('app', 0).get(toOffset(0))
      const original = expected.get(toOffset(0))
      if (original?.progress.kind === 'encoded' && compacted?.progress.kind === 'encoded') {
        const live = [...original.progress.progress].filter(([, file]) => file.kind !== 'pending')
        expect([...compacted.progress.progress]).toEqual(live)
      } else expect(compacted).toEqual(original)
    }
  })

  test('a torn tail is dropped, and what is appended afterwards is kept', async () => {
    const sim = simulate()
    const journal = await open(sim)
    await journal.append(planned(0))
    await journal.close()
    await appendBytes(sim.fs, encodeFrame(planned(1)).subarray(0, 30))
    const next = await open(sim)
    expect(kinds(next)).toEqual(['0 planned'])
    await next.append(planned(2))
    await next.close()
    expect(kinds(await open(sim))).toEqual(['0 planned', '20 planned'])
    expect(sim.log.events('error')).toEqual([])
  })

  test('damage in the middle is set aside with an alarm, and what stands behind it is kept', async () => {
    const sim = simulate()
    const journal = await open(sim)
    for (const index of [0, 1, 2]) await journal.append(planned(index))
    await journal.close()
    await appendBytes(sim.fs, Buffer.from('XXXX'), encodeFrame(planned(0)).length + 20)
    const next = await open(sim)
    expect(kinds(next)).toEqual(['0 planned', '20 planned'])
    expect(sim.log.events('error')).toContain('the export journal was damaged in the middle')
    expect((await sim.fs.list('/data/export')).map((each) => each.name.replace(/\d+$/, 'N')).sort()).toEqual(['journal', 'journal.damaged-N'])
    await next.close()
    expect(kinds(await open(sim))).toEqual(['0 planned', '20 planned'])
  })

  test('after a failed sync nothing is written any more, and the process is told to end', async () => {
    const sim = simulate()
    const failures: string[] = []
    const journal = await open(sim, ({ code }) => failures.push(code))
    await journal.append(planned(0))
    sim.fs.inject = (call) => (call.kind === 'sync' && call.path === path ? { errno: 'EIO' } : undefined)
    expect(await codeOf(journal.append(planned(1)))).toBe('STORAGE_ERROR')
    sim.fs.inject = undefined
    expect(await codeOf(journal.append(planned(2)))).toBe('STORAGE_ERROR')
    expect(kinds(journal)).toEqual(['0 planned'])
    expect(failures).toEqual(['STORAGE_ERROR'])
  })

  test('a full disk is an error of this append only; the next is written over its bytes', async () => {
    const sim = simulate()
    const journal = await open(sim)
    await journal.append(planned(0))
    sim.fs.inject = (call) => (call.kind === 'write' ? { written: 7 } : undefined)
    expect(await codeOf(journal.append(planned(1)))).toBe('DISK_FULL')
    sim.fs.inject = undefined
    await journal.append(planned(2))
    await journal.close()
    expect(kinds(await open(sim))).toEqual(['0 planned', '20 planned'])
  })

  test('it stays small: compaction rewrites it as it grows, and a crash at any step of that loses nothing', async () => {
    const sim = simulate()
    const journal = await open(sim)
    await journal.append(finished(0))
    for (let round = 0; round < 300; round += 1) {
      await Promise.all(Array.from({ length: 60 }, () => journal.note({ type: 'damaged', topic: 'app', partition: 0, baseOffset: toOffset(10), reason: 'x'.repeat(100) })))
    }
    await journal.append(planned(2))
    expect(journal.sizeBytes).toBeLessThan(1_100_000)
    const { operations } = sim.fs
    const begin = operations.findLastIndex((operation) => operation.kind === 'create' && operation.name.startsWith('journal.new'))
    const end = operations.findIndex((operation, at) => at > begin && operation.kind === 'syncDirectory')
    expect(operations.slice(begin, end + 1).map(({ kind }) => kind)).toContain('rename')
    for (let count = begin; count <= end + 1; count += 1) {
      for (const fate of [{}, { seed: count }, { seed: count + 1 }]) {
        const disk = SimFileSystem.after(operations, count)
        disk.crash(fate)
        const survived = kinds(await open(simulate({ fs: disk })))
        expect(survived[0]).toBe('0 recorded')
      }
    }
  })

  test('ten thousand segments are opened in under two seconds', async () => {
    const sim = simulate()
    await (await open(sim)).close()
    await appendBytes(sim.fs, Buffer.concat(Array.from({ length: 10_000 }, (_each, index) => encodeFrame(finished(index)))), 0)
    const before = process.cpuUsage()
    const journal = await open(sim)
    const spent = process.cpuUsage(before)
    expect(journal.segments('app', 0).size).toBe(10_000)
    expect((spent.user + spent.system) / 1e6).toBeLessThan(2)
  })

  test('a record of a newer build stops the start instead of being guessed at', async () => {
    const sim = simulate()
    await (await open(sim)).close()
    // A frame that is whole, with a type that this build does not have.
    const unknown = { ...planned(0), type: 'teleported' } as unknown as JournalRecord
    await appendBytes(sim.fs, encodeFrame(unknown))
    expect(await codeOf(open(sim))).toBe('UNSUPPORTED_VERSION')
  })
})
