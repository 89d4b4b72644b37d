/** A full disk is told for as long as it lasts; and a tombstone that can't be read is no reason to begin at offset 0. */
import { beforeAll, expect, test } from 'vitest'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { DATA, noise, openRig, type Rig } from './store-rig.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

function codes(rig: Rig): string[] {
  return rig.store.alarms().map(({ code }) => code)
}

async function send(rig: Rig, inode: bigint): Promise<string> {
  const next = rig.batch({ inode, lines: [noise(2000, Number(inode))] })
  return rig.store.append({ ...next, batch: Buffer.from(next.batch) }).then(({ kind }) => kind, (error: { code: string }) => error.code)
}

async function filled(): Promise<Rig> {
  const rig = await openRig({ zstd })
  expect(await send(rig, 1n)).toBe('ok')
  rig.sim.fs.capacityBytes = rig.sim.fs.usedBytes() + 100
  expect(await send(rig, 2n)).toBe('DISK_FULL')
  expect(codes(rig)).toEqual(['DISK_FULL'])
  return rig
}

test('the alarm of a full disk goes with the next batch that is stored', async () => {
  const rig = await filled()
  rig.sim.fs.capacityBytes = 1 << 30
  expect(codes(rig)).toEqual(['DISK_FULL'])
  expect(await send(rig, 3n)).toBe('ok')
  expect(codes(rig)).toEqual([])
  await rig.store.close()
})

test('where nobody sends any more it goes once there is room, and not before', async () => {
  const rig = await filled()
  await rig.sim.clock.advance(31_000)
  await rig.store.maintain()
  expect(codes(rig)).toContain('DISK_FULL')
  rig.sim.fs.capacityBytes = 1 << 30
  await rig.store.maintain()
  expect(codes(rig)).toEqual([])
  await rig.store.close()
})

test('a topic whose tombstone can not be read is not begun anew: its offsets would be given a second time', async () => {
  const rig = await openRig({ zstd })
  expect(await send(rig, 1n)).toBe('ok')
  await rig.store.deleteTopic('app')
  await rig.store.close()
  const tombstone = rig.sim.fs.getFile(`${DATA}/topics/app.json`) ?? Buffer.alloc(0)
  rig.sim.fs.putFile(`${DATA}/topics/app.json`, tombstone.subarray(0, 20))

  const blind = await rig.reopen()
  expect(codes(blind)).toEqual(['TOPIC_FILE_BAD'])
  expect(await send(blind, 2n)).toBe('UNAVAILABLE')
  await expect(blind.store.createTopic('app', {})).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: true, hint: expect.stringContaining('app.json') })
  await blind.store.close()

  rig.sim.fs.putFile(`${DATA}/topics/app.json`, tombstone)
  const seeing = await rig.reopen()
  expect(await send(seeing, 2n)).toBe('ok')
  expect(seeing.store.watermarks('app', 0)).toMatchObject({ logStartOffset: 1, logEndOffset: 2 })
  await seeing.store.close()
})
