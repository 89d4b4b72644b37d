/** The rotation matrix, part two: files that are hard to tell apart. Each row of the table in agent/README.md is a test. */
import { copyFileSync, renameSync, unlinkSync } from 'node:fs'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
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

function world(globs: readonly string[], options: ConstructorParameters<typeof RotationRig>[2] = {}): RotationRig {
  rig = new RotationRig(zstd, globs, options)
  return rig
}

const noBirthTimes = { birthtimeNs: 0n } as const

describe('inodes', () => {
  test.each([['with', false], ['without', true]])('used again at once, %s birth times: two streams', async (_how, isBirthless) => {
    const files = world(['app.log'])
    files.see = (stat, path) => (path.endsWith('app.log') ? { ...stat, inode: 77n, ...(isBirthless ? noBirthTimes : {}) } : stat)
    files.write('app.log', lines('first'))
    await files.start()
    await files.stop()
    unlinkSync(files.path('app.log'))
    files.write('app.log', lines('second', 60))
    await files.start()
    await files.pass(15_000)
    expect(files.stored).toEqual([lines('first'), lines('second', 60)])
  })

  test('equal on two file systems that have no birth times: two files, each whole, also after a restart', async () => {
    const files = world(['*/app.log'])
    files.see = (stat, path) => (path.endsWith('app.log') ? { ...stat, inode: 12n, device: path.includes('/disk-a/') ? 1n : 2n, ...noBirthTimes } : stat)
    for (const name of ['a', 'b']) {
      files.directory(`disk-${name}`)
      files.write(`disk-${name}/app.log`, lines(name))
    }
    await files.start()
    await files.pass(3000)
    await files.stop()
    for (const name of ['a', 'b']) files.append(`disk-${name}/app.log`, `more of ${name}\n`)
    await files.start()
    await files.pass(15_000)
    expect(files.stored.sort()).toEqual([`${lines('a')}more of a\n`, `${lines('b')}more of b\n`])
  })

  test('a file system without birth times and without events: followed by the sweep, rotation included', async () => {
    const files = world(['app.log'], { config: { isWatching: false } })
    files.see = (stat) => ({ ...stat, ...noBirthTimes })
    files.write('app.log', lines('one'))
    await files.start()
    files.append('app.log', 'unread\n')
    renameSync(files.path('app.log'), files.path('app.log.1'))
    files.write('app.log', lines('two'))
    await files.pass(5000)
    await files.stop()
    files.append('app.log', 'while down\n')
    renameSync(files.path('app.log.1'), files.path('app.log.2'))
    renameSync(files.path('app.log'), files.path('app.log.1'))
    files.write('app.log', lines('three'))
    await files.start()
    await files.pass(15_000)
    files.copyTruncate('app.log', 'app.log.0')
    files.append('app.log', lines('four'))
    await files.pass(45_000)
    expect(files.stored).toEqual([`${lines('one')}unread\n`, `${lines('two')}while down\n`, lines('three'), lines('four')])
  })
})

describe('contents that begin alike', () => {
  test('two files with the same first 4 KiB are two streams', async () => {
    const files = world(['*.log'])
    const head = lines('the same', 100)
    files.write('a.log', `${head}of a\n`)
    files.write('b.log', `${head}of b\n`)
    await files.start()
    files.append('a.log', 'more of a\n')
    await files.pass(45_000)
    expect(files.stored.sort()).toEqual([`${head}of a\nmore of a\n`, `${head}of b\n`])
  })

  test('two files that are equal to the last byte, with names of their own, are both shipped', async () => {
    const files = world(['*.log'])
    files.write('a.log', lines('equal'))
    files.write('b.log', lines('equal'))
    await files.start()
    await files.pass(45_000)
    expect(files.stored).toEqual([lines('equal'), lines('equal')])
  })

  test('a new file whose head equals all that a deleted one held: a new stream from 0', async () => {
    const files = world(['*.log'])
    const whole = lines('equal')
    files.write('gone.log', whole)
    await files.start()
    await files.pass(3000)
    unlinkSync(files.path('gone.log'))
    await files.pass(20_000)
    files.write('new.log', `${whole}and more\n`)
    await files.pass(15_000)
    expect(files.stored).toEqual([whole, `${whole}and more\n`])
  })

  test('a file restored from a backup under its name: goes on where its stream ended', async () => {
    const files = world(['app.log'])
    files.write('app.log', lines('all'))
    await files.start()
    copyFileSync(files.path('app.log'), files.path('backup'))
    unlinkSync(files.path('app.log'))
    await files.pass(20_000)
    copyFileSync(files.path('backup'), files.path('app.log'))
    files.append('app.log', 'and on\n')
    await files.pass(45_000)
    expect(files.stored).toEqual([`${lines('all')}and on\n`])
  })

  test('an older backup, shorter than what was shipped: a stream of its own, nothing is skipped', async () => {
    const files = world(['app.log'])
    files.write('app.log', lines('first'))
    await files.start()
    copyFileSync(files.path('app.log'), files.path('backup'))
    files.append('app.log', lines('second'))
    await files.pass(3000)
    unlinkSync(files.path('app.log'))
    await files.pass(20_000)
    copyFileSync(files.path('backup'), files.path('app.log'))
    files.append('app.log', 'another second\n')
    await files.pass(45_000)
    expect(files.stored).toEqual([lines('first') + lines('second'), `${lines('first')}another second\n`])
  })
})

describe('small files', () => {
  test('shorter than 1 KiB and growing, over a restart: one stream', async () => {
    const files = world(['app.log'])
    files.write('app.log', 'a\n')
    await files.start()
    for (let count = 0; count < 5; count += 1) {
      files.append('app.log', `line ${count}\n`)
      await files.pass(1000)
    }
    await files.stop()
    files.append('app.log', lines('and past 1 KiB'))
    await files.start()
    await files.pass(15_000)
    expect(files.stored).toEqual([`a\nline 0\nline 1\nline 2\nline 3\nline 4\n${lines('and past 1 KiB')}`])
  })

  test('shorter than 1 KiB and renamed while the agent was down: known by its inode', async () => {
    const files = world(['app.log'])
    files.write('app.log', 'a\n')
    await files.start()
    await files.stop()
    files.append('app.log', 'b\n')
    renameSync(files.path('app.log'), files.path('app.log.1'))
    files.write('app.log', 'c\n')
    await files.start()
    await files.pass(30_000)
    expect(files.stored.sort()).toEqual(['a\nb\n', 'c\n'])
  })

  test('empty, then written, emptied again, and deleted: one stream for what it held', async () => {
    const files = world(['app.log'])
    files.write('app.log', '')
    await files.start()
    await files.pass(3000)
    expect(files.stored).toEqual([])
    files.append('app.log', 'one\n')
    await files.pass(3000)
    files.write('app.log', '')
    await files.pass(3000)
    unlinkSync(files.path('app.log'))
    await files.pass(30_000)
    expect(files.stored).toEqual(['one\n'])
  })
})
