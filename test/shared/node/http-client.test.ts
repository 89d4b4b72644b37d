import { createServer, type Server } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import { once } from 'node:events'
import { afterEach, expect, test } from 'vitest'
import { createHttpClient } from '../../../shared/node/http-client.ts'

const cleanUps: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

async function listen(server: Pick<Server, 'listen' | 'close' | 'address' | 'once'>): Promise<string> {
  server.listen(0, '127.0.0.1')
  await new Promise<void>((resolve) => server.once('listening', resolve))
  cleanUps.push(() => new Promise((resolve) => server.close(resolve)))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return `http://127.0.0.1:${address.port}`
}

function client(): ReturnType<typeof createHttpClient> {
  const made = createHttpClient({ connectTimeoutMs: 1_000 })
  cleanUps.push(() => made.close())
  return made
}

/** Until a number has been the same in many turns of the loop. */
function untilSteady(now: () => number): Promise<void> {
  return new Promise((resolve) => {
    const look = (before: number, turns: number): void => {
      if (now() === before && turns === 0) resolve()
      else setImmediate(look, now(), now() === before ? turns - 1 : 200)
    }
    look(now(), 200)
  })
}

async function textOf(body: AsyncIterable<Uint8Array>): Promise<string> {
  const pieces: Uint8Array[] = []
  for await (const piece of body) pieces.push(piece)
  return Buffer.concat(pieces).toString()
}

test('sends several buffers as one body with its length, and reads the answer', async () => {
  const server = createServer((request, response) => {
    const pieces: Buffer[] = []
    request.on('data', (piece: Buffer) => pieces.push(piece))
    request.on('end', () => {
      response.setHeader('X-Mixed', 'yes')
      response.end(`${request.headers['content-length']} ${Buffer.concat(pieces).toString()} ${request.method} ${request.url}`)
    })
  })
  const url = await listen(server)
  const answer = await client().request({ method: 'POST', url: `${url}/a/b?c=d`, body: [Buffer.from('one'), Buffer.from('two')] })
  expect([answer.status, answer.headers.get('x-mixed'), await textOf(answer.body)]).toEqual([200, 'yes', '6 onetwo POST /a/b?c=d'])
})

test('nobody listening is CANNOT_CONNECT: the request was certainly not processed', async () => {
  await expect(client().request({ method: 'GET', url: 'http://127.0.0.1:9/' })).rejects.toMatchObject({ code: 'CANNOT_CONNECT', retryable: true })
})

test('a connection that breaks after the request is UNKNOWN_OUTCOME: it may have been processed', async () => {
  const server = createTcpServer((socket) => {
    socket.once('data', () => socket.destroy())
    socket.on('error', () => socket.destroy())
  })
  const url = await listen(server as unknown as Server)
  await expect(client().request({ method: 'POST', url, body: [Buffer.from('x')] })).rejects.toMatchObject({ code: 'UNKNOWN_OUTCOME' })
})

test('a body that breaks in the middle rejects while it is read', async () => {
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-length': '100' })
    response.write('half')
    setImmediate(() => response.destroy())
  })
  const url = await listen(server)
  const answer = await client().request({ method: 'GET', url })
  await expect(textOf(answer.body)).rejects.toMatchObject({ code: 'UNKNOWN_OUTCOME' })
})

test('an answer that does not come ends by its timeout, an aborted request by its signal', async () => {
  const server = createServer(() => undefined)
  const url = await listen(server)
  cleanUps.push(async () => server.closeAllConnections())
  await expect(client().request({ method: 'GET', url, headersTimeoutMs: 50 })).rejects.toMatchObject({ code: 'UNKNOWN_OUTCOME' })
  const abort = new AbortController()
  const pending = client().request({ method: 'GET', url, signal: abort.signal })
  const arrived = once(server, 'request')
  await arrived
  abort.abort()
  await expect(pending).rejects.toMatchObject({ code: 'ABORTED' })
})

test('one connection carries many requests, and one that was answered too early carries no more', async () => {
  const ports: (number | undefined)[] = []
  const server = createServer((request, response) => {
    ports.push(request.socket.remotePort)
    if (request.url === '/early') response.writeHead(413).end('too long')
    else request.resume().on('end', () => response.end('fine'))
  })
  const url = await listen(server)
  const kept = client()
  const post = async (path: string, body: Parameters<typeof kept.request>[0]['body']): Promise<string> => {
    const answer = await kept.request({ method: 'POST', url: url + path, ...(body === undefined ? {} : { body }) })
    return `${answer.status} ${await textOf(answer.body)}`
  }
  async function* endless(): AsyncGenerator<Uint8Array> {
    for (;;) yield Buffer.alloc(65_536)
  }
  expect(await post('/', [Buffer.from('one')])).toBe('200 fine')
  expect(await post('/', [Buffer.from('two')])).toBe('200 fine')
  expect(await post('/early', { length: 1e9, stream: endless() })).toBe('413 too long')
  expect(await post('/', [Buffer.from('three')])).toBe('200 fine')
  expect(ports[1]).toBe(ports[0])
  expect(ports[3]).not.toBe(ports[2])
})

test('a server that does not take the connection is given up in time, certainly not processed', async () => {
  // TEST-NET-1 (RFC 5737) answers nobody; without a route the attempt fails at once, which is the same answer.
  const made = createHttpClient({ connectTimeoutMs: 50 })
  cleanUps.push(() => made.close())
  await expect(made.request({ method: 'GET', url: 'http://192.0.2.1/' })).rejects.toMatchObject({ code: 'CANNOT_CONNECT' })
})

test('answers whose bodies nobody reads give their connections back', async () => {
  const server = createServer((request, response) => request.resume().on('end', () => response.writeHead(307, { location: '/x' }).end(request.url === '/empty' ? undefined : 'a body')))
  const url = await listen(server)
  const made = createHttpClient({ connectionsPerOrigin: 1 })
  cleanUps.push(() => made.close())
  for (const path of ['/empty', '/short', '/empty', '/short']) expect((await made.request({ method: 'PUT', url: url + path })).status).toBe(307)
})

test('a body is read only as fast as it is wanted', async () => {
  let sent = 0
  const server = createServer((_request, response) => {
    const piece = Buffer.alloc(65_536)
    const more = (): void => {
      do sent += piece.length
      while (response.write(piece))
      response.once('drain', more)
    }
    response.on('error', () => undefined)
    more()
  })
  const url = await listen(server)
  const { body } = await client().request({ method: 'GET', url })
  const pieces = body[Symbol.asyncIterator]()
  expect((await pieces.next()).done).toBe(false)
  await untilSteady(() => sent)
  expect(sent).toBeLessThan(64 * 1024 * 1024)
  await pieces.return?.()
})
