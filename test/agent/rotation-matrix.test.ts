/** The rotation matrix, part one: what rotation and writers do. Each row of the table in agent/README.md is a test here. */
import { gzipSync } from 'node:zlib'
import { closeSync, copyFileSync, openSync, readFileSync, renameSync, rmSync, symlinkSync, truncateSync, unlinkSync, writeSync } from 'node:fs'
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

describe('rename', () => {
  test('in glob: one stream, found again under its new name, and late lines follow', async () => {
    const files = world(['app*'])
    files.write('app.log', lines('old'))
    await files.start()
    renameSync(files.path('app.log'), files.path('app.log.1'))
    files.append('app.log', lines('new'))
    files.append('app.log.1', 'late\n')
    await files.pass(45_000)
    files.append('app.log.1', 'later\n')
    await files.pass(15_000)
    expect(files.stored).toEqual([`${lines('old')}late\nlater\n`, lines('new')])
  })

  test('out of glob: read to its end through its descriptor, then closed', async () => {
    const files = world(['app.log'])
    files.write('app.log', lines('old'))
    await files.start()
    files.append('app.log', 'unread\n')
    renameSync(files.path('app.log'), files.path('app.log-2026'))
    await files.pass(1500)
    files.append('app.log-2026', 'late\n')
    files.append('app.log', lines('new'))
    await files.pass(20_000)
    expect(files.stored).toEqual([`${lines('old')}unread\nlate\n`, lines('new')])
    expect(files.streams.map(({ isOpen }) => isOpen)).toEqual([false, true])
  })

  test('faster than anyone looks, while the collector is away: the files between are found', async () => {
    const files = world(['app.log'])
    files.write('app.log', lines('rotation 0'))
    await files.start()
    files.collector.isDown = true
    for (let rotation = 1; rotation <= 6; rotation += 1) {
      for (let number = rotation - 1; number >= 1; number -= 1) renameSync(files.path(`app.log.${number}`), files.path(`app.log.${number + 1}`))
      renameSync(files.path('app.log'), files.path('app.log.1'))
      files.write('app.log', lines(`rotation ${rotation}`))
      if (rotation % 3 === 0) await files.pass(2000)
    }
    files.collector.isDown = false
    await files.pass(40_000)
    expect(new Set(files.stored)).toEqual(new Set([0, 1, 2, 3, 4, 5, 6].map((rotation) => lines(`rotation ${rotation}`))))
    expect(files.stored).toHaveLength(7)
  })

  test('a log that appears and is renamed before anyone has looked: whole, whatever it is called by then', async () => {
    const files = world(['app.log'])
    files.write('app.log.9', lines('from before'))
    await files.start()
    files.letKernelClockStep()
    files.write('app.log', lines('first'))
    renameSync(files.path('app.log'), files.path('app.log.1'))
    files.write('app.log', lines('second'))
    await files.pass(15_000)
    expect(files.stored.sort()).toEqual([lines('first'), lines('second')].sort())
  })

  test.each([1, 2, 3])('while the agent was down, %i times: every file is completed, old ones from before are left alone', async (rotations) => {
    const files = world(['app.log'])
    files.write('app.log.9', lines('from before'))
    files.letKernelClockStep()
    files.write('app.log', lines('rotation 0'))
    await files.start()
    await files.stop()
    files.append('app.log', 'unread\n')
    const expected = [`${lines('rotation 0')}unread\n`]
    for (let rotation = 1; rotation <= rotations; rotation += 1) {
      for (let number = rotation - 1; number >= 1; number -= 1) renameSync(files.path(`app.log.${number}`), files.path(`app.log.${number + 1}`))
      renameSync(files.path('app.log'), files.path('app.log.1'))
      files.write('app.log', lines(`rotation ${rotation}`))
      expected.push(lines(`rotation ${rotation}`))
    }
    await files.start()
    await files.pass(40_000)
    expect(files.stored.sort()).toEqual(expected.sort())
  })
})

describe('copytruncate', () => {
  test('the copy out of the glob carries on what was not read, and the file goes on as a new generation', async () => {
    const files = world(['app.log'])
    files.write('app.log', lines('one'))
    await files.start()
    files.append('app.log', lines('tail'))
    files.copyTruncate('app.log', 'app.log.1')
    files.append('app.log', lines('two'))
    await files.pass(45_000)
    expect(files.stored).toEqual([lines('one') + lines('tail'), lines('two')])
    expect(files.streams.map(({ source, isSuperseded }) => [source.generation, isSuperseded])).toEqual([[1, true], [2, false]])
  })

  test.each([1, 2, 3])('while the agent was down, %i times: nothing is lost and nothing doubled', async (rotations) => {
    const files = world(['app.log'])
    files.write('app.log.9', lines('from before'))
    files.letKernelClockStep()
    files.write('app.log', lines('rotation 0'))
    await files.start()
    await files.stop()
    files.append('app.log', 'unread\n')
    const expected = [`${lines('rotation 0')}unread\n`]
    for (let rotation = 1; rotation <= rotations; rotation += 1) {
      for (let number = rotation - 1; number >= 1; number -= 1) renameSync(files.path(`app.log.${number}`), files.path(`app.log.${number + 1}`))
      files.copyTruncate('app.log', 'app.log.1')
      files.append('app.log', lines(`rotation ${rotation}`))
      expected.push(lines(`rotation ${rotation}`))
    }
    await files.start()
    await files.pass(45_000)
    expect(files.stored.sort()).toEqual(expected.sort())
  })

  test.each([
    { what: 'their copies are opened in time', keep: 2 },
    { what: 'their copies are found afterwards', keep: 9 },
  ])('again and again while the collector is away: $what', async ({ keep }) => {
    const files = world(['app.log'])
    files.write('app.log', lines('rotation 0'))
    await files.start()
    files.collector.isDown = true
    for (let rotation = 1; rotation <= 4; rotation += 1) {
      if (rotation > keep) unlinkSync(files.path(`app.log.${keep}`))
      for (let number = Math.min(rotation, keep) - 1; number >= 1; number -= 1) renameSync(files.path(`app.log.${number}`), files.path(`app.log.${number + 1}`))
      files.copyTruncate('app.log', 'app.log.1')
      files.append('app.log', lines(`rotation ${rotation}`))
      await files.pass(keep < 4 || rotation === 1 ? 2000 : 10)
    }
    files.collector.isDown = false
    await files.pass(45_000)
    expect(files.stored.sort()).toEqual([0, 1, 2, 3, 4].map((rotation) => lines(`rotation ${rotation}`)).sort())
  })

  test('with both in the glob: the copy is not shipped again', async () => {
    const files = world(['app*'])
    files.write('app.log', lines('one'))
    await files.start()
    copyFileSync(files.path('app.log'), files.path('app.log.1'))
    await files.pass(3000)
    truncateSync(files.path('app.log'))
    files.append('app.log', lines('two'))
    await files.pass(60_000)
    expect(files.stored).toEqual([lines('one'), lines('two')])
  })

  test('shrunk and grown past the old position between two looks: seen by the bytes before the position', async () => {
    const files = world(['app.log'], { config: { sweepMs: 5000 } })
    files.write('app.log', lines('one'))
    await files.start()
    files.write('app.log', lines('two', 200))
    await files.pass(30_000)
    expect(files.stored).toEqual([lines('one'), lines('two', 200)])
  })

  test('a banner file that is truncated and rewritten alike: each content from 0 when the cut was seen', async () => {
    const files = world(['app.log'])
    const banner = `${'='.repeat(50)}\napp 1.0 starting\n`
    files.write('app.log', banner)
    await files.start()
    truncateSync(files.path('app.log'))
    await files.pass(3000)
    files.append('app.log', `${banner}a line of the second run\n`)
    await files.pass(15_000)
    expect(files.stored).toEqual([banner, `${banner}a line of the second run\n`])
  })

  test('a writer without O_APPEND leaves a head of NUL bytes: shipped as it stands', async () => {
    const files = world(['app.log'])
    const descriptor = openSync(files.path('app.log'), 'w')
    writeSync(descriptor, lines('one'))
    await files.start()
    truncateSync(files.path('app.log'))
    await files.pass(3000)
    // The writer's own position is still where it was.
    writeSync(descriptor, lines('two'))
    closeSync(descriptor)
    await files.pass(45_000)
    expect(files.stored).toEqual([lines('one'), '\0'.repeat(lines('one').length) + lines('two')])
  })
})

describe('what is made of rotated files', () => {
  test('compressed after it was read: the .gz is not shipped, the bytes were', async () => {
    const files = world(['app*'])
    files.write('app.log', lines('old'))
    await files.start()
    renameSync(files.path('app.log'), files.path('app.log.1'))
    files.append('app.log', lines('new'))
    await files.pass(3000)
    files.write('app.log.1.gz', gzipSync(readFileSync(files.path('app.log.1'))))
    unlinkSync(files.path('app.log.1'))
    await files.pass(45_000)
    expect(files.stored).toEqual([lines('old'), lines('new')])
    expect(files.metric('tailrace_agent_lost_bytes_total')).toBe(0)
  })

  test('compressed while the collector was away: the descriptor still has the bytes', async () => {
    const files = world(['app.log'])
    files.write('app.log', lines('old'))
    await files.start()
    files.collector.isDown = true
    files.append('app.log', 'unread\n')
    renameSync(files.path('app.log'), files.path('app.log.1'))
    await files.pass(3000)
    files.write('app.log.1.gz', gzipSync(readFileSync(files.path('app.log.1'))))
    unlinkSync(files.path('app.log.1'))
    await files.pass(20_000)
    files.collector.isDown = false
    await files.pass(40_000)
    expect(files.stored).toEqual([`${lines('old')}unread\n`])
  })

  test('deleted while open: read to its end, an unfinished line too', async () => {
    const files = world(['app.log'])
    files.write('app.log', lines('old'))
    await files.start()
    files.append('app.log', 'last words\nand half a line')
    unlinkSync(files.path('app.log'))
    await files.pass(60_000)
    expect(files.stored).toEqual([`${lines('old')}last words\nand half a line`])
    expect(files.streams.map(({ isOpen }) => isOpen)).toEqual([false])
  })

  test('the directory replaced by another: both files whole', async () => {
    const files = world(['logs/*.log'])
    files.directory('logs')
    files.write('logs/app.log', lines('first'))
    await files.start()
    files.append('logs/app.log', 'unread\n')
    renameSync(files.path('logs'), files.path('logs.old'))
    files.directory('logs')
    files.write('logs/app.log', lines('second'))
    await files.pass(45_000)
    expect(files.stored).toEqual([`${lines('first')}unread\n`, lines('second')])
  })

  test('a symlink switched to the next file: both whole, the first to its end', async () => {
    const files = world(['current.log'], { input: { followSymlinks: true } })
    files.write('app-1', lines('first'))
    symlinkSync('app-1', files.path('current.log'))
    await files.start()
    files.append('app-1', 'unread\n')
    files.write('app-2', lines('second'))
    rmSync(files.path('current.log'))
    symlinkSync('app-2', files.path('current.log'))
    await files.pass(45_000)
    expect(files.stored).toEqual([`${lines('first')}unread\n`, lines('second')])
  })
})
