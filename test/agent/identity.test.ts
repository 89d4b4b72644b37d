/** Each row of the identity table, and what stands between the rows. */
import { describe, expect, test } from 'vitest'
import { decideIdentity, isSiblingPath, type FileFacts, type StreamFacts } from '../../agent/identity.ts'
import type { KnownStream } from '../../agent/known-stream.ts'
import { NO_TAIL_HASH_TEXT } from '../../shared/hashes.ts'

function stream(fields: Partial<KnownStream> = {}): KnownStream {
  return {
    id: 'a'.repeat(32), topic: 'app', inode: 1n, birthtimeNs: 10n, generation: 1, isSuperseded: false, isOpen: true, position: 5000,
    tailHash: NO_TAIL_HASH_TEXT, headLength: 1024, headHash: NO_TAIL_HASH_TEXT, recordCount: 10, path: '/log/a.log', keyPath: '/log/a.log', isOrphan: false, lastAppendMs: 0, ...fields,
  }
}

function facts(fields: Partial<StreamFacts> = {}): StreamFacts {
  return { stream: stream(), doesContentMatch: true, isSibling: true, ownFile: 'alive', isClaimed: false, ...fields }
}

function file(streams: readonly StreamFacts[], fields: Partial<FileFacts> = {}): FileFacts {
  return {
    inode: 1n, birthtimeNs: 10n, size: 9000, streams, isCopyOfLiveSibling: false, isWaitOver: false, wasChangeSeen: true, isReship: false, isGuest: false, ...fields,
  }
}

const other = { inode: 2n } as const

describe('same inode and birth time', () => {
  test('matching content resumes, whatever the name is now', () => {
    expect(decideIdentity(file([facts({ isSibling: false })]))).toMatchObject({ kind: 'resume', why: 'same file' })
  })

  test('other content begins the next generation, which supersedes', () => {
    expect(decideIdentity(file([facts({ doesContentMatch: false })]))).toEqual({ kind: 'begin', generation: 2, supersedes: 1 })
  })

  test('an empty file that had bytes was truncated', () => {
    expect(decideIdentity(file([facts({ doesContentMatch: false })], { size: 0 }))).toEqual({ kind: 'begin', generation: 2, supersedes: 1 })
  })

  test('a superseded generation is never resumed, even if its content matches', () => {
    expect(decideIdentity(file([facts({ stream: stream({ isSuperseded: true }) })]))).toMatchObject({ kind: 'begin', generation: 2 })
  })

  test('a rotated file whose own stream was superseded by a clone of this agent is no stranger: it begins anew', () => {
    const superseded = facts({ stream: stream({ isSuperseded: true }) })
    expect(decideIdentity(file([superseded], { isGuest: true }))).toMatchObject({ kind: 'begin', generation: 2, isKnownGuest: true })
    expect(decideIdentity(file([facts({ doesContentMatch: false })], { isGuest: true }))).not.toHaveProperty('isKnownGuest')
  })

  test('the newest generation that matches is resumed, not the highest', () => {
    const older = facts({ stream: stream({ id: 'b'.repeat(32), generation: 1 }) })
    const newer = facts({ stream: stream({ generation: 2 }), doesContentMatch: false })
    expect(decideIdentity(file([newer, older]))).toMatchObject({ kind: 'resume', stream: { generation: 1 } })
  })

  test('an older generation is superseded only by who saw the content change', () => {
    expect(decideIdentity(file([facts({ doesContentMatch: false })], { wasChangeSeen: false }))).toEqual({ kind: 'begin', generation: 2, supersedes: undefined })
  })

  test('of two live files with one key the second takes the next generation and closes nothing', () => {
    expect(decideIdentity(file([facts({ isClaimed: true })]))).toEqual({ kind: 'begin', generation: 2, supersedes: undefined })
  })

  test('a birth time of 0 is a birth time like any other', () => {
    const known = facts({ stream: stream({ birthtimeNs: 0n }) })
    expect(decideIdentity(file([known], { birthtimeNs: 0n }))).toMatchObject({ kind: 'resume' })
    expect(decideIdentity(file([known], { birthtimeNs: 10n }))).not.toMatchObject({ why: 'same file' })
  })

  test('--reship begins anew although everything matches', () => {
    expect(decideIdentity(file([facts()], { isReship: true }))).toEqual({ kind: 'begin', generation: 2, supersedes: 1 })
  })
})

describe('another inode', () => {
  test.each(['gone', 'changed'] as const)('a sibling of a stream whose file is %s continues it', (ownFile) => {
    expect(decideIdentity(file([facts({ ownFile })], other))).toMatchObject({ kind: 'resume', why: 'copy or rename' })
  })

  test('a superseded generation is continued by the copy that holds its tail', () => {
    expect(decideIdentity(file([facts({ ownFile: 'changed', stream: stream({ isSuperseded: true }) })], other))).toMatchObject({ kind: 'resume', why: 'copy or rename' })
  })

  test('while another copy ships into the stream, a second one waits', () => {
    expect(decideIdentity(file([facts({ ownFile: 'gone', isClaimed: true })], other))).toEqual({ kind: 'wait' })
  })

  test('a copy that no glob matches never becomes a file of its own', () => {
    expect(decideIdentity(file([facts()], { ...other, isGuest: true, isWaitOver: true }))).toEqual({ kind: 'leave' })
  })

  test('a copy of a live file waits, and becomes a file of its own when waiting ends', () => {
    expect(decideIdentity(file([facts()], other))).toEqual({ kind: 'wait' })
    expect(decideIdentity(file([facts()], { ...other, isWaitOver: true }))).toEqual({ kind: 'begin', generation: 1, supersedes: undefined })
  })

  test('a copy that is still shorter than the position waits too', () => {
    expect(decideIdentity(file([], { ...other, isCopyOfLiveSibling: true }))).toEqual({ kind: 'wait' })
  })

  test.each([
    ['is no sibling', { isSibling: false }],
    ['has other content', { doesContentMatch: false }],
    ['shares less than 1 KiB', { stream: stream({ position: 1023 }) }],
  ])('a stream that %s is not continued', (_name, fields) => {
    expect(decideIdentity(file([facts({ ownFile: 'gone', ...fields })], other))).toEqual({ kind: 'begin', generation: 1, supersedes: undefined })
  })

  test('position 0 matches nothing: an empty unknown file says nothing', () => {
    expect(decideIdentity(file([], { ...other, size: 0 }))).toEqual({ kind: 'empty' })
  })

  test('an unknown file begins at generation 1', () => {
    expect(decideIdentity(file([], other))).toEqual({ kind: 'begin', generation: 1, supersedes: undefined })
  })
})

test.each([
  ['/log/a.log', '/log/a.log.1', true],
  ['/log/a.log', '/log/a.log-20260301', true],
  ['/log/a.log', '/log/a.log', true],
  ['/log/a.log', '/log/b.log', false],
  ['/log/a', '/log/a/b', false],
  ['/log/a.log.1', '/log/a.log', false],
])('sibling of %s: %s is %s', (base, path, expected) => {
  expect(isSiblingPath(base, path)).toBe(expected)
})
