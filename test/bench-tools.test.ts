/** The benchmark's own judgement: what counts as lost, doubled and worse. Its measuring needs real processes. */
import { describe, expect, test } from 'vitest'
import { compareRatios } from './bench/compare.ts'
import { accessLines, jsonLines } from './bench/lines.ts'
import { parseCommandLine } from './bench/options.ts'
import { ratiosOf, type Results } from './bench/results.ts'
import { parsePeers } from './bench/peers-file.ts'
import { SequenceCounter } from './bench/sequence-counter.ts'
import { median, percentile, spread } from './bench/statistics.ts'

function lines(...sequences: number[]): Buffer {
  const make = accessLines(1)
  return Buffer.from(sequences.map((sequence) => make(sequence)).join(''))
}

describe('the sequence counter', () => {
  test('tells which lines are missing and which came twice', () => {
    const counter = new SequenceCounter(5)
    counter.feed(lines(0, 1, 1, 3, 3, 3))
    expect({ lost: counter.lost, doubled: counter.doubled, isComplete: counter.isComplete }).toEqual({ lost: 2, doubled: 3, isComplete: false })
  })

  test('finds each number once wherever the bytes are cut', () => {
    const bytes = lines(0, 1, 2, 3)
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      const firsts: number[] = []
      const counter = new SequenceCounter(4, (sequence) => firsts.push(sequence))
      counter.feed(bytes.subarray(0, cut))
      counter.feed(bytes.subarray(cut))
      expect({ cut, firsts, doubled: counter.doubled, lost: counter.lost }).toEqual({ cut, firsts: [0, 1, 2, 3], doubled: 0, lost: 0 })
    }
  })

  test('finds them in pieces of one byte, and not in text that only looks like a mark', () => {
    const counter = new SequenceCounter(2)
    for (const byte of Buffer.concat([Buffer.from('seq=12 seq=seq=00000000x1 '), lines(0, 1)])) counter.feed(Buffer.from([byte]))
    expect({ lost: counter.lost, doubled: counter.doubled, unknown: counter.unknown }).toEqual({ lost: 0, doubled: 0, unknown: 0 })
  })

  test('counts a number that nobody wrote as unknown, not as a line', () => {
    const counter = new SequenceCounter(2)
    counter.feed(lines(0, 7))
    expect({ lost: counter.lost, unknown: counter.unknown }).toEqual({ lost: 1, unknown: 1 })
  })
})

describe('the lines', () => {
  test('of JSON have 1 KiB, parse, and carry their number', () => {
    const make = jsonLines(3)
    for (const sequence of [0, 1, 123_456]) {
      const line = make(sequence)
      expect(Buffer.byteLength(line)).toBe(1024)
      expect(JSON.parse(line)).toMatchObject({ line: `seq=${String(sequence).padStart(10, '0')}` })
    }
  })
})

describe('the statistics', () => {
  test('give medians, percentiles by nearest rank, and half of the range', () => {
    expect([median([3, 1, 2]), median([4, 1, 2, 3]), median([])]).toEqual([2, 2.5, Number.NaN])
    const sorted = Array.from({ length: 1000 }, (_, at) => at + 1)
    expect([percentile(sorted, 0.5), percentile(sorted, 0.99), percentile(sorted, 0.999), percentile(sorted, 1), percentile([], 0.5)]).toEqual([500, 990, 999, 1000, Number.NaN])
    expect([spread([90, 100, 120]), spread([5])]).toEqual([0.15, 0])
  })
})

function resultsWith(ratio: number, better: 'higher' | 'lower' = 'higher'): Results {
  const ratios = { speed: { better, median: ratio, rounds: [ratio] } }
  return { node: 'v24', cpu: 'x', cores: 2, loadBefore: 0, options: {}, workloads: { W1: { title: 't', notes: [], contestants: {}, ratios } } }
}

describe('the comparison with an earlier run', () => {
  test('calls a ratio a regression only when it is worse by more than 15 %', () => {
    const verdicts = [8.49, 8.51, 10, 20].map((now) => compareRatios(resultsWith(10), resultsWith(now)).compared[0]?.isRegression)
    expect(verdicts).toEqual([true, false, false, false])
  })

  test('knows which way a ratio is better', () => {
    const verdicts = [0.5, 1, 1.17, 1.19].map((now) => compareRatios(resultsWith(1, 'lower'), resultsWith(now, 'lower')).compared[0]?.isRegression)
    expect(verdicts).toEqual([false, false, false, true])
  })

  test('names what was measured then and not now, and leaves out workloads that did not run', () => {
    const now = resultsWith(1)
    const without = { ...now, workloads: { W1: { title: 't', notes: [], contestants: {}, ratios: {} } } }
    expect(compareRatios(resultsWith(1), without)).toEqual({ compared: [], missing: ['W1 speed'] })
    expect(compareRatios(resultsWith(1), { ...now, workloads: {} })).toEqual({ compared: [], missing: [] })
  })

  test('takes ratios of figures of the same round', () => {
    const rounds = new Map([['a', [{ x: 10 }, { x: 30 }, { x: 8 }]], ['b', [{ x: 5 }, { x: 10 }, { x: 4 }]]])
    const spec = { name: 'a / b', of: { contestant: 'a', figure: 'x' }, to: { contestant: 'b', figure: 'x' }, better: 'higher' } as const
    expect(ratiosOf([spec], new Map([['a', [{ x: 1 }, { x: 6 }, { x: 5 }]], ['b', [{ x: Infinity }, { x: 2 }, { x: 0 }]]]))).toEqual({ 'a / b': { better: 'higher', median: 3, rounds: [3] } })
    expect(ratiosOf([spec, { ...spec, name: 'gone', to: { contestant: 'c', figure: 'x' } }], rounds)).toEqual({ 'a / b': { better: 'higher', median: 2, rounds: [2, 3, 2] } })
  })
})

describe('the command line', () => {
  test('reads sizes in powers of 1000 and of 1024, and refuses what is none', () => {
    expect(parseCommandLine(['W1', '--bytes', '2GB']).options.bytes).toBe(2_000_000_000)
    expect(parseCommandLine(['--bytes', '16MiB']).options.bytes).toBe(16 * 1024 * 1024)
    expect(() => parseCommandLine(['--bytes', 'much'])).toThrow('--bytes much')
    expect(() => parseCommandLine(['--runs', '0'])).toThrow('--runs 0')
  })
})

describe('the file of further peers', () => {
  test('gives a section for each peer', () => {
    const peers = parsePeers('# a comment\n[one]\nagent = a -x {logs}\nsink = http\n\n[two words]\nversion = b --version\nagent=b\nreceiver = c {port} {output}\n')
    expect(peers.map(({ name, values }) => [name, Object.fromEntries(values)])).toEqual([
      ['one', { agent: 'a -x {logs}', sink: 'http' }],
      ['two words', { version: 'b --version', agent: 'b', receiver: 'c {port} {output}' }],
    ])
  })

  test.each([
    ['agent = a', 'line 1'],
    ['[one]\nagents = a', 'line 2'],
    ['[one]\nsink = http', 'peer one has no agent'],
    ['[one]\nagent = a', 'either sink or receiver'],
    ['[one]\nagent = a\nsink = http\nreceiver = b', 'either sink or receiver'],
    ['[one]\nagent = a\nsink = udp', 'neither http nor tcp'],
  ])('is refused when it is wrong: %j', (text, message) => {
    expect(() => parsePeers(text)).toThrow(message)
  })
})
