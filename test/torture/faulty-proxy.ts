/**
 * Stands between agents and the collector and knows HTTP, so that it can do what networks and balancers do at their
 * worst: cut requests and answers, swallow an answer after the collector stored the batch, send a request twice or much
 * later than its sender believes, answer twice, hold a connection half-open. Which of them, is decided per request.
 */
import { once } from 'node:events'
import { createServer, request as httpRequest, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { connect } from 'node:net'

export const proxyFaults = ['swallow answer', 'cut answer', 'cut request', 'send twice', 'send late', 'answer twice', 'delay', 'half-open', '503'] as const
export type ProxyFault = (typeof proxyFaults)[number]

export interface ProxyOptions {
  readonly upstreamPort: number
  /** The fault for this request, if any. */
  readonly choose: (request: { path: string }) => ProxyFault | undefined
  readonly random: () => number
}

interface Answer {
  readonly status: number
  readonly headers: Record<string, string | string[]>
  readonly body: Buffer
}

const HALF_OPEN_MS = 8000
const LATE_MS_MAX = 3000
const DELAY_MS_MAX = 1500

export class FaultyProxy {
  port = 0
  /** While false every connection is cut at once. */
  isUp = true
  /** Requests that went through or were hurt. */
  requests = 0
  readonly counts = new Map<ProxyFault, number>()
  private readonly options: ProxyOptions
  private readonly server: Server
  private readonly timers = new Set<NodeJS.Timeout>()

  constructor(options: ProxyOptions) {
    this.options = options
    this.server = createServer((request, response) => {
      this.handle(request, response).catch(() => {
        // Whatever went wrong between the two is one more fault of the network.
        response.socket?.destroy()
        request.destroy()
      })
    })
    this.server.keepAliveTimeout = 30_000
  }

  async listen(): Promise<void> {
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    const address = this.server.address()
    this.port = typeof address === 'object' && address !== null ? address.port : 0
  }

  async close(): Promise<void> {
    for (const timer of this.timers) clearTimeout(timer)
    this.server.closeAllConnections()
    this.server.close()
    await once(this.server, 'close')
  }

  /** Ends every connection, as a balancer does that is restarted. */
  cutAll(): void {
    this.server.closeAllConnections()
  }

  private async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!this.isUp) {
      request.destroy()
      return
    }
    const pieces: Buffer[] = []
    for await (const piece of request) pieces.push(piece as Buffer)
    const body = Buffer.concat(pieces)
    this.requests += 1
    const fault = this.options.choose({ path: request.url ?? '' })
    if (fault !== undefined) this.counts.set(fault, (this.counts.get(fault) ?? 0) + 1)
    await this.act(fault, { request, body }, response)
  }

  private async act(fault: ProxyFault | undefined, sent: { request: IncomingMessage; body: Buffer }, response: ServerResponse): Promise<void> {
    switch (fault) {
      case undefined:
        reply(response, await this.forward(sent))
        return
      case 'swallow answer':
        await this.forward(sent)
        response.destroy()
        return
      case 'cut answer': {
        const answer = await this.forward(sent)
        response.writeHead(answer.status, { ...answer.headers, 'content-length': answer.body.length })
        response.write(answer.body.subarray(0, answer.body.length / 2))
        await this.pause(20)
        response.destroy()
        return
      }
      case 'cut request':
        this.forwardHalf(sent)
        response.destroy()
        return
      case 'send twice':
        await this.forward(sent)
        reply(response, await this.forward(sent))
        return
      case 'send late':
        response.destroy()
        await this.pause(this.options.random() * LATE_MS_MAX)
        await this.forward(sent)
        return
      case 'answer twice': {
        const answer = await this.forward(sent)
        const { socket } = response
        reply(response, answer)
        socket?.write(rawAnswer(answer))
        return
      }
      case 'delay':
        await this.pause(this.options.random() * DELAY_MS_MAX)
        reply(response, await this.forward(sent))
        return
      case 'half-open':
        if (this.options.random() < 0.5) await this.forward(sent)
        await this.holdOpen(response)
        return
      case '503':
        reply(response, { status: 503, headers: { 'retry-after': '1', 'content-type': 'text/plain' }, body: Buffer.from('balancer says no\n') })
    }
  }

  private async forward({ request, body }: { request: IncomingMessage; body: Buffer }): Promise<Answer> {
    const headers = { ...request.headers, connection: 'close', 'content-length': String(body.length) }
    const out = httpRequest({ host: '127.0.0.1', port: this.options.upstreamPort, method: request.method, path: request.url, headers, agent: false, timeout: 120_000 })
    out.end(body)
    const [answer] = (await once(out, 'response')) as [IncomingMessage]
    const pieces: Buffer[] = []
    for await (const piece of answer) pieces.push(piece as Buffer)
    const kept = Object.entries(answer.headers).filter(([name]) => name !== 'connection' && name !== 'transfer-encoding' && name !== 'content-length')
    return { status: answer.statusCode ?? 502, headers: Object.fromEntries(kept) as Record<string, string | string[]>, body: Buffer.concat(pieces) }
  }

  /** The head and half of the body, then the end of the connection. */
  private forwardHalf({ request, body }: { request: IncomingMessage; body: Buffer }): void {
    const socket = connect(this.options.upstreamPort, '127.0.0.1')
    // The collector may be away: a cut is a cut.
    socket.on('error', () => socket.destroy())
    const head = `${request.method} ${request.url} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: ${request.headers['content-type'] ?? ''}\r\ncontent-length: ${body.length}\r\n\r\n`
    socket.write(Buffer.concat([Buffer.from(head), body.subarray(0, Math.floor(body.length * this.options.random()))]), () => {
      socket.resetAndDestroy()
    })
  }

  /** Says nothing. In a third of the cases the one who asked has to give up, else the connection ends some time. */
  private async holdOpen(response: ServerResponse): Promise<void> {
    if (this.options.random() < 0.33 && !response.closed) await new Promise((resolve) => response.once('close', resolve))
    else await this.pause(this.options.random() * HALF_OPEN_MS)
    response.destroy()
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.timers.delete(timer)
        resolve()
      }, ms)
      this.timers.add(timer)
    })
  }
}

function reply(response: ServerResponse, answer: Answer): void {
  response.writeHead(answer.status, { ...answer.headers, 'content-length': answer.body.length })
  response.end(answer.body)
}

function rawAnswer(answer: Answer): Buffer {
  return Buffer.concat([Buffer.from(`HTTP/1.1 ${answer.status} OK\r\ncontent-type: application/json\r\ncontent-length: ${answer.body.length}\r\n\r\n`), answer.body])
}
