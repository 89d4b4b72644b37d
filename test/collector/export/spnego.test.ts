import { readFileSync } from 'node:fs'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { openRemoteStore, type StoreOptions } from '../../../collector/export/open-store.ts'
import { bufferSource, type RemoteStore } from '../../../collector/export/remote-store.ts'
import { toAppError } from '../../../shared/errors.ts'
import { createHttpClient } from '../../../shared/node/http-client.ts'
import { simulate } from '../../sim-system.ts'
import { WebHdfsStandIn, type StandInOptions } from '../../webhdfs-stand-in.ts'
import { codeOf, readAll } from './remote-store-contract.ts'

const clients = [createHttpClient(), createHttpClient({ keepsConnections: false })] as const
const standIns: WebHdfsStandIn[] = []

afterEach(async () => {
  for (const standIn of standIns.splice(0)) await standIn.close()
})
afterAll(async () => {
  for (const client of clients) await client.close()
})

async function startStandIn(options: StandInOptions): Promise<WebHdfsStandIn> {
  const standIn = await WebHdfsStandIn.start(options)
  standIns.push(standIn)
  return standIn
}

/** What the client waits for is due as soon as it waits. */
function openAt(url: string, options: StoreOptions, [http, streamingHttp] = clients): RemoteStore {
  const simulated = simulate().system
  const system = { ...simulated, clock: { ...simulated.clock, nowMs: () => 0, monotonicMs: () => 0, sleep: () => Promise.resolve() } }
  return openRemoteStore(url, options, { system, http, streamingHttp: { ...streamingHttp, close: () => Promise.resolve() } })
}

/** The package `kerberos`, as far as it is used: tokens are numbered, so that each is good once, as a real one is. */
class FakeKerberos {
  readonly services: string[] = []
  readonly GSS_MECH_OID_SPNEGO = 6
  private made = 0

  load = (): Promise<unknown> => Promise.resolve({ default: this })

  async initializeClient(service: string, { mechOID }: { mechOID?: number }): Promise<unknown> {
    expect(mechOID).toBe(6)
    this.services.push(service)
    const token = Buffer.from(`ticket ${(this.made += 1)}`).toString('base64')
    return {
      token,
      // The real one is native and breaks when it is called without its object.
      async step(this: { token: string }): Promise<string> {
        return this.token
      },
    }
  }
}

/** Takes each token once and gives a cookie for it, as Hadoop's filter does. */
class Door {
  readonly used = new Set<string>()
  cookie = 'u=logs&t=kerberos&s=1'

  authenticate = (headers: { readonly cookie?: string | undefined; readonly authorization?: string | undefined }): string | undefined => {
    if (headers.cookie === `hadoop.auth="${this.cookie}"`) return this.cookie
    const token = /^Negotiate (.+)$/.exec(headers.authorization ?? '')?.[1]
    if (token === undefined || this.used.has(token) || !Buffer.from(token, 'base64').toString().startsWith('ticket')) return undefined
    this.used.add(token)
    return this.cookie
  }
}

describe('with Kerberos', () => {
  test.each([{ flavour: 'webhdfs' as const }, { flavour: 'httpfs' as const }])('one ticket opens the door of $flavour, then the cookie does', async ({ flavour }) => {
    const [door, kerberos] = [new Door(), new FakeKerberos()]
    const standIn = await startStandIn({ flavour, authenticate: door.authenticate })
    const store = openAt(`${standIn.url}/t`, { mode: flavour, auth: 'kerberos', userName: 'ignored', loadKerberos: kerberos.load })
    await store.makeDirectories('')
    await store.put('a', bufferSource(Buffer.from('content')))
    expect((await readAll(store, 'a', { offset: 0, length: 7 })).toString()).toBe('content')
    expect(await store.rename('a', 'b')).toBe(true)
    expect(kerberos.services).toEqual(['HTTP@127.0.0.1'])
    expect(standIn.requests.some(({ params }) => params.has('user.name'))).toBe(false)
    expect(standIn.requests.filter(({ leg }) => leg === 'data-node').every(({ headers }) => headers.authorization === undefined && headers.cookie === undefined)).toBe(true)
  })

  test('a cookie that expired costs one more ticket, and each NameNode has its own', async () => {
    const [door, kerberos] = [new Door(), new FakeKerberos()]
    const standIn = await startStandIn({ authenticate: door.authenticate })
    const standby = await startStandIn({ authenticate: door.authenticate })
    standby.onRequest = () => ({ kind: 'exception', exception: 'StandbyException' })
    const store = openAt(`${standby.url},${standIn.url}/t`, { auth: 'kerberos', loadKerberos: kerberos.load })
    await store.makeDirectories('')
    expect(kerberos.services).toHaveLength(2)
    door.cookie = 'u=logs&t=kerberos&s=2'
    expect(await store.stat('')).toMatchObject({ kind: 'directory' })
    expect(await store.stat('')).toMatchObject({ kind: 'directory' })
    expect(kerberos.services).toHaveLength(3)
  })

  test('a ticket that the server refuses is refused, not asked for without end', async () => {
    const kerberos = new FakeKerberos()
    const standIn = await startStandIn({ authenticate: () => undefined })
    const store = openAt(`${standIn.url}/t`, { auth: 'kerberos', loadKerberos: kerberos.load })
    expect(await codeOf(store.stat(''))).toBe('REMOTE_REFUSED')
    expect(kerberos.services).toHaveLength(1)
  })

  test.each([
    { name: 'no package', loadKerberos: () => Promise.reject(new Error("Cannot find package 'kerberos'")), hint: /npm install kerberos/ },
    { name: 'another package of that name', loadKerberos: () => Promise.resolve({ default: {} }), hint: /npm install kerberos/ },
    { name: 'the package, which is not installed here', loadKerberos: undefined, hint: /npm install kerberos/ },
    { name: 'no ticket', loadKerberos: () => Promise.resolve({ initializeClient: () => Promise.reject(new Error('No Kerberos credentials available')) }), hint: /kinit.*KRB5_CLIENT_KTNAME/ },
  ])('$name: the error says what to do', async ({ loadKerberos, hint }) => {
    const standIn = await startStandIn({})
    const store = openAt(`${standIn.url}/t`, { auth: 'kerberos', ...(loadKerberos === undefined ? {} : { loadKerberos }) })
    const failure = await store.stat('').then(() => undefined, toAppError)
    expect(failure).toMatchObject({ code: 'REMOTE_REFUSED' })
    expect(failure?.hint).toMatch(hint)
    expect(standIn.requests).toEqual([])
  })
})

describe('without Kerberos', () => {
  test('who acts for another says both names, and with a token neither', async () => {
    const standIn = await startStandIn({})
    await openAt(`${standIn.url}/t`, { userName: 'gateway', doAs: 'logs' }).makeDirectories('')
    expect(Object.fromEntries(standIn.requests.at(-1)?.params ?? [])).toMatchObject({ 'user.name': 'gateway', doas: 'logs' })
    const sim = simulate()
    const file = await sim.fs.open('/token', 'truncateWrite')
    await file.write([Buffer.from('token\n')], 0)
    await file.close()
    const [http, streamingHttp] = clients
    await openRemoteStore(`${standIn.url}/t`, { delegationTokenFile: '/token', userName: 'gateway', doAs: 'logs' }, { system: sim.system, http, streamingHttp }).stat('')
    const params = standIn.requests.at(-1)?.params
    expect([params?.get('delegation'), params?.has('doas'), params?.has('user.name')]).toEqual(['token', false, false])
  })

  test('TLS is verified on both legs, with an authority of the cluster', async () => {
    const pem = (name: string): string => readFileSync(new URL(`../../shared/certificates/${name}`, import.meta.url), 'utf8')
    const standIn = await startStandIn({ tls: { cert: pem('server.crt'), key: pem('server.key') }, dataNodeHost: 'localhost' })
    const tls = { ca: pem('ca.crt') }
    const own = [createHttpClient({ tls }), createHttpClient({ tls, keepsConnections: false })] as const
    const store = openAt(`${standIn.url}/t`, {}, own)
    await store.makeDirectories('')
    await store.put('a', bufferSource(Buffer.from('content')))
    expect(standIn.contents('/t/a')?.toString()).toBe('content')
    // A DataNode whose certificate nobody here knows gets not a byte.
    const halfway = openAt(`${standIn.url}/t`, {}, [own[0], clients[1]])
    expect(await codeOf(halfway.put('b', bufferSource(Buffer.from('content'))))).toBe('CANNOT_CONNECT')
    expect(standIn.files.has('/t/b')).toBe(false)
    for (const client of own) await client.close()
  })
})
