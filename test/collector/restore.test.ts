/** `tailrace-collector restore` on a simulated disk: after it, what was exported counts, and nothing is stored twice. */
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { toAppError } from '../../shared/errors.ts'
import { loadZstd, type Zstd } from '../../shared/zstd.ts'
import { plainBatch, sealedBatch, type SealedBatch } from '../sealed-batch.ts'
import { SimFileSystem } from '../sim-fs.ts'
import { simulate, type Simulation } from '../sim-system.ts'
import { readBack } from './export/tiered-rig.ts'
import { copyTree, DATA, live, loseData, manifests, rebooted, restore, send, setBack, type Life } from './restore-rig.ts'
import { bodyOf, noise } from './storage/store-rig.ts'

let zstd: Zstd
let sim: Simulation
/** Everything that agents ever read, in order; they can send any of it again. */
let sent: SealedBatch[]

beforeAll(async () => {
  zstd = await loadZstd()
})

beforeEach(() => {
  sim = simulate()
  sent = []
})

/** Three files, `rounds` more batches of each. */
async function write(life: Life, rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round += 1) {
    for (const inode of [1n, 2n, 3n]) {
      const previous = sent.findLast(({ source }) => source.inode === inode)
      const next = sealedBatch({ zstd, path: `/var/log/${inode}.log`, inode, lines: [noise(300, sent.length + 1)], ...(previous === undefined ? {} : { previous }) })
      sent.push(next)
      expect(await send(life, [next])).toEqual(['ok'])
    }
  }
}

async function refusalOf(life: Life): Promise<string | undefined> {
  const refusal = life.exporter.refusal()
  await life.close()
  return refusal?.code
}

/** Agents send what is missing; then every batch stands once, in the order of its file, and no exported offset twice. */
async function expectWhole(of: Simulation, plain: readonly Buffer[] = []): Promise<void> {
  const life = await live(of, zstd)
  expect(life.exporter.refusal()).toBeUndefined()
  expect(new Set(await send(life, sent))).not.toContain('expected')
  expect(new Set(await send(life, sent))).toEqual(new Set(['have']))
  await life.exporter.exportNow()
  const { batches, missing } = await readBack(life.readable)
  expect(missing).toEqual([])
  const bodies = batches.map(({ body }) => body.toString('latin1'))
  const expected = [...sent.map(({ batch }) => bodyOf(batch)), ...plain.map(bodyOf)].map((body) => body.toString('latin1'))
  expect([...bodies].sort()).toEqual([...expected].sort())
  for (const inode of [1n, 2n, 3n]) {
    const order = sent.filter(({ source }) => source.inode === inode).map(({ batch }) => bodies.indexOf(bodyOf(batch).toString('latin1')))
    expect(order).toEqual([...order].sort((a, b) => a - b))
  }
  let end = 0
  for (const { baseOffset, nextOffset } of manifests(of.fs, 'app')) {
    expect(baseOffset, 'no offset is exported twice').toBeGreaterThanOrEqual(end)
    end = nextOffset
  }
  await life.close()
}

describe('a data folder that is lost', () => {
  beforeEach(async () => {
    const life = await live(sim, zstd)
    await write(life, 5)
    await life.exporter.exportNow()
    await write(life, 3)
    await life.close()
    await loseData(sim.fs)
  })

  test('takes no lines until it is restored, then goes on behind all that was exported, with nothing stored twice', async () => {
    expect(await refusalOf(await live(sim, zstd))).toBe('RESTORE_REQUIRED')
    const printed = await restore(sim, zstd)
    expect(printed.join('\n')).toContain('app-0: not here, exported up to 15; goes on at offset 15')
    const life = await live(sim, zstd)
    expect(life.store.logEpoch).toBe(2)
    expect(life.store.watermarks('app', 0)).toMatchObject({ localLogStartOffset: 15, logEndOffset: 15 })
    expect(life.store.alarms()).toEqual([])
    expect((await send(life, sent)).filter((kind) => kind === 'ok')).toHaveLength(9)
    await life.close()
    await expectWhole(sim)
  })

  test('a dry run tells the same and leaves the collector refused', async () => {
    const told = await restore(sim, zstd, { isDryRun: true })
    expect(told.at(-1)).toBe('dry run: nothing was restored')
    expect(await refusalOf(await live(sim, zstd))).toBe('RESTORE_REQUIRED')
    const done = await restore(sim, zstd)
    // The collector that was refused has left its own, empty folder behind.
    expect(done.slice(1, 6)).toEqual(told.slice(1, 6))
  })

  test('restored twice it is the same, and a third folder in the same place of the store is refused', async () => {
    await restore(sim, zstd)
    expect((await restore(sim, zstd)).at(-1)).toBe('the folder and the store agree: there is nothing to restore')
    await expectWhole(sim)
    const printed = await restore(sim, zstd)
    expect(printed.at(-1)).toBe('the folder and the store agree: there is nothing to restore')
  })

  test('a store whose collector was alive a moment ago is not taken over unless it is said to be dead', async () => {
    const error = await restore(sim, zstd, { takesOver: false }).then(() => undefined, toAppError)
    expect(error).toMatchObject({ code: 'CONFLICT' })
    expect(error?.hint).toContain('--take-over')
    await sim.clock.advance(181_000)
    await restore(sim, zstd, { takesOver: false })
    await expectWhole(sim)
  })

  test('a manifest that can not be read stops it: positions would be behind', async () => {
    const [path] = [...sim.fs.files().keys()].filter((each) => each.endsWith('.manifest.json'))
    sim.fs.putFile(path ?? '', Buffer.from('{'))
    await expect(restore(sim, zstd)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    expect(await refusalOf(await live(sim, zstd))).toBe('RESTORE_REQUIRED')
  })

  test('an upload without a manifest is moved to quarantine, and its offsets are not given again', async () => {
    const [log] = [...sim.fs.files()].filter(([path]) => path.startsWith('/hdfs/raw/app/') && path.endsWith('.log'))
    const orphan = '00000000000000000015-00000000000000000020-1'
    sim.fs.putFile(`/hdfs/raw/app/p=0/${orphan}.log`, log?.[1] ?? Buffer.alloc(0))
    const [[path, bytes] = ['', Buffer.alloc(0)]] = [...sim.fs.files()].filter(([each]) => each.startsWith('/hdfs/_owner/'))
    sim.fs.putFile(path, Buffer.from(bytes.toString().replace('"app-0":15', '"app-0":20')))
    expect((await restore(sim, zstd)).join('\n')).toContain('exported up to 15; goes on at offset 20')
    expect([...sim.fs.files().keys()].filter((each) => each.includes(orphan)).every((each) => each.startsWith('/hdfs/_quarantine/'))).toBe(true)
    await expectWhole(sim)
  })
})

test('while a collector runs on the folder nothing is restored', async () => {
  const life = await live(sim, zstd)
  await expect(restore(sim, zstd)).rejects.toMatchObject({ code: 'LOCKED' })
  await life.close()
})

test('another cluster\'s records are never mixed with those of the store', async () => {
  const life = await live(sim, zstd)
  await write(life, 2)
  await life.exporter.exportNow()
  await life.close()
  await loseData(sim.fs)
  const other = await live(sim, zstd)
  await other.store.append({ ...(sent[0] ?? sealedBatch({ zstd })), batch: Buffer.from(sent[0]?.batch ?? Buffer.alloc(0)) })
  await other.close()
  await expect(restore(sim, zstd)).rejects.toMatchObject({ code: 'CONFLICT' })
})

describe('an older copy of the data folder', () => {
  /** Exported, then the copy, then more that is exported, and more that is not. */
  async function comeBack(inBetween: (life: Life) => Promise<void> = () => Promise.resolve()): Promise<void> {
    const before = await live(sim, zstd)
    await write(before, 5)
    await before.exporter.exportNow()
    await write(before, 2)
    await inBetween(before)
    await before.close()
    await copyTree(sim.fs, DATA, '/copy')
    const after = await live(sim, zstd)
    await write(after, 6)
    await after.exporter.exportNow()
    await write(after, 2)
    await after.close()
    await setBack(sim.fs, '/copy')
  }

  test('is refused, restored to what was exported since, and nothing of it is stored twice', async () => {
    await comeBack()
    expect(await refusalOf(await live(sim, zstd))).toBe('RESTORE_REQUIRED')
    expect((await restore(sim, zstd)).join('\n')).toContain('app-0: here up to offset 21, exported up to 39; goes on at offset 39')
    await expectWhole(sim)
    // What stood there is kept.
    expect([...sim.fs.files().keys()].some((path) => path.startsWith(`${DATA}/topics/app-0.aside1/`))).toBe(true)
  })

  test('that took other lines since, at offsets that the store holds, keeps them: they are appended again', async () => {
    const plain = plainBatch({ zstd, lines: ['posted after the set-back'] })
    await comeBack()
    const apart = await live(sim, zstd)
    // Its export refuses; a collector without one would have taken these.
    const { baseOffset } = await apart.store.appendPlain({ topic: 'app', partition: 0, batch: Buffer.from(plain) })
    expect(baseOffset).toBe(21)
    await apart.close()
    expect((await restore(sim, zstd)).join('\n')).toContain('app-0: 1 batches that only the old log held were appended again')
    await expectWhole(sim, [plain])
  })

  test('a posted line that was exported before the set-back is not appended again', async () => {
    const plain = plainBatch({ zstd, lines: ['posted before'] })
    await comeBack(async ({ store }) => {
      await store.appendPlain({ topic: 'app', partition: 0, batch: Buffer.from(plain) })
    })
    await restore(sim, zstd)
    await expectWhole(sim, [plain])
  })

  test('a crash anywhere in a restore, with whatever the disk kept of it, is mended by the next one', async () => {
    const plain = plainBatch({ zstd, lines: ['only here'] })
    await comeBack()
    const apart = await live(sim, zstd)
    await apart.store.appendPlain({ topic: 'app', partition: 0, batch: Buffer.from(plain) })
    await apart.close()
    const from = sim.fs.operations.length
    await restore(sim, zstd)
    const operations = [...sim.fs.operations]
    expect(operations.length - from).toBeGreaterThan(50)
    for (let count = from; count <= operations.length; count += 1) {
      for (const seed of [undefined, count]) {
        const fs = SimFileSystem.after(operations, count)
        fs.crash(seed === undefined ? {} : { seed })
        const again = rebooted(fs)
        try {
          // Never does a collector start on half of it.
          const code = await live(again, zstd).then(refusalOf, (error: unknown) => toAppError(error).code)
          if (count < operations.length) expect([undefined, 'RESTORE_REQUIRED']).toContain(code)
          await restore(again, zstd)
          await expectWhole(again, [plain])
        } catch (error) {
          throw new Error(`after ${count - from} operations of ${operations.length - from}, seed ${seed}`, { cause: error })
        }
      }
    }
  }, 120_000)
})
