import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { createFileStore } from '../../../collector/export/file-store.ts'
import { bufferSource } from '../../../collector/export/remote-store.ts'
import { nodeFileSystem } from '../../../shared/node/file-system.ts'
import { SimFileSystem } from '../../sim-fs.ts'
import { codeOf, describeRemoteStore } from './remote-store-contract.ts'

const folders: string[] = []

afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true })
})

describe('a file store on a real disk', () => {
  describeRemoteStore(async () => {
    const folder = await mkdtemp(join(tmpdir(), 'tailrace-store-'))
    folders.push(folder)
    return { store: createFileStore(nodeFileSystem(), join(folder, 'made', 'on', 'use')) }
  })
})

describe('a file store on a simulated disk', () => {
  test('what was put and renamed survives a power cut right after the answer', async () => {
    const fs = new SimFileSystem()
    const store = createFileStore(fs, '/store')
    await store.makeDirectories('raw/app')
    await store.put('raw/app/temp', bufferSource(Buffer.from('content')))
    expect(await store.rename('raw/app/temp', 'raw/app/final')).toBe(true)
    fs.crash()
    expect(await store.stat('raw/app/final')).toMatchObject({ lengthBytes: 7 })
    expect(await store.stat('raw/app/temp')).toBeUndefined()
  })

  test('what was put survives a power cut right after the answer, and what was removed stays away', async () => {
    const fs = new SimFileSystem()
    const store = createFileStore(fs, '/store')
    await store.makeDirectories('raw/app')
    await store.put('raw/app/first', bufferSource(Buffer.from('content')))
    fs.crash()
    expect(await store.stat('raw/app/first')).toMatchObject({ lengthBytes: 7 })
    expect(await store.remove('raw/app/first')).toBe(true)
    fs.crash()
    expect(await store.stat('raw/app/first')).toBeUndefined()
  })

  test('what matches survives a power cut, also when a process was killed before it synced the name', async () => {
    const fs = new SimFileSystem()
    const store = createFileStore(fs, '/store')
    await store.makeDirectories('raw/app')
    await store.put('raw/app/temp', bufferSource(Buffer.from('content')))
    await fs.rename('/store/raw/app/temp', '/store/raw/app/final')
    fs.kill()
    const sha256 = createHash('sha256').update('content').digest('hex')
    expect(await store.matches('raw/app/final', { lengthBytes: 7, sha256 })).toBe('same')
    fs.crash()
    expect(await store.stat('raw/app/final')).toMatchObject({ lengthBytes: 7 })
  })

  test('a full disk is DISK_FULL, also where a write is short without an error', async () => {
    const fs = new SimFileSystem()
    const store = createFileStore(fs, '/store')
    await store.makeDirectories('')
    fs.inject = (call) => (call.kind === 'write' ? { written: 3 } : undefined)
    expect(await codeOf(store.put('a', bufferSource(Buffer.from('content'))))).toBe('DISK_FULL')
    fs.inject = (call) => (call.kind === 'write' ? { errno: 'ENOSPC' } : undefined)
    expect(await codeOf(store.put('b', bufferSource(Buffer.from('content'))))).toBe('DISK_FULL')
  })

  test('a path that leaves the folder is refused', async () => {
    const store = createFileStore(new SimFileSystem(), '/store')
    expect(await codeOf(Promise.resolve().then(() => store.stat('raw/../../etc/passwd')))).toBe('BAD_REQUEST')
  })
})
