/** What is read back of an export, said of every kind of store: a folder, the stand-in, a real Hadoop (test/real). */
import { expect, test } from 'vitest'
import { segmentPath } from '../../../collector/export/layout.ts'
import type { RemoteStore } from '../../../collector/export/remote-store.ts'
import { loadZstd } from '../../../shared/zstd.ts'
import { fill } from '../query/query-fixture.ts'
import { noise, type StoredBatch } from '../storage/store-rig.ts'
import { openTieredRig, readBack, type TieredRig } from './tiered-rig.ts'

/** `newPlace` answers what opens a store in a place that nothing is in yet. */
export function describeReadBack(newPlace: () => () => RemoteStore): void {
  /** Sixty records in segments of ten; all but the newest ten are on the store only. */
  async function dropped(): Promise<{ readonly rig: TieredRig; readonly before: Buffer }> {
    const zstd = await loadZstd()
    const rig = await openTieredRig({ zstd, remote: newPlace()(), cacheBytesMax: 0 })
    const batches = Array.from({ length: 60 }, (_each, at) => ({ topic: 'app', partition: 0, key: '', records: [{ line: `${at} ${noise(120, at + 1)}`, ts: at }] }))
    await fill(rig.store, batches, zstd)
    const before = bytesOf((await readBack(rig.store)).batches)
    await rig.exportAndDrop()
    expect(rig.store.watermarks('app', 0).logStartOffset).toBe(50)
    return { rig, before }
  }

  const bytesOf = (stored: readonly StoredBatch[]): Buffer => Buffer.concat(stored.map(({ batch }) => batch))

  test('what was dropped here comes back byte for byte', async () => {
    const { rig, before } = await dropped()
    const after = await readBack(rig.tiered)
    expect(after.missing).toEqual([])
    expect(bytesOf(after.batches).equals(before)).toBe(true)
    await rig.close()
  })

  test('a segment that is gone from the store is named, and those around it are read', async () => {
    const { rig } = await dropped()
    const second = [...rig.exporter.segments('app', 0).values()][1]?.key
    if (second === undefined) throw new Error('several segments were exported')
    await rig.remote.remove(segmentPath(second, 'log'))
    const { batches, missing } = await readBack(rig.tiered)
    expect(missing).toMatchObject([{ fromOffset: second.baseOffset, toOffset: second.nextOffset }])
    expect(batches).toHaveLength(60 - (second.nextOffset - second.baseOffset))
    await rig.close()
  })
}
