import { createServer, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { AppError, toAppError } from '../../../shared/errors.ts'
import { createHttpClient } from '../../../shared/node/http-client.ts'
import type { HttpClient, HttpRequest, HttpResponse } from '../../../shared/system.ts'

/** What the peer does with a connection; `received` is everything that came so far. */
type Peer = (socket: Socket, received: () => Buffer) => void

let server: Server
let url: string
let client: HttpClient
let sockets: Socket[]

beforeEach(() => {
  client = createHttpClient({ keepsConnections: false })
  sockets = []
})

afterEach(async () => {
  await client.close()
  for (const socket of sockets) socket.destroy()
  await new Promise((resolve) => server.close(resolve))
})

async function listen(peer: Peer): Promise<void> {
  server = createServer((socket) => {
    sockets.push(socket)
    const pieces: Buffer[] = []
    socket.on('data', (piece) => pieces.push(piece))
    socket.on('error', () => undefined)
    peer(socket, () => Buffer.concat(pieces))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  url = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
}

function upload(lengthBytes: number, options: Partial<HttpRequest> & { pulled?: (bytes: number) => void } = {}): HttpRequest {
  const { pulled, ...rest } = options
  const stream = async function* (): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < lengthBytes; at += 65_536) {
      const piece = Buffer.alloc(Math.min(65_536, lengthBytes - at), 0x61)
      pulled?.(piece.length)
      yield piece
    }
  }
  return { method: 'PUT', url: `${url}/x?token=a%2Fb+c`, body: { length: lengthBytes, stream: stream() }, ...rest }
}

async function text(response: HttpResponse): Promise<string> {
  const pieces: Uint8Array[] = []
  for await (const piece of response.body) pieces.push(piece)
  return Buffer.concat(pieces).toString()
}

async function failureOf(request: HttpRequest): Promise<AppError> {
  try {
    await text(await client.request(request))
  } catch (error) {
    return toAppError(error)
  }
  throw new Error('the request succeeded')
}

const created = 'HTTP/1.1 201 Created\r\ncontent-length: 0\r\nconnection: close\r\n\r\n'

/** Calls back once `bytes` of body have come. */
function onBody(socket: Socket, received: () => Buffer, bytes: number, then: () => void): void {
  const look = (): void => {
    const head = received().indexOf('\r\n\r\n')
    if (head < 0 || received().length - head - 4 < bytes) return
    socket.off('data', look)
    then()
  }
  socket.on('data', look)
}

describe('an upload', () => {
  test('takes a 100 Continue that nobody asked for, and the answer behind it', async () => {
    await listen((socket, received) => {
      socket.once('data', () => socket.write('HTTP/1.1 100 Continue\r\n\r\n'))
      onBody(socket, received, 1_000_000, () => socket.end(created))
    })
    expect((await client.request(upload(1_000_000))).status).toBe(201)
  })

  test('sends path and query as they were given, with a length and for one connection', async () => {
    let head = ''
    await listen((socket, received) => onBody(socket, received, 10, () => {
      head = received().toString().split('\r\n\r\n')[0] ?? ''
      socket.end(created)
    }))
    await client.request(upload(10))
    expect(head).toContain('PUT /x?token=a%2Fb+c HTTP/1.1')
    expect(head.toLowerCase()).toContain('content-length: 10')
    expect(head.toLowerCase()).toContain('connection: close')
    expect(head.toLowerCase()).not.toContain('expect:')
  })

  test('an error that comes while the body is being sent is the answer, and the rest is not read any more', async () => {
    await listen((socket, received) => onBody(socket, received, 100_000, () => {
      socket.pause()
      socket.write('HTTP/1.1 403 Forbidden\r\ncontent-length: 5\r\nconnection: close\r\n\r\nquota')
    }))
    let pulled = 0
    const response = await client.request(upload(500_000_000, { pulled: (bytes) => (pulled += bytes) }))
    expect(response.status).toBe(403)
    expect(await text(response)).toBe('quota')
    expect(pulled).toBeLessThan(100_000_000)
  })

  test('a peer that does not read holds the source back', async () => {
    let pulled = 0
    await listen((socket) => socket.pause())
    const stop = new AbortController()
    const failure = failureOf(upload(500_000_000, { signal: stop.signal, pulled: (bytes) => (pulled += bytes) }))
    await new Promise<void>((resolve) => {
      const look = (before: number): void => {
        if (pulled > 0 && pulled === before) resolve()
        else setImmediate(() => setImmediate(look, pulled))
      }
      look(-1)
    })
    expect(pulled).toBeLessThan(100_000_000)
    stop.abort()
    expect((await failure).code).toBe('ABORTED')
  })

  test('a connection that breaks after the request went out has an unknown outcome', async () => {
    await listen((socket, received) => onBody(socket, received, 100_000, () => socket.resetAndDestroy()))
    expect((await failureOf(upload(50_000_000))).code).toBe('UNKNOWN_OUTCOME')
  })

  test('a peer that says nothing is given up after the time for an answer', async () => {
    await listen(() => undefined)
    expect((await failureOf(upload(10, { headersTimeoutMs: 50 }))).code).toBe('UNKNOWN_OUTCOME')
  })

  test('nobody listening means certainly not done', async () => {
    await listen((socket) => socket.destroy())
    expect((await failureOf(upload(10, { url: 'http://127.0.0.1:1/x' }))).code).toBe('CANNOT_CONNECT')
  })

  test('a source that fails or is shorter than announced breaks the connection, so that the peer can not take it for whole', async () => {
    let bodyBytes = -1
    await listen((socket, received) => socket.once('close', () => (bodyBytes = received().length - received().indexOf('\r\n\r\n') - 4)))
    const short = { length: 20, stream: (async function* () { yield Buffer.alloc(5) })() }
    expect((await failureOf(upload(0, { body: short }))).code).toBe('CORRUPT_DATA')
    const failing = { length: 20, stream: (async function* () { yield Buffer.alloc(5); throw new AppError('STORAGE_ERROR', 'disk') })() }
    expect((await failureOf(upload(0, { body: failing }))).code).toBe('STORAGE_ERROR')
    expect(bodyBytes).toBeLessThan(20)
  })

  test('an answer that breaks off is an unknown outcome, not a short body', async () => {
    await listen((socket, received) => onBody(socket, received, 10, () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort')))
    expect((await failureOf(upload(10))).code).toBe('UNKNOWN_OUTCOME')
  })
})
