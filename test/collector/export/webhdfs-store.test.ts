import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openRemoteStore, type StoreOptions } from '../../../collector/export/open-store.ts'
import { bufferSource, type ByteSource, type RemoteStore } from '../../../collector/export/remote-store.ts'
import { checksumHasher } from '../../../collector/export/webhdfs-checksum.ts'
import { toAppError } from '../../../shared/errors.ts'
import { createHttpClient } from '../../../shared/node/http-client.ts'
import { simulate } from '../../sim-system.ts'
import { WebHdfsStandIn, type StandInFault, type StandInOptions, type StandInRequest } from '../../webhdfs-stand-in.ts'
import { codeOf, describeRemoteStore, patterned, piecewise, readAll, sha256 } from './remote-store-contract.ts'

const flavours: readonly { readonly name: string; readonly standIn: StandInOptions; readonly store: StoreOptions }[] = [
  { name: 'a NameNode that answers noredirect', standIn: {}, store: {} },
  { name: 'a NameNode that always redirects', standIn: { alwaysRedirect: true }, store: {} },
  { name: 'HttpFS', standIn: { flavour: 'httpfs' }, store: { mode: 'httpfs', userName: 'tailrace' } },
]

const http = createHttpClient()
const streamingHttp = createHttpClient({ keepsConnections: false })

afterAll(async () => {
  await http.close()
  await streamingHttp.close()
})

/** Time flies here: what the client waits for is due as soon as it waits. */
function openAt(url: string, options: StoreOptions = {}): RemoteStore {
  const { system } = simulate()
  const clock = { ...system.clock, nowMs: () => 0, monotonicMs: () => 0, sleep: () => Promise.resolve() }
  return openRemoteStore(url, options, { system: { ...system, clock }, http, streamingHttp: { ...streamingHttp, close: () => Promise.resolve() } })
}

for (const flavour of flavours) {
  describe(flavour.name, () => {
    let standIn: WebHdfsStandIn

    beforeAll(async () => {
      standIn = await WebHdfsStandIn.start(flavour.standIn)
    })
    afterAll(() => standIn.close())

    describeRemoteStore(() => Promise.resolve({ store: openAt(`${standIn.url}/tailrace/root`, flavour.store) }))
  })
}

describe('a WebHDFS store in trouble', () => {
  let standIn: WebHdfsStandIn
  let store: RemoteStore
  const bytes = patterned(3_000_000)

  beforeEach(async () => {
    standIn = await WebHdfsStandIn.start()
    store = openAt(`${standIn.url}/t`)
    await store.makeDirectories('')
  })
  afterEach(() => standIn.close())

  /** Meets the first `times` requests that fit. */
  const script = (fault: StandInFault, fits: (request: StandInRequest) => boolean, times = 1): void => {
    let left = times
    standIn.onRequest = (request) => {
      if (left === 0 || !fits(request)) return undefined
      left -= 1
      return fault
    }
  }
  const isUpload = (request: StandInRequest): boolean => request.leg === 'data-node' && request.op === 'CREATE'
  const isOp = (op: string) => (request: StandInRequest) => request.op === op && request.leg === 'name-node'

  test('an upload that is cut off leaves a short, finished file, and is neither a success nor the same content', async () => {
    script({ kind: 'cut', bytes: 1_000_000 }, isUpload)
    expect(await codeOf(store.put('a', piecewise(bytes)))).toBe('UNKNOWN_OUTCOME')
    expect((await store.stat('a'))?.lengthBytes).toBe(1_000_000)
    expect(await store.matches('a', { lengthBytes: bytes.length, sha256: sha256(bytes), source: piecewise(bytes) })).toBe('length')
  })

  test('an upload whose answer is lost is an unknown outcome, though the file is whole', async () => {
    script({ kind: 'cut', after: true }, isUpload)
    expect(await codeOf(store.put('a', piecewise(bytes)))).toBe('UNKNOWN_OUTCOME')
    expect(await store.matches('a', { lengthBytes: bytes.length, sha256: sha256(bytes), source: piecewise(bytes) })).toBe('same')
  })

  test('a byte that changes on the way is found by the checksum of HDFS', async () => {
    script({ kind: 'corrupt' }, isUpload)
    await store.put('a', piecewise(bytes))
    expect(await store.matches('a', { lengthBytes: bytes.length, sha256: sha256(bytes), source: piecewise(bytes) })).toBe('checksum')
    expect(standIn.requests.some((request) => request.op === 'OPEN')).toBe(false)
  })

  const fingerprintOf = (content: Buffer): string => {
    const hasher = store.fingerprint(content.length)
    hasher?.update(content.subarray(0, 1_000_001))
    hasher?.update(content.subarray(1_000_001))
    return hasher?.digest() ?? ''
  }
  const unreadable: ByteSource = { lengthBytes: bytes.length, open: () => { throw new Error('the local file was read') } }

  test('a fingerprint that was taken before spares reading the local file again, and finds a changed byte', async () => {
    await store.put('a', piecewise(bytes))
    script({ kind: 'corrupt' }, isUpload)
    await store.put('b', piecewise(bytes))
    const expected = { lengthBytes: bytes.length, sha256: sha256(bytes), fingerprint: fingerprintOf(bytes), source: unreadable }
    expect(await store.matches('a', expected)).toBe('same')
    expect(await store.matches('b', expected)).toBe('checksum')
    expect(standIn.requests.some((request) => request.op === 'OPEN')).toBe(false)
  })

  test('a fingerprint of another layout than the cluster has proves nothing: the local file is read', async () => {
    await store.put('a', piecewise(bytes))
    const fingerprint = checksumHasher({ bytesPerCrc: 4096, blockBytes: undefined }).digest()
    expect(await store.matches('a', { lengthBytes: bytes.length, sha256: sha256(bytes), fingerprint, source: piecewise(bytes) })).toBe('same')
  })

  test('a local twin that has changed since it was hashed vouches for nothing', async () => {
    const rotten = Buffer.from(bytes)
    rotten.writeUInt8(rotten.readUInt8(77) ^ 4, 77)
    await store.put('a', piecewise(rotten))
    expect(await store.matches('a', { lengthBytes: bytes.length, sha256: sha256(bytes), source: piecewise(rotten) })).toBe('checksum')
  })

  test('a server without checksums is read back instead', async () => {
    await store.put('a', piecewise(bytes))
    script({ kind: 'exception', exception: 'UnsupportedOperationException', status: 400 }, isOp('GETFILECHECKSUM'))
    expect(await store.matches('a', { lengthBytes: bytes.length, sha256: sha256(bytes), source: piecewise(bytes) })).toBe('same')
    expect(standIn.requests.some((request) => request.op === 'OPEN')).toBe(true)
  })

  test('a DataNode that breaks off at a checksum is left out, and nothing is read back', async () => {
    await store.put('a', piecewise(bytes))
    script({ kind: 'cut' }, (request) => request.op === 'GETFILECHECKSUM' && request.leg === 'data-node')
    expect(await store.matches('a', { lengthBytes: bytes.length, sha256: sha256(bytes), source: piecewise(bytes) })).toBe('same')
    expect(standIn.requests.some((request) => request.op === 'OPEN')).toBe(false)
    expect(standIn.requests.filter(isOp('GETFILECHECKSUM'))[1]?.params.get('excludedatanodes')).toBe('127.0.0.1')
  })

  test('a DataNode that can not be reached is named, with the setting that maps names', async () => {
    script({ kind: 'location', location: 'http://dn1.tailrace.invalid:9864/webhdfs/v1/t/a?op=CREATE' }, isOp('CREATE'), 9)
    const anywhere = openAt(`${standIn.url}/t`, { allowedHosts: ['.invalid'] })
    const failure = await anywhere.put('a', piecewise(bytes)).then(() => undefined, toAppError)
    expect(failure).toMatchObject({ code: 'CANNOT_CONNECT', message: expect.stringContaining('dn1.tailrace.invalid:9864') as string, hint: expect.stringContaining('hdfsDataNodes') as string })
  })

  test('a space quota is REMOTE_REFUSED, told while the body is still being sent', async () => {
    standIn.spaceQuotaBytes = 1024 * 1024
    expect(await codeOf(store.put('a', piecewise(bytes)))).toBe('REMOTE_REFUSED')
  })

  test('safe mode and permissions are told apart from trouble that passes', async () => {
    script({ kind: 'exception', exception: 'SafeModeException' }, isUpload)
    expect(await codeOf(store.put('a', bufferSource(bytes)))).toBe('UNAVAILABLE')
    script({ kind: 'exception', exception: 'AccessControlException' }, isUpload)
    expect(await codeOf(store.put('b', bufferSource(bytes)))).toBe('REMOTE_REFUSED')
    script({ kind: 'exception', exception: 'AlreadyBeingCreatedException' }, isUpload)
    expect(await codeOf(store.put('c', bufferSource(bytes)))).toBe('REMOTE_ERROR')
  })

  test('a starting NameNode is asked again', async () => {
    script({ kind: 'exception', exception: 'RetriableException', message: 'Namenode is in startup mode' }, isOp('MKDIRS'), 2)
    await store.makeDirectories('raw')
    expect((await store.stat('raw'))?.kind).toBe('directory')
  })

  test('a standby is left for the active NameNode, which is asked first from then on', async () => {
    const active = await WebHdfsStandIn.start()
    try {
      standIn.onRequest = () => ({ kind: 'exception', exception: 'StandbyException' })
      const both = openAt(`${standIn.url},${active.url}/t`)
      await both.makeDirectories('raw')
      await both.put('raw/a', piecewise(bytes))
      expect(active.contents('/t/raw/a')?.equals(bytes)).toBe(true)
      // One from `beforeEach`, one that was told to go away.
      expect(standIn.requests).toHaveLength(2)
    } finally {
      await active.close()
    }
  })

  test('a NameNode that is gone is left for the next', async () => {
    const gone = await WebHdfsStandIn.start()
    await gone.close()
    const both = openAt(`${gone.url},${standIn.url}/t`)
    await both.makeDirectories('raw')
    expect(standIn.files.get('/t/raw')?.kind).toBe('directory')
  })

  test('a RENAME whose answer is lost is not repeated: its outcome is unknown', async () => {
    await store.put('a', bufferSource(Buffer.from('x')))
    script({ kind: 'cut', after: true }, isOp('RENAME'))
    expect(await codeOf(store.rename('a', 'b'))).toBe('UNKNOWN_OUTCOME')
    expect(standIn.requests.filter((request) => request.op === 'RENAME')).toHaveLength(1)
    expect(await store.stat('b')).toBeDefined()
  })

  test('a page from a proxy instead of JSON is trouble that passes', async () => {
    script({ kind: 'raw', status: 502, body: '<html>bad gateway</html>' }, isOp('GETFILESTATUS'), 1)
    expect(await store.stat('')).toMatchObject({ kind: 'directory' })
  })

  test('a redirect to a foreign host is refused before a byte goes there', async () => {
    script({ kind: 'location', location: 'http://203.0.113.9:9864/webhdfs/v1/t/a?op=CREATE' }, isOp('CREATE'))
    let read = 0
    const source = { lengthBytes: 4, open: async function* () { read += 1; yield Buffer.from('data') } }
    expect(await codeOf(store.put('a', source))).toBe('REMOTE_REFUSED')
    expect(read).toBe(0)
  })

  test('a DataNode name that does not resolve here can be mapped', async () => {
    const inside = await WebHdfsStandIn.start({ dataNodeHost: 'dn1.inside' })
    try {
      const mapped = openAt(`${inside.url}/t`, { dataNodeHosts: { 'dn1.inside': '127.0.0.1' } })
      await mapped.makeDirectories('')
      await mapped.put('a', piecewise(bytes))
      expect(inside.contents('/t/a')?.equals(bytes)).toBe(true)
    } finally {
      await inside.close()
    }
  })

  test('a DataNode that can not be reached is left out when the NameNode is asked again', async () => {
    script({ kind: 'location', location: 'http://127.0.0.77:1/webhdfs/v1/t/a?op=CREATE' }, isOp('CREATE'))
    await store.put('a', piecewise(bytes))
    expect(standIn.contents('/t/a')?.equals(bytes)).toBe(true)
    const creates = standIn.requests.filter(isOp('CREATE'))
    expect(creates[1]?.params.get('excludedatanodes')).toBe('127.0.0.77')
  })

  test('where every DataNode is a suspect the only one is tried again', async () => {
    script({ kind: 'cut', bytes: 1_000_000 }, isUpload)
    expect(await codeOf(store.put('a', piecewise(bytes)))).toBe('UNKNOWN_OUTCOME')
    await store.put('b', piecewise(bytes))
    expect(standIn.contents('/t/b')?.equals(bytes)).toBe(true)
    expect(standIn.requests.some((request) => request.params.get('excludedatanodes') === '127.0.0.1')).toBe(true)
  })

  test('a read that breaks off goes on where it stopped', async () => {
    await store.put('a', piecewise(bytes))
    script({ kind: 'cut', bytes: 700_000 }, (request) => request.op === 'OPEN' && request.leg === 'data-node')
    expect((await readAll(store, 'a', { offset: 10, length: 2_000_000 })).equals(bytes.subarray(10, 2_000_010))).toBe(true)
  })

  test('the user travels with every NameNode request', async () => {
    const named = openAt(`${standIn.url}/t`, { userName: 'logs' })
    await named.stat('')
    expect(standIn.requests.at(-1)?.params.get('user.name')).toBe('logs')
  })

  test('a token is read from its file again when the server calls it invalid, and replaces the user', async () => {
    const sim = simulate()
    const token = async (text: string): Promise<void> => {
      const file = await sim.fs.open('/token', 'truncateWrite')
      await file.write([Buffer.from(text)], 0)
      await file.close()
    }
    await token('old-token\n')
    const secured = openRemoteStore(`${standIn.url}/t`, { delegationTokenFile: '/token', userName: 'logs' }, { system: sim.system, http, streamingHttp })
    await secured.stat('')
    await token('new-token\n')
    standIn.onRequest = (request) => (request.params.get('delegation') === 'old-token' ? { kind: 'exception', exception: 'InvalidToken', message: 'token (HDFS) is expired' } : undefined)
    await secured.stat('')
    expect(standIn.requests.slice(-3).map((request) => request.params.get('delegation'))).toEqual(['old-token', 'old-token', 'new-token'])
    expect(standIn.requests.at(-1)?.params.has('user.name')).toBe(false)
  })
})
