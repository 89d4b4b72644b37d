/**
 * Every point at which the power can go: a workload runs once over a recording disk, and each prefix of its operations
 * is crashed, recovered and checked. What was acknowledged by then is there, nothing else is, and recovering again
 * changes not a byte.
 */
import { beforeAll, expect, test } from 'vitest'
import { crc32c } from '../../../shared/crc32c.ts'
import { hasValidCrc } from '../../../shared/record-batch.ts'
import { toOffset } from '../../../shared/types.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import type { TopicStore } from '../../../collector/storage/topic-store.ts'
import type { SealedBatch } from '../../sealed-batch.ts'
import type { DiskOperation } from '../../sim-disk.ts'
import { SimFileSystem } from '../../sim-fs.ts'
import { bodyOf, noise, openRig, readAll, type Rig } from './store-rig.ts'

const TOPIC = 'app'
const SEEDS = [undefined, 1, 2] as const
let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

interface Ack {
  /** Operations that had been done when the answer came. */
  readonly operations: number
  readonly input: SealedBatch
  readonly offset: number
}

/** A position that left the store in an answer. */
interface Told {
  readonly operations: number
  readonly streamId: Buffer
  readonly position: number
}

interface Recording {
  readonly operations: readonly DiskOperation[]
  readonly sent: readonly SealedBatch[]
  readonly acks: readonly Ack[]
  readonly told: readonly Told[]
}

async function record(work: (rig: Rig, send: (...inputs: SealedBatch[]) => Promise<void>) => Promise<void>): Promise<Recording> {
  const rig = await openRig({ zstd, store: smallStore })
  const sent: SealedBatch[] = []
  const acks: Ack[] = []
  const told: Told[] = []
  /** Sent once more while the first is on its way, as a network that doubles does: told is then what is synced. */
  const sendAgain = async (input: SealedBatch): Promise<void> => {
    const result = await rig.store.append({ ...input, batch: Buffer.from(input.batch) })
    if (result.kind !== 'have') throw new Error(`a doubled batch was answered ${result.kind}`)
    told.push({ operations: rig.sim.fs.operations.length, streamId: input.source.streamId, position: result.position })
  }
  await work(rig, async (...inputs) => {
    sent.push(...inputs)
    await Promise.all([
      ...inputs.map(async (input) => {
        const result = await rig.store.append({ ...input, batch: Buffer.from(input.batch) })
        if (result.kind !== 'ok') throw new Error(`${result.kind} in the recording`)
        acks.push({ operations: rig.sim.fs.operations.length, input, offset: result.baseOffset })
      }),
      ...inputs.map(sendAgain),
    ])
  })
  return { operations: [...rig.sim.fs.operations], sent, acks, told }
}

const smallStore = {
  defaults: { partitions: 1, segmentBytes: 4096, segmentAgeMs: 3_600_000, retentionBytes: 12_000, retentionAgeMs: undefined },
}

/** Three streams, groups of several batches, rolls, snapshots, retention, a closed stream. */
async function workload(rig: Rig, send: (...inputs: SealedBatch[]) => Promise<void>): Promise<void> {
  const streams = [1n, 2n, 3n].map((inode) => rig.batch({ inode, path: `/var/log/${inode}.log`, lines: [noise(300, Number(inode))] }))
  await send(...streams)
  for (let round = 0; round < 30; round += 1) {
    const next = streams.map((previous, index) => rig.batch({ previous, lines: [noise(300 + 100 * index, round * 10 + index), `round ${round}`] }))
    // The third stream ends early, so that retention takes its last batch.
    const group = round < 3 ? next : next.slice(0, 2)
    await send(...group)
    streams.splice(0, group.length, ...group)
    if (round === 3) rig.store.streams.close(next[2]?.source.streamId ?? Buffer.alloc(16), streams[2]?.source.end ?? next[0]?.source.end ?? rig.batch().source.end)
    await rig.sim.clock.advance(round % 4 === 3 ? 61_000 : 400)
    await rig.store.maintain()
  }
}

/** The disk after the first `count` operations and a power cut, opened. */
async function recovered(recording: Recording, count: number, seed: number | undefined): Promise<Rig> {
  const fs = SimFileSystem.after(recording.operations, count)
  fs.crash(seed === undefined ? {} : { seed: seed * 7919 + count })
  return openRig({ zstd, fs, store: smallStore })
}

async function checkRecovered(rig: Rig, recording: Recording, count: number): Promise<void> {
  const { store } = rig
  expect(store.alarms()).toEqual([])
  for (const { operations, streamId, position } of recording.told) {
    if (operations <= count) expect(store.streams.get(streamId)?.position ?? -1).toBeGreaterThanOrEqual(position)
  }
  const acked = recording.acks.filter((ack) => ack.operations <= count)
  const state = store.topic(TOPIC)
  if (state === undefined) {
    expect(acked).toEqual([])
    return
  }
  const { logStartOffset } = store.watermarks(TOPIC, 0)
  const { batches, missing } = await readAll(store, TOPIC)
  expect(missing.every(({ toOffset: end }) => end <= logStartOffset)).toBe(true)
  for (const ack of acked) {
    const position = store.streams.get(ack.input.source.streamId)?.position ?? -1
    expect(position).toBeGreaterThanOrEqual(ack.input.source.end)
    const found = batches.find((stored) => stored.baseOffset === ack.offset)
    if (ack.offset >= logStartOffset) expect(found?.body.equals(bodyOf(ack.input.batch))).toBe(true)
  }
  const known = new Set(recording.sent.map((input) => bodyOf(input.batch).toString('latin1')))
  for (const stored of batches) {
    expect(hasValidCrc(stored.batch)).toBe(true)
    expect(known.has(stored.body.toString('latin1'))).toBe(true)
  }
  expect(new Set(batches.map((stored) => stored.baseOffset)).size).toBe(batches.length)
}

type Area = 'append' | 'roll' | 'snapshot' | 'retention' | 'recovery point' | 'other'

/** How many of the operations belong to what: each is a point at which the power can go. */
function pointsByArea(operations: readonly DiskOperation[]): Record<Area, number> {
  const names = new Map<number, string>()
  const points: Record<Area, number> = { append: 0, roll: 0, snapshot: 0, retention: 0, 'recovery point': 0, other: 0 }
  for (const operation of operations) {
    if (operation.kind === 'create') names.set(operation.inode, operation.name)
    const name = 'inode' in operation ? (names.get(operation.inode) ?? '') : 'name' in operation ? operation.name : operation.toName
    points[areaOf(operation, name)] += 1
  }
  return points
}

function areaOf(operation: DiskOperation, name: string): Area {
  if (name.includes('snapshot') || name === 'streams') return 'snapshot'
  if (name.startsWith('recovery-point')) return 'recovery point'
  if (!/^[0-9]{20}\./.test(name) && !/-[0-9]+$/.test(name)) return 'other'
  if (operation.kind === 'unlink') return 'retention'
  return operation.kind === 'write' || (operation.kind === 'syncFile' && name.endsWith('.log')) ? 'append' : 'roll'
}

function digest(rig: Rig): string[] {
  return [...rig.sim.fs.files()].map(([path, bytes]) => `${path} ${bytes.length} ${crc32c(bytes)}`)
}

/** As an agent does: asks for each stream's position and sends what is behind it. */
async function refill(store: TopicStore, recording: Recording): Promise<void> {
  for (const input of recording.sent) {
    const position = store.streams.get(input.source.streamId)?.position ?? 0
    const result = await store.append({ ...input, batch: Buffer.from(input.batch) })
    expect(result.kind).toBe(input.source.start < position ? 'have' : 'ok')
  }
}

test('whatever the power cut leaves, acked batches survive, nothing is invented, and a second recovery changes nothing', async () => {
  const recording = await record(workload)
  expect(recording.operations.length).toBeGreaterThan(250)
  // The workload must do what it is for, and stop in the middle of each of these.
  const points = pointsByArea(recording.operations)
  expect(points.append).toBeGreaterThan(80)
  expect(points.roll).toBeGreaterThan(50)
  expect(points.snapshot).toBeGreaterThan(20)
  expect(points.retention).toBeGreaterThan(20)
  expect(new Set(recording.operations.map((operation) => operation.kind))).toEqual(
    new Set(['create', 'write', 'syncFile', 'syncDirectory', 'rename', 'unlink']),
  )
  for (let count = 0; count <= recording.operations.length; count += 1) {
    // All that was not synced is lost; then some of it, torn.
    for (const seed of [undefined, 1 + (count % 2)]) {
      try {
        const rig = await recovered(recording, count, seed)
        await checkRecovered(rig, recording, count)
        const once = digest(rig)
        rig.sim.fs.crash()
        const again = await rig.reopen()
        expect(digest(again)).toEqual(once)
        if (count % 10 === 0) await refill(again.store, recording)
      } catch (error) {
        throw new Error(`after ${count} operations, seed ${seed}`, { cause: error })
      }
    }
  }
}, 120_000)

test('after kill -9 at any point the page cache is not taken for the disk: a power cut right after recovery loses nothing that was answered', async () => {
  const recording = await record(workload)
  for (let count = 0; count <= recording.operations.length; count += 3) {
    const fs = SimFileSystem.after(recording.operations, count)
    fs.kill()
    const rig = await openRig({ zstd, fs, store: smallStore })
    const answered = [...rig.store.streams.list()].map((state) => [state.source.streamId.toString('hex'), state.position])
    const ends = rig.store.topics().map(({ name }) => rig.store.watermarks(name, 0))
    rig.sim.fs.crash()
    const next = await rig.reopen()
    expect([...next.store.streams.list()].map((state) => [state.source.streamId.toString('hex'), state.position])).toEqual(answered)
    expect(next.store.topics().map(({ name }) => next.store.watermarks(name, 0))).toEqual(ends)
    await checkRecovered(next, recording, count)
  }
}, 60_000)

test('a crash in the middle of recovery leaves something that recovers to the same', async () => {
  const recording = await record(workload)
  const total = recording.operations.length
  let points = 0
  for (const count of [total, total - 7, Math.floor(total / 2), Math.floor(total / 3)]) {
    const before = recording.operations.slice(0, count)
    const openAt = (operations: readonly DiskOperation[], end: (fs: SimFileSystem) => void): Promise<Rig> => {
      const fs = SimFileSystem.after(operations, operations.length)
      end(fs)
      return openRig({ zstd, fs, store: smallStore })
    }
    const first = await openAt(before, (fs) => fs.kill())
    const steps = [...first.sim.fs.operations]
    const expected = (await readAll(first.store, TOPIC)).batches.map((stored) => stored.baseOffset)
    for (let step = 0; step <= steps.length; step += 1) {
      points += 1
      const interrupted = [...before, ...steps.slice(0, step)]
      const killed = await openAt(interrupted, (fs) => fs.kill())
      await checkRecovered(killed, recording, count)
      expect((await readAll(killed.store, TOPIC)).batches.map((stored) => stored.baseOffset)).toEqual(expected)
      // What the interrupted recovery had not synced may be gone, or torn; what was acknowledged before it may not.
      for (const fate of [{}, { seed: 1 + step }]) {
        const rig = await openAt(interrupted, (fs) => fs.crash(fate))
        await checkRecovered(rig, recording, count)
        const once = digest(rig)
        rig.sim.fs.crash()
        expect(digest(await rig.reopen())).toEqual(once)
      }
    }
  }
  expect(points).toBeGreaterThan(50)
}, 60_000)

test('topic deletion and rebirth survive a power cut at any point without giving an offset twice', async () => {
  const recording = await record(async (rig, send) => {
    const first = rig.batch({ lines: ['one', 'two'] })
    await send(first)
    await rig.store.deleteTopic(TOPIC)
    await send(rig.batch({ previous: first, lines: ['three'] }))
  })
  for (let count = 0; count <= recording.operations.length; count += 1) {
    for (const seed of SEEDS) {
      const rig = await recovered(recording, count, seed)
      const acked = recording.acks.filter((ack) => ack.operations <= count)
      for (const ack of acked) {
        expect(rig.store.streams.get(ack.input.source.streamId)?.position ?? -1).toBeGreaterThanOrEqual(ack.input.source.end)
      }
      const position = rig.store.streams.get(recording.sent[0]?.source.streamId ?? Buffer.alloc(16))?.position ?? 0
      const next = recording.sent.find((input) => input.source.start === position)
      if (next !== undefined) {
        const result = await rig.store.append({ ...next, batch: Buffer.from(next.batch) })
        const begin = next === recording.sent[0] ? 0 : 2
        expect(result).toMatchObject({ kind: 'ok', baseOffset: toOffset(begin) })
      }
      expect(rig.store.alarms()).toEqual([])
    }
  }
})

/** The recording of a program that never does this. */
function without(recording: Recording, kind: DiskOperation['kind']): Recording {
  const kept = (count: number): number => recording.operations.slice(0, count).filter((operation) => operation.kind !== kind).length
  return {
    operations: recording.operations.filter((operation) => operation.kind !== kind),
    sent: recording.sent,
    acks: recording.acks.map((ack) => ({ ...ack, operations: kept(ack.operations) })),
    told: [],
  }
}

test.each(['syncFile', 'syncDirectory'] as const)('these checks would catch a store that leaves out every %s', async (kind) => {
  const broken = without(await record(workload), kind)
  const total = broken.operations.length
  const outcomes = await Promise.allSettled(
    [0.25, 0.5, 0.75, 1].map(async (part) => {
      const count = Math.floor(total * part)
      await checkRecovered(await recovered(broken, count, undefined), broken, count)
    }),
  )
  expect(outcomes.some((outcome) => outcome.status === 'rejected')).toBe(true)
})

test('these checks would catch an answer that leaves before the sync', async () => {
  const recording = await record(workload)
  const afterLastWrite = (count: number): number => recording.operations.slice(0, count).findLastIndex(({ kind }) => kind === 'write') + 1
  const early = <T extends { readonly operations: number }>(answers: readonly T[]): T[] => answers.map((each) => ({ ...each, operations: afterLastWrite(each.operations) }))
  const count = afterLastWrite(recording.acks[20]?.operations ?? 0)
  const broken = [{ ...recording, acks: early(recording.acks) }, { ...recording, told: early(recording.told) }]
  await checkRecovered(await recovered(recording, count, undefined), recording, count)
  for (const each of broken) await expect(checkRecovered(await recovered(each, count, undefined), each, count)).rejects.toThrow('expected')
})
