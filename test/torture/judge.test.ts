/** The judge itself, on verdicts that are known: one that can't find a lost, a doubled or a mixed line proves nothing. */
import { beforeAll, describe, expect, test } from 'vitest'
import { patchBatch } from '../../shared/record-batch.ts'
import { toOffset } from '../../shared/types.ts'
import { loadZstd, type Zstd } from '../../shared/zstd.ts'
import { sealedBatch, type SealedBatch } from '../sealed-batch.ts'
import { ContentFactory } from './content.ts'
import { Judge, type Verdict } from './judge.ts'
import { Ledger } from './ledger.ts'

let zstd: Zstd
beforeAll(async () => {
  zstd = await loadZstd()
})

interface Piece {
  readonly file: string
  readonly bytes: Buffer
  readonly inode: bigint
}

/** What was written is two files of 100 lines each; what came out are the pieces. */
function judge(pieces: (written: { a: Buffer; b: Buffer }) => readonly Piece[], prepare: (ledger: Ledger) => void = () => undefined): Verdict {
  const ledger = new Ledger()
  const contents = new ContentFactory(7)
  const written = { a: Buffer.alloc(0), b: Buffer.alloc(0) }
  for (const file of ['a', 'b'] as const) {
    const incarnation = ledger.begin({ file, flavour: 'plain', agent: 'agent' }, 1)
    const content = contents.open({ file, number: 1, flavour: 'plain' })
    written[file] = Buffer.concat(Array.from({ length: 100 }, () => content.nextLine()))
    incarnation.bytes = written[file].length
  }
  prepare(ledger)
  const view = new Judge({ view: 'test', ledger, contents, zstd })
  const last = new Map<bigint, SealedBatch>()
  let offset = 0
  for (const { file, bytes, inode } of pieces(written)) {
    const previous = last.get(inode)
    const sealed = sealedBatch({ zstd, source: bytes, path: file, inode, ...(previous === undefined ? {} : { previous }) })
    last.set(inode, sealed)
    patchBatch(sealed.batch, { baseOffset: toOffset(offset), leaderEpoch: 0 })
    offset += sealed.recordCount
    view.take('topic-0', sealed.batch)
  }
  return view.verdict()
}

const whole = ({ a, b }: { a: Buffer; b: Buffer }): Piece[] => [{ file: 'a', bytes: a, inode: 1n }, { file: 'b', bytes: b, inode: 2n }]
const half = (bytes: Buffer): number => bytes.indexOf(0x0a, bytes.length / 2) + 1

describe('the judge', () => {
  test('finds nothing where all is there', () => {
    expect(judge(whole)).toMatchObject({ lost: 0, excused: 0, doubled: 0, reordered: 0, lines: 200, findings: [] })
  })

  test('counts lost lines, the last one of a file too', () => {
    expect(judge(({ a, b }) => [...whole({ a: a.subarray(0, a.lastIndexOf(0x0a, -2) + 1), b })])).toMatchObject({ lost: 1, doubled: 0 })
    expect(judge(({ b }) => [{ file: 'b', bytes: b, inode: 2n }])).toMatchObject({ lost: 100, doubled: 0 })
  })

  test('excuses by E1 only what was destroyed while its agent did not run', () => {
    const without = ({ b }: { a: Buffer; b: Buffer }): Piece[] => [{ file: 'b', bytes: b, inode: 2n }]
    const destroy = (ledger: Ledger, writtenAtMs = 85_000): void => {
      const incarnation = ledger.incarnations.get('a#1')
      if (incarnation === undefined) return
      incarnation.writtenAtMs = writtenAtMs
      incarnation.destroyedAtMs = 100_000
    }
    const interrupt = (what: string, fromMs: number, toMs = fromMs + 100) => (ledger: Ledger): void => {
      destroy(ledger)
      ledger.interruptions.push({ what, fromMs, toMs })
    }
    expect(judge(without, destroy)).toMatchObject({ lost: 100, excused: 0 })
    expect(judge(without, interrupt('agent', 99_000))).toMatchObject({ lost: 0, excused: 100 })
    expect(judge(without, interrupt('agent', 50_000))).toMatchObject({ lost: 100, excused: 0 })
    expect(judge(without, interrupt('other', 99_000))).toMatchObject({ lost: 100, excused: 0 })
    expect(judge(without, interrupt('collector', 99_000))).toMatchObject({ lost: 100, excused: 0 })
  })

  test('excuses nothing by E1 where there was a rest long enough to ship it', () => {
    const without = ({ b }: { a: Buffer; b: Buffer }): Piece[] => [{ file: 'b', bytes: b, inode: 2n }]
    const world = (...collectorAway: [number, number][]) => (ledger: Ledger): void => {
      const incarnation = ledger.incarnations.get('a#1')
      if (incarnation !== undefined) Object.assign(incarnation, { writtenAtMs: 50_000, destroyedAtMs: 100_000 })
      ledger.interruptions.push({ what: 'agent', fromMs: 99_000, toMs: 99_100 })
      for (const [fromMs, toMs] of collectorAway) ledger.interruptions.push({ what: 'collector', fromMs, toMs })
    }
    expect(judge(without, world())).toMatchObject({ lost: 100, excused: 0 })
    expect(judge(without, world([60_000, 75_000]))).toMatchObject({ lost: 100, excused: 0 })
    expect(judge(without, world([60_000, 85_000]))).toMatchObject({ lost: 0, excused: 100 })
    expect(judge(without, world([60_000, 75_000], [74_000, 85_000]))).toMatchObject({ lost: 0, excused: 100 })
  })

  test('counts doubled lines', () => {
    expect(judge((written) => [...whole(written), { file: 'a', bytes: written.a, inode: 3n }])).toMatchObject({ lost: 0, doubled: 100 })
  })

  test.each([
    ['two files in one stream', ({ a, b }: { a: Buffer; b: Buffer }): Piece[] => [{ file: 'a', bytes: a.subarray(0, half(a)), inode: 1n }, { file: 'a', bytes: b.subarray(half(b)), inode: 1n }]],
    ['halves in the wrong order', ({ a }: { a: Buffer; b: Buffer }): Piece[] => [{ file: 'a', bytes: a.subarray(half(a)), inode: 1n }, { file: 'a', bytes: a.subarray(0, half(a)), inode: 1n }]],
    ['a changed byte', ({ a }: { a: Buffer; b: Buffer }): Piece[] => [{ file: 'a', bytes: Buffer.from(a).fill(0x21, 5000, 5001), inode: 1n }]],
    ['more than was written', ({ a }: { a: Buffer; b: Buffer }): Piece[] => [{ file: 'a', bytes: Buffer.concat([a, Buffer.from('invented\n')]), inode: 1n }]],
  ])('finds %s', (_what, pieces) => {
    expect(judge(pieces)).toMatchObject({ reordered: 1 })
  })
})
