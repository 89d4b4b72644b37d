import { beforeAll, expect, test } from 'vitest'
import { AppError } from '../../../shared/errors.ts'
import { crc32c } from '../../../shared/crc32c.ts'
import { BATCH_HEADER_BYTES, decodeRecords } from '../../../shared/record-batch.ts'
import { encodeSourceHeader } from '../../../shared/source-header.ts'
import { batchesResponseSchema, contentTypes, encodeEnvelope, encodeFrame, parseJson, type FrameResult } from '../../../shared/wire.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { frameOf, framesOf, startApi, type Answer, type Api } from '../../collector-api.ts'
import { plainBatch, sealedBatch, type SealedBatch } from '../../sealed-batch.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

function results(answer: Answer): readonly FrameResult[] {
  expect(answer.status).toBe(200)
  return parseJson(batchesResponseSchema, answer.body, 'answer').frames
}

function codes(answer: Answer): readonly string[] {
  return results(answer).map((result) => (result.status === 'error' ? result.code : result.status))
}

/** Changes bytes of a batch and repairs what guards them, so that the next check is the one that speaks. */
function altered(sealed: SealedBatch, change: (batch: Buffer) => void): SealedBatch {
  const batch = Buffer.from(sealed.batch)
  change(batch)
  batch.writeUInt32BE(crc32c(batch.subarray(21)), 17)
  return { ...sealed, batch }
}

function withFrame(sealed: SealedBatch, frame: Buffer): SealedBatch {
  const batch = Buffer.concat([sealed.batch.subarray(0, BATCH_HEADER_BYTES), frame])
  batch.writeInt32BE(batch.length - 12, 8)
  return altered({ ...sealed, batch }, () => undefined)
}

function zstdFrameOf(sealed: SealedBatch): Buffer {
  return sealed.batch.subarray(BATCH_HEADER_BYTES)
}

test('batches of several streams are stored in the order of their frames, and each is echoed', async () => {
  const api = startApi(zstd)
  const first = sealedBatch({ zstd, lines: ['one', 'two'] })
  const second = sealedBatch({ zstd, lines: ['three'], previous: first })
  const other = sealedBatch({ zstd, lines: ['x'], path: '/var/log/b.log', inode: 77n })
  const answer = await api.send([first, other, second])
  expect(results(answer)).toMatchObject([
    { status: 'ok', stream: first.source.streamId.toString('hex'), start: 0, end: 8, crc: first.batch.readUInt32BE(17), offset: 0 },
    { status: 'ok', start: 0, end: 2 },
    { status: 'ok', start: 8, end: 14 },
  ])
  expect(api.log.storedBatches).toBe(3)
  expect(api.sim.metrics.value('tailrace_collector_records_stored_total')).toBe(4)
})

test('a batch that is there already is answered with the position, and one too far ahead with the expected one', async () => {
  const api = startApi(zstd)
  const first = sealedBatch({ zstd, lines: ['one'] })
  const second = sealedBatch({ zstd, lines: ['two'], previous: first })
  const third = sealedBatch({ zstd, lines: ['three'], previous: second })
  await api.send([first])
  expect(results(await api.send([first, third]))).toMatchObject([
    { status: 'have', position: 4, tailHash: first.source.tailHashEnd.toString('hex') },
    { status: 'expected', position: 4 },
  ])
  expect(api.log.storedBatches).toBe(1)
})

test('one bad frame never harms its neighbours', async () => {
  const api = startApi(zstd)
  const first = sealedBatch({ zstd, lines: ['one'] })
  const other = sealedBatch({ zstd, lines: ['x'], path: '/b', inode: 77n })
  const damaged = { ...first, batch: Buffer.from(first.batch) }
  damaged.batch.writeUInt8((damaged.batch.at(-1) ?? 0) ^ 1, damaged.batch.length - 1)
  expect(codes(await api.send([other, damaged, first]))).toEqual(['ok', 'CORRUPT_MESSAGE', 'ok'])
})

test('broken framing refuses the whole request and stores nothing', async () => {
  const good = framesOf([sealedBatch({ zstd, lines: ['one'] })])
  const bodies = {
    'cut short': good.subarray(0, good.length - 1),
    'a length over the end': Buffer.concat([good, Buffer.from([0x7f, 0xff, 0xff, 0xff, 0, 1])]),
    'five bytes behind': Buffer.concat([good, Buffer.alloc(5)]),
    'an envelope longer than its frame': Buffer.concat([good, Buffer.from([0, 0, 0, 3, 0, 9, 1])]),
  }
  for (const [what, body] of Object.entries(bodies)) {
    const api = startApi(zstd)
    const answer = await api.ask({ method: 'POST', path: '/v1/batches', headers: { 'content-type': contentTypes.batches }, body })
    expect([what, answer.status, answer.code]).toEqual([what, 400, 'BAD_FRAME'])
    expect(api.log.storedBatches).toBe(0)
  }
})

/** What a hostile or broken sender may put into one frame, and the code that it earns. */
function badFrames(): Readonly<Record<string, readonly [code: string, frame: Buffer[]]>> {
  const good = sealedBatch({ zstd, lines: ['one', 'two', 'three'] })
  const raw = decodeRecords(good.batch, zstd, 1 << 20)
  const envelope = (topic: string, header = encodeSourceHeader(good.source)): Buffer => encodeEnvelope({ topic, sourceHeader: header })
  const twoFrames = Buffer.concat([zstdFrameOf(good), zstd.compressSync(Buffer.from('more'), 1)])
  const bomb = zstd.compressSync(Buffer.alloc(3_000_000), 1)
  const plain = plainBatch({ zstd, lines: ['no source'] })
  return {
    'an empty frame': ['BAD_FRAME', encodeFrame({ envelope: Buffer.alloc(0), batch: Buffer.alloc(0) })],
    'an envelope of another version': ['UNSUPPORTED_VERSION', encodeFrame({ envelope: Buffer.from([9, 0, 1, 97]), batch: good.batch })],
    'a topic that climbs': ['INVALID_TOPIC', encodeFrame({ envelope: envelope('../../etc'), batch: good.batch })],
    'a topic with a NUL': ['INVALID_TOPIC', encodeFrame({ envelope: envelope('a\0b'), batch: good.batch })],
    'a foreign topic': ['INVALID_RECORD', encodeFrame({ envelope: envelope('other'), batch: good.batch })],
    'no batch': ['CORRUPT_MESSAGE', encodeFrame({ envelope: envelope('app'), batch: Buffer.alloc(0) })],
    'a wrong CRC': ['CORRUPT_MESSAGE', frameOf({ ...good, batch: Buffer.concat([good.batch.subarray(0, 17), Buffer.alloc(4), good.batch.subarray(21)]) })],
    'two batches in one': ['CORRUPT_MESSAGE', frameOf({ ...good, batch: Buffer.concat([good.batch, good.batch]) })],
    'a batch length below zero': ['CORRUPT_MESSAGE', frameOf(altered(good, (batch) => batch.writeInt32BE(-1, 8)))],
    'another magic': ['CORRUPT_MESSAGE', frameOf(altered(good, (batch) => batch.writeUInt8(1, 16)))],
    'two zstd frames': ['CORRUPT_MESSAGE', frameOf(withFrame(good, twoFrames))],
    'a byte behind the zstd frame': ['CORRUPT_MESSAGE', frameOf(withFrame(good, Buffer.concat([zstdFrameOf(good), Buffer.alloc(1)])))],
    'a bomb': ['MESSAGE_TOO_LARGE', frameOf(withFrame(good, bomb))],
    'another codec': ['UNSUPPORTED_COMPRESSION', frameOf(altered(good, (batch) => batch.writeUInt16BE(1, 21)))],
    'labels that are not an object of strings': ['INVALID_RECORD', frameOf(sealedBatch({ zstd, labels: Buffer.from('{"env":7}') }))],
    'more labels than may be': ['INVALID_RECORD', frameOf(sealedBatch({ zstd, labels: Buffer.from(JSON.stringify(Object.fromEntries(Array.from({ length: 17 }, (_, at) => [`l${at}`, ''])))) }))],
    'a transactional batch': ['INVALID_RECORD', frameOf(altered(good, (batch) => batch.writeUInt16BE(4 | 0x10, 21)))],
    'more records than it says': ['INVALID_RECORD', frameOf(altered(good, (batch) => { batch.writeInt32BE(1, 23); batch.writeInt32BE(2, 57) }))],
    'a count of records below zero': ['INVALID_RECORD', frameOf(altered(good, (batch) => batch.writeInt32BE(-5, 57)))],
    'a foreign producer id': ['INVALID_RECORD', frameOf(altered(good, (batch) => batch.writeBigInt64BE(1n, 43)))],
    'a batch without a source': ['INVALID_RECORD', frameOf({ ...good, batch: plain })],
    'a header that differs from the envelope': ['ENVELOPE_MISMATCH', frameOf({ ...good, source: { ...good.source, path: '/etc/shadow' } })],
    'a stream id that is made up': ['INVALID_RECORD', frameOf(resealed(good, { streamId: Buffer.alloc(16, 1) }, raw))],
    'a key of another host': ['HOST_MISMATCH', frameOf(resealed(good, { host: 'db-01' }, raw))],
    'a hash of other bytes': ['INVALID_RECORD', frameOf(resealed(good, { sourceHash: Buffer.alloc(16, 7) }, raw))],
    'an end that is not reached': ['INVALID_RECORD', frameOf(resealed(good, { end: (good.source.end + 1) as typeof good.source.end }, raw))],
  }
}

/** The same records under a changed `tr` header of the same length, with all checksums right. */
function resealed(sealed: SealedBatch, change: Partial<SealedBatch['source']>, raw: Buffer): SealedBatch {
  const source = { ...sealed.source, ...change }
  const before = encodeSourceHeader(sealed.source)
  const after = encodeSourceHeader(source)
  expect(after.length).toBe(before.length)
  const at = raw.indexOf(before)
  const changed = Buffer.from(raw)
  changed.set(after, at)
  return withFrame({ ...sealed, source }, zstd.compressSync(changed, 1))
}

test('whatever is wrong with a frame has its code, and what was stored stays as it was', async () => {
  for (const [what, [code, frame]] of Object.entries(badFrames())) {
    const api = startApi(zstd)
    const neighbour = sealedBatch({ zstd, lines: ['neighbour'], path: '/n', inode: 99n })
    const before = await api.send([neighbour])
    expect(codes(before)).toEqual(['ok'])
    const next = sealedBatch({ zstd, lines: ['neighbour 2'], previous: neighbour })
    const answer = await post(api, Buffer.concat([...frame, ...frameOf(next)]))
    expect([what, ...codes(answer)]).toEqual([what, code, 'ok'])
    expect(api.log.storedBatches).toBe(2)
    expect(api.log.streams.size).toBe(1)
  }
})

function post(api: Api, body: Buffer): Promise<Answer> {
  return api.ask({ method: 'POST', path: '/v1/batches', headers: { 'content-type': contentTypes.batches }, body })
}

test('a full disk fails frame by frame, and the whole request when every frame met it', async () => {
  const full = (): AppError => new AppError('DISK_FULL', 'no space left', { retryAfterMs: 5000 })
  const api = startApi(zstd)
  const batches = [sealedBatch({ zstd, lines: ['a'] }), sealedBatch({ zstd, lines: ['b'], path: '/b', inode: 5n })]
  api.log.failures.push(full())
  expect(codes(await api.send(batches))).toEqual(['DISK_FULL', 'ok'])
  api.log.failures.push(full())
  const whole = await api.send(batches.slice(0, 1))
  expect([whole.status, whole.code, whole.headers['retry-after']]).toEqual([507, 'DISK_FULL', '5'])
})

test('a request over the memory budget is told to come back, and its memory is given back afterwards', async () => {
  const api = startApi(zstd, { memoryBytes: 1000 })
  const large = sealedBatch({ zstd, lines: Array.from({ length: 400 }, (_, index) => `line ${index * 7919}`) })
  expect(framesOf([large]).length).toBeGreaterThan(1000)
  const refused = await api.send([large])
  expect([refused.status, refused.code, refused.headers['retry-after']]).toEqual([429, 'THROTTLED', '1'])
  const small = sealedBatch({ zstd, lines: ['a'] })
  for (let round = 0; round < 10; round += 1) expect((await api.send([small])).status).toBe(200)
})

test('a length is judged before a byte is read: 10 GB is refused at once, and none is refused too', async () => {
  const api = startApi(zstd)
  const huge = await api.send([], { contentLength: 10 * 1024 ** 3 })
  expect([huge.status, huge.code]).toEqual([413, 'MESSAGE_TOO_LARGE'])
  const none = await api.send([], { contentLength: null })
  expect([none.status, none.code]).toEqual([411, 'LENGTH_REQUIRED'])
  const short = await api.send([sealedBatch({ zstd })], { contentLength: 10_000 })
  expect([short.status, short.code]).toEqual([400, 'BAD_REQUEST'])
})

test('another content type is refused, so that no web form can post batches', async () => {
  const api = startApi(zstd)
  const answer = await api.send([sealedBatch({ zstd })], { headers: { 'content-type': 'text/plain' } })
  expect([answer.status, answer.code]).toEqual([415, 'UNSUPPORTED_MEDIA_TYPE'])
})

test('nothing is taken while the store says that this disk was rolled back', async () => {
  const api = startApi(zstd, { closedBecause: () => new AppError('RESTORE_REQUIRED', 'the store is ahead', { hint: 'restore' }) })
  const answer = await api.send([sealedBatch({ zstd })])
  expect([answer.status, answer.code, api.log.storedBatches]).toEqual([503, 'RESTORE_REQUIRED', 0])
  expect((await api.ask({ path: '/ready' })).status).toBe(503)
  expect((await api.ask({ path: '/health' })).status).toBe(200)
})

test('without permission to make topics a new one is refused, a known one is not', async () => {
  const api = startApi(zstd, { allowsNewTopics: false })
  expect(codes(await api.send([sealedBatch({ zstd })]))).toEqual(['UNKNOWN_TOPIC'])
  await api.log.createTopic('app', {})
  expect(codes(await api.send([sealedBatch({ zstd })]))).toEqual(['ok'])
})
