import * as http from 'node:http'
import * as net from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { AppError, BugError } from '../../shared/errors.ts'
import { jsonResponse, readBody, textResponse } from '../../shared/http-body.ts'
import type { Handler } from '../../shared/http-handler.ts'
import { serveHttp, type RunningServer, type ServeOptions } from '../../shared/http-server.ts'
import { SimClock, SimLog } from '../sim-system.ts'

const running: RunningServer[] = []

afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.close({ drainMs: 0 })))
})

interface Served {
  readonly server: RunningServer
  readonly clock: SimClock
  readonly log: SimLog
}

async function serve(handler: Handler, options: Partial<ServeOptions> = {}): Promise<Served> {
  const clock = new SimClock(0)
  const log = new SimLog()
  const server = await serveHttp(handler, { host: '127.0.0.1', port: 0, clock, log, ...options })
  // A drain of 0 ms must end without anybody advancing the clock.
  running.push({ ...server, close: async () => Promise.all([server.close({ drainMs: 0 }), clock.advance(10_000)]).then(() => undefined) })
  return { server, clock, log }
}

interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

function ask(server: RunningServer, options: http.RequestOptions & { body?: Buffer | string } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: '127.0.0.1', port: server.port, agent: false, ...options }, (response) => {
      const pieces: Buffer[] = []
      response.on('data', (piece: Buffer) => pieces.push(piece))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(pieces).toString() }))
      response.on('error', reject)
    })
    request.on('error', reject)
    request.end(options.body)
  })
}

/** Sends text as it is and gives all that comes back until the other side closes. */
function rawAsk(server: RunningServer, text: string): Promise<string> {
  return new Promise((resolve) => {
    const pieces: Buffer[] = []
    const socket = net.connect(server.port, '127.0.0.1', () => socket.write(text))
    socket.on('data', (piece) => pieces.push(piece))
    socket.on('error', () => undefined)
    socket.on('close', () => resolve(Buffer.concat(pieces).toString()))
  })
}

test('a handler sees method, path, query, headers and body, and its answer arrives', async () => {
  const { server } = await serve(async (request) =>
    jsonResponse({
      method: request.method,
      path: request.path,
      q: request.query.get('q'),
      header: request.headers.get('x-one'),
      body: (await readBody(request, 100)).toString(),
    }),
  )
  const answer = await ask(server, { method: 'POST', path: '/a%20b?q=1%2B1', headers: { 'X-One': 'two' }, body: 'hello' })
  expect(answer.status).toBe(200)
  expect(JSON.parse(answer.body)).toEqual({ method: 'POST', path: '/a%20b', q: '1+1', header: 'two', body: 'hello' })
  expect(answer.headers['x-content-type-options']).toBe('nosniff')
})

test('an AppError becomes its status with code, message, hint, and Retry-After where coming back helps', async () => {
  const { server } = await serve(() => {
    throw new AppError('UNAVAILABLE', 'busy', { hint: 'wait', retryAfterMs: 2500 })
  })
  const answer = await ask(server)
  expect(answer.status).toBe(503)
  expect(answer.headers['retry-after']).toBe('3')
  expect(JSON.parse(answer.body)).toEqual({ error: { code: 'UNAVAILABLE', message: 'busy', hint: 'wait', retryable: true } })
})

test('an unexpected exception is a 500 that keeps its words to the log', async () => {
  const { server, log } = await serve(() => {
    throw new TypeError('secret path /root/x')
  })
  const answer = await ask(server, { path: '/p?password=1' })
  expect(answer.status).toBe(500)
  expect(answer.body).not.toContain('/root/x')
  expect(log.lines.map(({ event, fields }) => [event, fields['path']])).toEqual([['request failed', '/p']])
})

test('a broken assertion is answered and then reported as a bug', async () => {
  const bugs: BugError[] = []
  const { server } = await serve(
    () => {
      throw new BugError('cannot be')
    },
    { onBug: (error) => bugs.push(error) },
  )
  expect((await ask(server)).status).toBe(500)
  expect(bugs.map(({ message }) => message)).toEqual(['BUG: cannot be'])
})

test('a 10 GB Content-Length is refused at once, without a byte of it, and the connection ends', async () => {
  const { server, clock } = await serve(async (request) => textResponse(String((await readBody(request, 1024)).length)))
  const answer = rawAsk(server, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10737418240\r\n\r\n')
  await until(() => clock.sleeping > 0) // the answer is out, and the server lingers for a client that is still sending
  await clock.advance(1000)
  const text = await answer
  expect(text).toContain('HTTP/1.1 413 ')
  expect(text.toLowerCase()).toContain('connection: close')
  expect(text).toContain('"MESSAGE_TOO_LARGE"')
})

test('a client that goes on sending a refused body still reads the answer', async () => {
  const { server } = await serve(async (request) => textResponse(String((await readBody(request, 1024)).length)))
  const answer = await ask(server, { method: 'POST', body: Buffer.alloc(8 * 1024 * 1024) })
  expect(answer.status).toBe(413)
})

test('a small body that nobody read does not end the connection', async () => {
  const { server } = await serve(async () => Promise.resolve(textResponse('no')))
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  const answers = [await ask(server, { agent, method: 'POST', body: 'x'.repeat(1000) }), await ask(server, { agent })]
  agent.destroy()
  expect(answers.map(({ body, headers }) => [body, headers.connection])).toEqual([
    ['no', 'keep-alive'],
    ['no', 'keep-alive'],
  ])
})

test('a chunked body is capped by what comes, since it announces nothing', async () => {
  const { server } = await serve(async (request) => textResponse(String((await readBody(request, 1000)).length)))
  const headers = { 'transfer-encoding': 'chunked' }
  expect((await ask(server, { method: 'POST', headers, body: Buffer.alloc(1000) })).body).toBe('1000')
  expect((await ask(server, { method: 'POST', headers, body: Buffer.alloc(1001) })).status).toBe(413)
})

test('a body that does not come in time is given up with 408', async () => {
  const { server, clock } = await serve(async (request) => textResponse(String((await readBody(request, 10_000)).length)), {
    bodyGraceMs: 5000,
    bodyBytesPerSecondMin: 1000,
  })
  const answer = rawAsk(server, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\nabc')
  await until(() => clock.sleeping > 0)
  await clock.advance(6999)
  expect(clock.sleeping).toBe(1) // 5 s of grace and 2 s for 2,000 bytes at 1,000 a second
  await clock.advance(1)
  await until(() => clock.sleeping > 0)
  await clock.advance(1000)
  expect(await answer).toContain('HTTP/1.1 408 ')
})

test('bytes that are not HTTP get a 400 and the end of the connection', async () => {
  const { server } = await serve(async () => Promise.resolve(textResponse('ok')))
  expect(await rawAsk(server, '\u0016\u0003\u0001 nonsense\r\n\r\n')).toContain('HTTP/1.1 400 Bad Request')
  expect(await rawAsk(server, `GET / HTTP/1.1\r\nHost: x\r\nA: ${'x'.repeat(20_000)}\r\n\r\n`)).toContain('HTTP/1.1 431 ')
})

test('headers named like object properties are plain headers', async () => {
  const { server } = await serve(async (request) => Promise.resolve(jsonResponse([...request.headers].filter(([name]) => name !== 'host'))))
  const text = await rawAsk(server, 'GET / HTTP/1.1\r\nHost: x\r\n__proto__: a\r\nconstructor: b\r\nX: 1\r\nx: 2\r\nConnection: close\r\n\r\n')
  expect(JSON.parse(text.slice(text.indexOf('\r\n\r\n')))).toEqual([
    ['__proto__', 'a'],
    ['constructor', 'b'],
    ['x', '1, 2'],
    ['connection', 'close'],
  ])
})

test('a slow reader pauses the source of a long answer, and its end ends the source', async () => {
  let pulled = 0
  let ended = false
  async function* endless(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        pulled += 1
        yield await Promise.resolve(Buffer.alloc(64 * 1024))
      }
    } finally {
      ended = true
    }
  }
  const { server } = await serve(async () => Promise.resolve({ status: 200, body: endless() }))
  const socket = net.connect(server.port, '127.0.0.1')
  socket.pause()
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
  let before = -1
  for (let same = 0; same < 20; before = pulled) {
    await new Promise((resolve) => setImmediate(resolve))
    same = pulled > 0 && pulled === before ? same + 1 : 0
  }
  expect(pulled).toBeLessThan(400) // what socket buffers take; without backpressure this has no end
  socket.destroy()
  await until(() => ended)
})

test('a source that fails half way cuts the connection, so that nobody takes half an answer for a whole one', async () => {
  async function* failing(): AsyncGenerator<Uint8Array> {
    yield await Promise.resolve(Buffer.from('part'))
    throw new AppError('STORAGE_ERROR', 'disk')
  }
  const { server } = await serve(async () => Promise.resolve({ status: 200, body: failing() }))
  await expect(ask(server)).rejects.toThrow('aborted')
})

test('the signal fires when the client goes away', async () => {
  let signal: AbortSignal | undefined
  const { server } = await serve(async (request) => {
    signal = request.signal
    await new Promise((resolve) => request.signal.addEventListener('abort', resolve))
    return textResponse('nobody reads this')
  })
  const socket = net.connect(server.port, '127.0.0.1', () => socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'))
  await until(() => signal !== undefined)
  socket.destroy()
  await until(() => signal?.aborted === true)
})

test('closing lets a request in flight finish, ends long answers, and refuses new connections', async () => {
  let release = (): void => undefined
  let started = 0
  const { server, clock } = await serve(async (request) => {
    started += 1
    if (request.path === '/tail') {
      await new Promise((resolve) => request.signal.addEventListener('abort', resolve))
      return textResponse('ended')
    }
    await new Promise<void>((resolve) => {
      release = resolve
    })
    return textResponse('done')
  })
  const inFlight = ask(server, { path: '/work' })
  const tail = ask(server, { path: '/tail' })
  await until(() => started === 2)
  const closing = server.close({ drainMs: 5000 })
  expect((await tail).body).toBe('ended')
  release()
  const answer = await inFlight
  expect([answer.body, answer.headers.connection]).toEqual(['done', 'close'])
  await closing
  expect(clock.sleeping).toBe(0)
  await expect(ask(server)).rejects.toThrow('ECONNREFUSED')
})

test('a port in use is an error with a code and what to do', async () => {
  const { server } = await serve(async () => Promise.resolve(textResponse('ok')))
  const second = serveHttp(async () => Promise.resolve(textResponse('')), { host: '127.0.0.1', port: server.port, clock: new SimClock(0), log: new SimLog() })
  await expect(second).rejects.toMatchObject({ code: 'CANNOT_LISTEN', hint: expect.stringContaining('another process') as string })
})

async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 100_000; turn += 1) {
    if (condition()) return
    await new Promise((resolve) => setImmediate(resolve))
  }
  throw new Error('the condition never came true')
}
