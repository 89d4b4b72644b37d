/** What an agent remembers of what was acknowledged to it, for a collector that comes back with less. */
import { expect, test } from 'vitest'
import { AckedPositions } from '../../agent/acked-positions.ts'
import { Stream } from '../../agent/stream.ts'
import { NO_TAIL_HASH_TEXT } from '../../shared/hashes.ts'
import { simulate } from '../sim-system.ts'

function acked(idHex: string, position: number): Stream {
  const identity = {
    idHex, topic: 'app', inode: 1n, birthtimeNs: 1n, generation: 1, supersedes: undefined,
    keyPath: `/var/log/${idHex}.log`,
  }
  return new Stream(identity, { position, tailHash: NO_TAIL_HASH_TEXT, recordCount: 1 })
}

test('nothing is told while the collector has all of it', () => {
  const positions = new AckedPositions(simulate().clock)
  positions.settled(acked('aa', 10))
  expect(positions.greeted({ logEpoch: 1, streams: [{ id: 'aa', position: 10 }] })).toEqual([])
  expect(positions.greeted({ logEpoch: 1, streams: [{ id: 'aa', position: 12 }] })).toEqual([])
})

test('everything is told when a position went back, when a stream is gone, and when the log epoch rose', () => {
  const positions = new AckedPositions(simulate().clock)
  positions.settled(acked('aa', 10))
  positions.settled(acked('bb', 20))
  const all = [[{ id: 'aa', topic: 'app', path: '/var/log/aa.log', position: 10 }, { id: 'bb', topic: 'app', path: '/var/log/bb.log', position: 20 }]]
  const whole = [{ id: 'aa', position: 10 }, { id: 'bb', position: 20 }]
  expect(positions.greeted({ logEpoch: 1, streams: [{ id: 'aa', position: 10 }, { id: 'bb', position: 19 }] })).toEqual(all)
  expect(positions.greeted({ logEpoch: 1, streams: [{ id: 'aa', position: 10 }] })).toEqual(all)
  expect(positions.greeted({ logEpoch: 1, streams: whole })).toEqual([])
  expect(positions.greeted({ logEpoch: 2, streams: whole })).toEqual(all)
})

test('what a collector forgets after a while is forgotten before', async () => {
  const sim = simulate()
  const positions = new AckedPositions(sim.clock)
  positions.settled(acked('aa', 10))
  await sim.clock.advance(21 * 86_400_000)
  expect(positions.greeted({ logEpoch: 1, streams: [] })).toEqual([])
})
