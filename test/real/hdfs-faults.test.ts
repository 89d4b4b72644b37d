/**
 * What stands between the collector and HDFS: a DataNode that hangs, a connection that is cut, a user without rights, a
 * DataNode whose name nobody here knows. After each of them the store holds every offset once and nothing else.
 */
import { connect, createServer, type Server, type Socket } from 'node:net'
import { once } from 'node:events'
import { userInfo } from 'node:os'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bufferSource } from '../../collector/export/remote-store.ts'
import { toAppError } from '../../shared/errors.ts'
import { loadZstd, type Zstd } from '../../shared/zstd.ts'
import { codeOf } from '../collector/export/remote-store-contract.ts'
import { expectExported, exportAll, openStore, startExporting, system, type Exporting, type ExportingOptions } from './exporting.ts'
import { HdfsCluster } from './hdfs-cluster.ts'
import { reasonToSkip } from './java.ts'

const reason = reasonToSkip('HDFS under faults', ['java', 'javac', 'mvn'])
const user = { userName: userInfo().username }
let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})
afterAll(() => system.http.close())

/** Passes bytes on to one address at a time, until all its connections are cut. */
class Relay {
  private readonly server: Server
  private readonly sockets = new Set<Socket>()
  private target = ''

  constructor() {
    this.server = createServer((near) => {
      const [host, port] = this.target.split(':')
      const far = connect(Number(port), host)
      for (const [from, to] of [[near, far], [far, near]] as const) {
        this.sockets.add(from)
        from.on('error', () => to.destroy())
        from.on('close', () => this.sockets.delete(from))
        from.pipe(to)
      }
    })
  }

  async listen(): Promise<void> {
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
  }

  /** The relay's own address, for what is meant for `target`. */
  to(target: string): string {
    this.target = target
    const address = this.server.address()
    return `127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
  }

  cut(): void {
    for (const socket of this.sockets) socket.resetAndDestroy()
  }

  async close(): Promise<void> {
    this.cut()
    this.server.close()
    await once(this.server, 'close')
  }
}

async function addSegments({ segments }: Exporting, segmentsMade = 3): Promise<void> {
  for (let count = 0; count < segmentsMade; count += 1) await segments.add('app', 0, { batches: 40, linesEach: 2000 })
}

describe.skipIf(reason !== undefined)('on a real HDFS', () => {
  let cluster: HdfsCluster

  beforeAll(async () => {
    cluster = await HdfsCluster.start({ dataNodes: 3 })
  })
  afterAll(() => cluster.stop())

  async function exporting(options: Partial<ExportingOptions>): Promise<Exporting> {
    const made = await startExporting(cluster, { zstd, store: user, ...options })
    await addSegments(made, 2)
    await made.exporter.start()
    return made
  }

  test('a DataNode that stops in the middle of an upload is given up, and another takes the file', async () => {
    let stopped: ReturnType<HdfsCluster['dataNodeAt']> | undefined
    const made = await exporting({
      idleMs: 5_000,
      strike: {
        at: 'upload',
        run: (host) => {
          stopped = cluster.dataNodeAt(host ?? '')
          cluster.pause(stopped)
          return Promise.resolve()
        },
      },
    })
    try {
      const met = await exportAll(made, { withinMs: 120_000 })
      expect(met[0]).toContain('nothing moved on the connection')
    } finally {
      if (stopped !== undefined) cluster.resume(stopped)
    }
    await cluster.waitReady(3)
    await expectExported(cluster, made, [0])
    await made.close()
  })

  test('a connection that is cut in the middle of an upload leaves a short file that never gets a final name', async () => {
    const relay = new Relay()
    await relay.listen()
    const found: number[] = []
    const made = await exporting({
      detour: (host) => relay.to(host),
      strike: {
        at: 'upload',
        run: () => {
          relay.cut()
          return Promise.resolve()
        },
      },
    })
    const whole = made.segments.log.segments('app', 0)[0]?.sizeBytes ?? 0
    expect(await codeOf(made.exporter.exportNow())).toBe('UNKNOWN_OUTCOME')
    for (const { lengthBytes } of await made.store.list('_tmp')) found.push(lengthBytes)
    expect(found.every((lengthBytes) => lengthBytes < whole)).toBe(true)
    expect(made.exporter.exportedOffset('app', 0)).toBe(0)
    await exportAll(made, { withinMs: 60_000 })
    await expectExported(cluster, made, [0])
    await made.close()
    await relay.close()
  })

  test('a user without rights is told which, and goes on when the rights are given', async () => {
    const root = `/rights-${system.random.bytes(4).toString('hex')}`
    await cluster.shell('-mkdir', '-p', root)
    const made = await startExporting(cluster, { zstd, store: { userName: 'logs' }, root })
    await addSegments(made)
    await made.exporter.start()
    expect(made.exporter.status()[0]).toMatchObject({ state: 'parked', reason: expect.stringMatching(/AccessControlException.*user=logs.*check permissions/) as string })
    expect(made.exporter.alarms().map(({ code }) => code)).toContain('EXPORT_STORE_UNREACHABLE')
    await cluster.shell('-chown', 'logs', root)
    await exportAll(made, { withinMs: 60_000 })
    // Later the rights to one partition are taken away: that one waits, with its reason, and the other goes on.
    await cluster.shell('-chown', '-R', 'somebody', `${root}/raw/app/p=0`)
    await addSegments(made)
    await made.segments.add('app', 1, { batches: 2 })
    expect(await codeOf(made.exporter.exportNow())).toBe('REMOTE_REFUSED')
    const [first, second] = made.exporter.status()
    expect(first).toMatchObject({ partition: 0, state: 'parked', lagSegments: 3, reason: expect.stringMatching(/AccessControlException.*check permissions/) as string })
    expect(second).toMatchObject({ partition: 1, state: 'idle', lagSegments: 0 })
    await cluster.shell('-chown', '-R', 'logs', `${root}/raw/app/p=0`)
    await exportAll(made, { withinMs: 30_000 })
    await expectExported(cluster, made, [0, 1])
    await made.close()
  })

  test('acting for another user, the files are theirs', async () => {
    await cluster.shell('-mkdir', '-p', '/acting')
    await cluster.shell('-chown', 'web', '/acting')
    const store = openStore(cluster.url('/acting'), { ...user, doAs: 'web' })
    await store.put('a', bufferSource(Buffer.from('content')))
    expect(await cluster.shell('-ls', '/acting')).toMatch(/ web +\S+ +7 .*\/acting\/a/)
    await store.close()
  })
})

describe.skipIf(reason !== undefined)('on an HDFS whose DataNodes have names that nobody here knows', () => {
  let cluster: HdfsCluster
  const name = 'dn1.tailrace.invalid'

  beforeAll(async () => {
    cluster = await HdfsCluster.start({ dataNodes: 1, dataNodeName: () => name })
  })
  afterAll(() => cluster.stop())

  test('the error names the host and the setting, with and without leave to go there', async () => {
    for (const allowedHosts of [[], ['.invalid']]) {
      const store = openStore(cluster.url('/named'), { ...user, allowedHosts })
      await store.makeDirectories('')
      const failure = await store.put('a', bufferSource(Buffer.from('x'))).then(() => undefined, toAppError)
      expect(failure?.message).toContain(name)
      expect(failure?.hint).toContain('hdfsDataNodes')
      await store.close()
    }
  })

  test('with the name mapped the export works', async () => {
    const made = await startExporting(cluster, { zstd, store: { ...user, dataNodeHosts: { [name]: cluster.address(1) } } })
    await addSegments(made)
    await made.exporter.start()
    await made.exporter.exportNow()
    await expectExported(cluster, made, [0])
    await made.close()
  })
})
