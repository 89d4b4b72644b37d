/** Discovery on a real folder: what is taken in, and what is told about the rest. */
import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { compileGlobs } from '../../agent/globs.ts'
import { Handles } from '../../agent/handles.ts'
import { LeftOut } from '../../agent/left-out.ts'
import { initialPace } from '../../agent/pace.ts'
import { SourceFile } from '../../agent/source-file.ts'
import { Watcher } from '../../agent/watcher.ts'
import { nodeFileSystem } from '../../shared/node/file-system.ts'
import type { System } from '../../shared/system.ts'
import { simulate } from '../sim-system.ts'
import { testConfig } from './agent-rig.ts'

let directory: string
let system: System
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tailrace-watcher-'))
  system = { ...simulate().system, fs: nodeFileSystem() }
})
afterEach(async () => {
  await rm(directory, { recursive: true, force: true })
})

function watcher(globs: readonly string[], options: { exclude?: readonly string[]; followSymlinks?: boolean } = {}): Watcher {
  const [input] = testConfig({ input: { files: globs.map((glob) => join(directory, glob)), ...options } }).inputs
  if (input === undefined) throw new Error('no input')
  return new Watcher(system, [compileGlobs(input)])
}

async function names(of: Watcher): Promise<string[]> {
  const { files } = await of.sweep()
  return files.map(({ path }) => path.slice(directory.length + 1)).sort()
}

async function put(...paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await mkdir(join(directory, path, '..'), { recursive: true })
    await writeFile(join(directory, path), 'x\n')
  }
}

describe('globs', () => {
  test('** spans directories, * does not', async () => {
    await put('a.log', 'one/b.log', 'one/two/c.log', 'one/two/c.txt')
    expect(await names(watcher(['**/*.log']))).toEqual(['a.log', 'one/b.log', 'one/two/c.log'])
    expect(await names(watcher(['*/*.log']))).toEqual(['one/b.log'])
    expect(await names(watcher(['{a,one/b}.log']))).toEqual(['a.log', 'one/b.log'])
  })

  test('a path without wildcards is a glob too, and a file that two globs match is found once', async () => {
    await put('a.log')
    expect(await names(watcher(['a.log', '*.log']))).toEqual(['a.log'])
  })

  test('exclusions are matched against the name, or the path where they hold a slash', async () => {
    await put('a.log', 'a.log.gz', 'old/b.log', 'wtmp')
    expect(await names(watcher(['**/*'], { exclude: ['*.gz', 'wtmp', '**/old/**'] }))).toEqual(['a.log'])
  })

  test('a directory that is missing is awaited at its nearest ancestor', async () => {
    const { directories, files } = await watcher(['late/er/*.log']).sweep()
    expect(files).toEqual([])
    expect(directories).toEqual([directory])
  })

  test('a new name is noticed without looking at every file', async () => {
    await put('a.log')
    const some = watcher(['*.log'])
    await some.sweep()
    expect(await some.hasChanged()).toBe(false)
    await put('b.log')
    // Both may fall into one tick of the kernel's clock: here the folder's time is certainly another.
    const another = new Date(Date.UTC(2026, 1, 1))
    await utimes(directory, another, another)
    expect(await some.hasChanged()).toBe(true)
  })
})

describe('what exclusions keep back', () => {
  test('is told with the pattern that does, and what no glob wanted is not', async () => {
    await put('a.log', 'a.log.gz', 'old/b.log', 'b.gz')
    const { leftOut } = await watcher(['**/*.log*'], { exclude: ['*.gz', '**/old/**'] }).sweep()
    expect(leftOut.paths.map(({ path, reason }) => [path.slice(directory.length + 1), reason]).toSorted(([a = ''], [b = '']) => (a < b ? -1 : 1))).toEqual([
      ['a.log.gz', 'excluded by *.gz'],
      ['old/b.log', 'excluded by **/old/**'],
    ])
    expect(leftOut.unlisted).toBe(0)
  })

  test('is listed a thousand times at most, then counted, and does not crowd out other reasons', () => {
    const leftOut = new LeftOut()
    for (let count = 0; count < 1500; count += 1) leftOut.addExcluded({ path: `/log/${count}.gz`, topic: 'app' }, '*.gz')
    leftOut.add({ path: '/log/pipe', topic: 'app', reason: 'it is a FIFO' })
    expect(leftOut.paths).toHaveLength(1001)
    expect(leftOut.paths.at(-1)?.reason).toBe('it is a FIFO')
    expect(leftOut.unlisted).toBe(500)
  })
})

describe('what is no regular file', () => {
  test('a FIFO is told and never opened in a way that blocks', async () => {
    execFileSync('mkfifo', [join(directory, 'pipe.log')])
    await put('a.log')
    const { files, leftOut } = await watcher(['*.log']).sweep()
    expect(files).toHaveLength(1)
    expect(leftOut.paths).toEqual([{ path: join(directory, 'pipe.log'), topic: 'app', reason: 'it is a FIFO' }])
  })

  test('a FIFO that takes the place of a file between two looks is refused by its descriptor', async () => {
    await put('a.log')
    const [found] = (await watcher(['*.log']).sweep()).files
    if (found === undefined) throw new Error('not found')
    await rm(found.path)
    execFileSync('mkfifo', [found.path])
    const handles = new Handles(system, 16)
    const file = new SourceFile({ ...found, device: found.stat.device, nowMs: 0, pace: initialPace({ lingerMs: 20, lingerMsMax: 250 }) })
    await expect(handles.of(file)).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  test('a symbolic link is told, and followed only when that is wanted', async () => {
    await put('target/a.txt')
    await symlink(join(directory, 'target/a.txt'), join(directory, 'link.log'))
    const refused = await watcher(['*.log']).sweep()
    expect(refused.files).toEqual([])
    expect(refused.leftOut.paths[0]?.reason).toMatch(/symbolic link/)
    const followed = await watcher(['*.log'], { followSymlinks: true }).sweep()
    expect(followed.files[0]).toMatchObject({ path: join(directory, 'link.log'), openPath: join(directory, 'target/a.txt') })
  })

  test('a link to a directory above itself does not make the walk endless', async () => {
    await put('one/a.log')
    await symlink(directory, join(directory, 'one/loop'))
    expect(await names(watcher(['**/*.log'], { followSymlinks: true }))).toEqual(['one/a.log'])
  })

  test('a link that leads nowhere is told', async () => {
    await symlink(join(directory, 'nothing'), join(directory, 'link.log'))
    const { files, leftOut } = await watcher(['*.log'], { followSymlinks: true }).sweep()
    expect(files).toEqual([])
    expect(leftOut.paths).toEqual([{ path: join(directory, 'link.log'), topic: 'app', reason: 'its target: it is gone' }])
  })

  test('a directory that matches is told, unless the glob is for whole trees', async () => {
    await mkdir(join(directory, 'dir.log'))
    expect((await watcher(['*.log']).sweep()).leftOut.paths).toEqual([{ path: join(directory, 'dir.log'), topic: 'app', reason: 'it is a directory' }])
    expect((await watcher(['**/*']).sweep()).leftOut.paths).toEqual([])
  })
})
