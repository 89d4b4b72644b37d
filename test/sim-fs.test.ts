import { describe, expect, test } from 'vitest'
import { SimFileSystem } from './sim-fs.ts'
import { settle, SimClock } from './sim-system.ts'

async function write(fs: SimFileSystem, path: string, text: string, options: { sync?: boolean } = {}): Promise<void> {
  const handle = await fs.open(path, 'readWriteCreate')
  await handle.write([Buffer.from(text)], (await handle.stat()).size)
  if (options.sync === true) await handle.datasync()
  await handle.close()
}

describe('the simulated disk', () => {
  test('loses contents that were not synced and names whose directory was not', async () => {
    const fs = new SimFileSystem()
    await fs.makeDirectory('/d')
    await fs.syncDirectory('/')
    await write(fs, '/d/a', 'synced', { sync: true })
    await fs.syncDirectory('/d')
    await write(fs, '/d/a', ' and not')
    await write(fs, '/d/b', 'no name', { sync: true })
    fs.crash()
    expect([...fs.files()].map(([path, bytes]) => [path, bytes.toString()])).toEqual([['/d/a', 'synced']])
  })

  test('a rename without a directory sync goes back, and without a file sync leaves an empty file', async () => {
    const fs = new SimFileSystem()
    await write(fs, '/a', 'old', { sync: true })
    await fs.syncDirectory('/')
    await write(fs, '/a.tmp', 'new', { sync: true })
    await fs.rename('/a.tmp', '/a')
    const reverted = SimFileSystem.after(fs.operations, fs.operations.length)
    reverted.crash()
    expect(reverted.getFile('/a')?.toString()).toBe('old')
    await write(fs, '/b.tmp', 'lost')
    await fs.rename('/b.tmp', '/b')
    await fs.syncDirectory('/')
    fs.crash()
    expect([fs.getFile('/a')?.toString(), fs.getFile('/b')?.length]).toEqual(['new', 0])
  })

  test('a full disk takes a part without an error, then ENOSPC', async () => {
    const fs = new SimFileSystem({ capacityBytes: 10 })
    const handle = await fs.open('/a', 'create')
    expect(await handle.write([Buffer.from('12345678')], 0)).toBe(8)
    expect(await handle.write([Buffer.from('abcd')], 8)).toBe(2)
    await expect(handle.write([Buffer.from('x')], 10)).rejects.toMatchObject({ code: 'ENOSPC' })
  })

  test('a failed sync loses what was pending while reads still show it', async () => {
    const fs = new SimFileSystem()
    const handle = await fs.open('/a', 'create')
    await fs.syncDirectory('/')
    await handle.write([Buffer.from('x')], 0)
    fs.inject = (call) => (call.kind === 'sync' ? { errno: 'EIO' } : undefined)
    await expect(handle.datasync()).rejects.toMatchObject({ code: 'EIO' })
    fs.inject = undefined
    expect(fs.getFile('/a')?.toString()).toBe('x')
    fs.crash()
    expect(fs.getFile('/a')?.length).toBe(0)
  })

  test('handles and locks of before a crash are dead', async () => {
    const fs = new SimFileSystem()
    const handle = await fs.open('/a', 'create')
    await fs.lock('/lock')
    await expect(fs.lock('/lock')).rejects.toMatchObject({ code: 'LOCKED' })
    fs.kill()
    await expect(handle.write([Buffer.from('x')], 0)).rejects.toMatchObject({ code: 'EIO' })
    await fs.lock('/lock')
  })

  test('a removed file can be read through its handle, and its inode is not met again', async () => {
    const fs = new SimFileSystem()
    await write(fs, '/a', 'text')
    const handle = await fs.open('/a', 'read')
    await fs.remove('/a')
    const target = Buffer.alloc(4)
    expect(await handle.read(target, { offset: 0, length: 4, position: 0 })).toBe(4)
    expect((await handle.stat()).linkCount).toBe(0)
  })

  test('the same seed crashes the same way', async () => {
    const outcome = async (seed: number): Promise<string> => {
      const fs = new SimFileSystem()
      for (let count = 0; count < 8; count += 1) await write(fs, `/f${count}`, `text ${count}`)
      fs.crash({ seed })
      return JSON.stringify([...fs.files()].map(([path, bytes]) => [path, bytes.toString('hex')]))
    }
    expect(await outcome(3)).toBe(await outcome(3))
    expect(new Set(await Promise.all([1, 2, 3, 4].map(outcome))).size).toBeGreaterThan(1)
  })
})

test('the simulated clock wakes sleepers in order of time, and the wall clock may jump meanwhile', async () => {
  const clock = new SimClock(5_000)
  const woken: string[] = []
  void clock.sleep(20).then(() => woken.push(`b ${clock.monotonicMs()}`))
  void clock.sleep(10).then(() => woken.push(`a ${clock.monotonicMs()}`))
  clock.stepWall(-4_000)
  await clock.advance(15)
  expect(woken).toEqual(['a 1010'])
  await clock.advance(5)
  await settle()
  expect([woken, clock.nowMs()]).toEqual([['a 1010', 'b 1020'], 1_020])
})
