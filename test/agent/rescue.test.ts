/** The search among siblings where an inode went from one rotated file to another: on real files, inodes put over the kernel's. */
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { compileGlobs } from '../../agent/globs.ts'
import { Handles } from '../../agent/handles.ts'
import { Registry } from '../../agent/registry.ts'
import { rescue } from '../../agent/rescue.ts'
import type { SourceFile } from '../../agent/source-file.ts'
import { Watcher } from '../../agent/watcher.ts'
import { nodeFileSystem } from '../../shared/node/file-system.ts'
import type { FileStat, System } from '../../shared/system.ts'
import { overridden } from '../overridden.ts'
import { simulate } from '../sim-system.ts'
import { testConfig } from './agent-rig.ts'

const REUSED = 4711n
let folder: string
let system: System
/** Birth time by path of the files that have the inode, one after the other. */
let births: Map<string, bigint>
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tailrace-rescue-'))
  births = new Map()
  const fs = nodeFileSystem()
  const see = (stat: FileStat, path: string): FileStat => {
    const birthtimeNs = births.get(path.slice(folder.length + 1))
    return birthtimeNs === undefined ? stat : { ...stat, inode: REUSED, birthtimeNs }
  }
  system = {
    ...simulate().system,
    fs: {
      ...fs,
      stat: async (path, options) => {
        const found = await fs.stat(path, options)
        return found === undefined ? undefined : see(found, path)
      },
      open: async (path, mode, permissions) => {
        const handle = await fs.open(path, mode, permissions)
        return overridden(handle, { stat: async () => see(await handle.stat(), path) })
      },
    },
  }
  for (const name of ['old', 'new']) {
    await mkdir(join(folder, name))
    await writeFile(join(folder, name, 'app.log'), `${name}\n`)
  }
})
afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

/** An agent that follows both, and took in what rotation left of the old one without opening it. */
async function followed(): Promise<{ registry: Registry; rotated: SourceFile; search: (directory: string) => Promise<readonly SourceFile[]> }> {
  const config = testConfig({ input: { files: ['old', 'new'].map((name) => join(folder, name, 'app.log')) } })
  const watcher = new Watcher(system, config.inputs.map((input) => compileGlobs(input)))
  const registry = new Registry({ lingerMs: 20, lingerMsMax: 250 })
  registry.reconcile((await watcher.sweep()).files, 0)
  const search = (directory: string): Promise<readonly SourceFile[]> =>
    rescue({ system, registry, watcher, inputs: config.inputs, known: () => [] }, { directories: new Set([join(folder, directory)]), lost: [] })
  await writeFile(join(folder, 'old/app.log.1'), 'rotated\n')
  births.set('old/app.log.1', 1000n)
  await search('old')
  const rotated = [...registry.files].find(({ path }) => path.endsWith('old/app.log.1'))
  if (rotated === undefined) throw new Error('the rotated file was not taken in')
  return { registry, rotated, search }
}

test('a rotated file that was removed unopened gives way to the one that got its inode', async () => {
  const { registry, rotated, search } = await followed()
  await rm(join(folder, 'old/app.log.1'))
  await writeFile(join(folder, 'new/app.log.1'), 'of the other program\n')
  births.set('new/app.log.1', 2000n)
  expect(await search('new')).toEqual([rotated])
  const now = [...registry.files].filter(({ inode }) => inode === REUSED)
  expect(now).toMatchObject([{ path: join(folder, 'new/app.log.1'), keyPath: join(folder, 'new/app.log'), birthtimeNs: 2000n }])
  expect(registry.has(rotated)).toBe(false)
})

test('a rotated file that is renamed once more stays the same', async () => {
  const { registry, rotated, search } = await followed()
  await rename(join(folder, 'old/app.log.1'), join(folder, 'old/app.log.2'))
  births.set('old/app.log.2', 1000n)
  expect(await search('old')).toEqual([])
  expect(registry.has(rotated)).toBe(true)
  expect(rotated.path).toBe(join(folder, 'old/app.log.2'))
})

test('a name that was given to a file with the same inode and another birth time opens nothing', async () => {
  const { rotated } = await followed()
  births.set('old/app.log.1', 2000n)
  const handles = new Handles(system, 10)
  await expect(handles.of(rotated)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  births.set('old/app.log.1', 1000n)
  await handles.of(rotated)
  await handles.closeAll()
})
