import { expect, test } from 'vitest'
import { weaknesses, type Course } from './coverage.ts'
import { proxyFaults } from './faulty-proxy.ts'

const kinds = ['kill -9 agent', 'disk full', 'clock moved']
const long: Course = {
  kills: 200,
  minutes: 4,
  kinds,
  counts: new Map(kinds.map((kind) => [kind, 3])),
  requestCounts: new Map(proxyFaults.map((fault) => [fault, 2])),
  logs: ['… disk full, append refused …', '… the wall clock stepped by 3600 s …'],
  verdicts: [{ view: 'topic log', lines: 10_000, excused: 100 }],
}

test('a long run in which everything happened has no weakness', () => {
  expect(weaknesses(long)).toEqual([])
})

test('a fault that never happened is a failure of the harness', () => {
  expect(weaknesses({ ...long, counts: new Map([['kill -9 agent', 200], ['clock moved', 1]]) })).toEqual([expect.stringContaining('"disk full"')])
  expect(weaknesses({ ...long, requestCounts: new Map(proxyFaults.slice(1).map((fault) => [fault, 2])) })).toEqual([expect.stringContaining(proxyFaults[0])])
})

test('a fault that nobody noticed is one too', () => {
  expect(weaknesses({ ...long, logs: ['… disk full, append refused …'] })).toEqual([expect.stringContaining('"clock moved"')])
})

test('a short run may miss kinds', () => {
  expect(weaknesses({ ...long, kills: 8, minutes: 1, counts: new Map(), requestCounts: new Map(), logs: [] })).toEqual([])
})

test('an excuse for more than one line in a hundred is none', () => {
  expect(weaknesses({ ...long, kills: 8, minutes: 1, verdicts: [{ view: 'export', lines: 10_000, excused: 101 }] })).toEqual([expect.stringContaining('export')])
})
