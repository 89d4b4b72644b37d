import { expect, test } from 'vitest'
import { openBlockCache, type BlockCache } from '../../../collector/export/block-cache.ts'
import { simulate, type Simulation } from '../../sim-system.ts'

const sha256 = 'ab'.repeat(32)

async function open(sim: Simulation, bytesMax = 1000): Promise<BlockCache> {
  const cache = await openBlockCache(sim.system, { directory: '/data/cache', bytesMax })
  if (cache === undefined) throw new Error('the cache did not open')
  return cache
}

function block(index: number): { sha256: string; index: number } {
  return { sha256, index }
}

test('a block that was put is given, also in the next life of the process', async () => {
  const sim = simulate()
  const bytes = Buffer.from('the bytes of a block')
  await (await open(sim)).put(block(0), bytes)
  expect(await (await open(sim)).get(block(0), bytes.length)).toEqual(bytes)
  expect(await (await open(sim)).get(block(1), bytes.length)).toBeUndefined()
})

test('the folder never grows over its limit, and what was used longest ago goes first', async () => {
  const sim = simulate()
  const cache = await open(sim, 350)
  for (let index = 0; index < 3; index += 1) await cache.put(block(index), Buffer.alloc(100, index))
  await cache.get(block(0), 100)
  await cache.put(block(3), Buffer.alloc(100, 3))
  expect(cache.usedBytes).toBeLessThanOrEqual(350)
  expect(await cache.get(block(1), 100)).toBeUndefined()
  expect(await cache.get(block(0), 100)).toEqual(Buffer.alloc(100, 0))
  expect(await sim.fs.list('/data/cache')).toHaveLength(3)
  await cache.put(block(4), Buffer.alloc(400))
  expect(await cache.get(block(4), 400)).toBeUndefined()
})

test('a torn, rotten or foreign file is no block', async () => {
  const sim = simulate()
  const bytes = Buffer.alloc(100, 7)
  const cache = await open(sim)
  await cache.put(block(0), bytes)
  const [found] = await sim.fs.list('/data/cache')
  const file = await sim.fs.open(`/data/cache/${found?.name ?? ''}`, 'readWrite')
  await file.truncate(50)
  await file.close()
  expect(await cache.get(block(0), 100)).toBeUndefined()
  await cache.put(block(0), bytes)
  expect(await cache.get(block(0), 99)).toBeUndefined()
})

test('what an earlier life left half made is removed, and what is not ours stays', async () => {
  const sim = simulate()
  await open(sim)
  for (const name of [`${sha256}-00000000.block.unfinished`, 'notes.txt']) await (await sim.fs.open(`/data/cache/${name}`, 'create')).close()
  await open(sim)
  expect((await sim.fs.list('/data/cache')).map(({ name }) => name)).toEqual(['notes.txt'])
})

test('a full disk means that nothing is kept, and nothing fails', async () => {
  const sim = simulate({ capacityBytes: 1024 * 1024 })
  const cache = await open(sim)
  await cache.put(block(0), Buffer.alloc(100))
  expect(await cache.get(block(0), 100)).toBeUndefined()
})
