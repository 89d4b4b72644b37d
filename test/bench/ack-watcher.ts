/**
 * Stands between an agent and its collector, passes everything on as it is, and tells which bytes were acked when the
 * answer comes by: what the agent is told, seen on the wire. It also counts the bytes both ways. It costs a copy and a
 * few tenths of a millisecond; nothing of it runs in the processes that are measured.
 */
import { once } from 'node:events'
import { Agent, createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import * as v from 'valibot'
import { decodeSourceHeader } from '../../shared/source-header.ts'
import { batchesResponseSchema, decodeEnvelope, decodeFrames, paths } from '../../shared/wire.ts'

export interface AckWatcherOptions {
  readonly collectorPort: number
  /** Every byte of the file up to `position` is stored and synced. */
  readonly acked: (path: string, position: number) => void
}

export class AckWatcher {
  private readonly options: AckWatcherOptions
  private readonly agent = new Agent({ keepAlive: true })
  private readonly sockets = new Set<Socket>()
  private closedBytes = 0
  private readonly server: Server

  constructor(options: AckWatcherOptions) {
    this.options = options
    this.server = createServer((incoming, answer) => {
      this.pass(incoming, answer).catch(() => answer.destroy())
    })
    this.server.on('connection', (socket) => {
      this.sockets.add(socket)
      socket.once('close', () => {
        this.sockets.delete(socket)
        this.closedBytes += socket.bytesRead + socket.bytesWritten
      })
    })
  }

  async listen(): Promise<string> {
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    const address = this.server.address()
    if (address === null || typeof address === 'string') throw new Error('no port')
    return `http://127.0.0.1:${address.port}`
  }

  /** Both ways, headers of HTTP included, those of TCP not. */
  get wireBytes(): number {
    return [...this.sockets].reduce((sum, socket) => sum + socket.bytesRead + socket.bytesWritten, this.closedBytes)
  }

  close(): void {
    this.server.close()
    this.server.closeAllConnections()
    this.agent.destroy()
  }

  private async pass(incoming: IncomingMessage, answer: ServerResponse): Promise<void> {
    const body = await wholeBody(incoming)
    const reply = await this.forward(incoming, body)
    const text = await wholeBody(reply)
    answer.writeHead(reply.statusCode ?? 502, reply.headers)
    answer.end(text)
    if (incoming.url === paths.batches && reply.statusCode === 200) this.tell(body, text)
  }

  private forward({ method, url, headers }: IncomingMessage, body: Buffer): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const outgoing = request({ host: '127.0.0.1', port: this.options.collectorPort, agent: this.agent, method, path: url, headers: { ...headers, 'content-length': body.length } }, resolve)
      outgoing.on('error', reject)
      outgoing.end(body)
    })
  }

  private tell(body: Buffer, answer: Buffer): void {
    const { frames } = v.parse(batchesResponseSchema, JSON.parse(answer.toString('utf8')))
    for (const [at, { envelope }] of decodeFrames(body).entries()) {
      const result = frames[at]
      if (result?.status !== 'ok' && result?.status !== 'have') continue
      const { path, end } = decodeSourceHeader(decodeEnvelope(envelope).sourceHeader)
      this.options.acked(path, end)
    }
  }
}

async function wholeBody(message: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of message) pieces.push(piece as Buffer)
  return Buffer.concat(pieces)
}
