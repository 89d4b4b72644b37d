/** Rotation that goes on while the siblings are searched: on real files, the renames between two looks of the agent. */
import { renameSync } from 'node:fs'
import { afterEach, beforeAll, expect, test } from 'vitest'
import { loadZstd, type Zstd } from '../../shared/zstd.ts'
import { lines, RotationRig } from './rotation-rig.ts'

let zstd: Zstd
let rig: RotationRig | undefined
beforeAll(async () => {
  zstd = await loadZstd()
})
afterEach(async () => {
  await rig?.close()
  rig = undefined
})

test('copies that get their next numbers while they are found are found again under them, with no further rotation', async () => {
  const files = new RotationRig(zstd, ['app.log'])
  rig = files
  files.letKernelClockStep()
  files.write('app.log', lines('rotation 0'))
  await files.start()
  await files.stop()
  files.copyTruncate('app.log', 'app.log.2')
  files.append('app.log', lines('rotation 1'))
  files.copyTruncate('app.log', 'app.log.1')
  files.append('app.log', lines('rotation 2'))
  const unseen = new Set(['app.log.1', 'app.log.2'].map((name) => files.path(name)))
  files.see = (stat, path) => {
    if (unseen.delete(path) && unseen.size === 0) for (const number of [2, 1]) renameSync(files.path(`app.log.${number}`), files.path(`app.log.${number + 1}`))
    return stat
  }
  await files.start()
  await files.pass(60_000)
  expect(unseen.size).toBe(0)
  expect(files.stored.sort()).toEqual([0, 1, 2].map((number) => lines(`rotation ${number}`)).sort())
})
