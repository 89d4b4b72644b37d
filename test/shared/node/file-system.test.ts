import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { nodeFileSystem } from '../../../shared/node/file-system.ts'

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tailrace-fs-'))
})

afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

test('a folder is made with its parents, and making it again changes nothing', async () => {
  const fs = nodeFileSystem()
  await Promise.all([fs.makeDirectory(join(folder, 'a/b/c')), fs.makeDirectory(join(folder, 'a/b/c'))])
  await fs.makeDirectory(join(folder, 'a/b/c'))
  expect((await stat(join(folder, 'a/b/c'))).isDirectory()).toBe(true)
})

test('a folder that can not be made is an error, never a wait', async () => {
  const fs = nodeFileSystem()
  await writeFile(join(folder, 'file'), '')
  await expect(fs.makeDirectory(join(folder, 'file/below'))).rejects.toMatchObject({ code: 'ENOTDIR' })
  await expect(fs.makeDirectory('/proc/tailrace/below')).rejects.toMatchObject({ code: expect.stringMatching(/^E/) as string })
})

test('a private file is for its owner alone, whatever the folder allows', async () => {
  const fs = nodeFileSystem()
  const handle = await fs.open(join(folder, 'secret'), 'create', 0o600)
  await handle.close()
  expect((await fs.stat(join(folder, 'secret')))?.mode).toBe(0o600)
})
