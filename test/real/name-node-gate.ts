/**
 * A door in front of a NameNode: every request, and every answer on its way back, asks before it passes. What is held
 * there is held for ever, so that whoever waits for it can be killed at exactly that moment.
 */
import { once } from 'node:events'
import http from 'node:http'

export interface Passage {
  readonly stage: 'request' | 'answer'
  readonly op: string
  /** HDFS path. */
  readonly path: string
}

export class NameNodeGate {
  /** Whether it may pass. Called for one passage at a time. */
  mayPass: (passage: Passage) => boolean = () => true
  /** Directories that were listed. */
  listed: string[] = []
  private readonly server: http.Server
  private readonly target: URL

  private constructor(target: string) {
    this.target = new URL(target)
    this.server = http.createServer((incoming, outgoing) => this.serve(incoming, outgoing))
  }

  /** `target`: `http://127.0.0.1:9870`. */
  static async open(target: string): Promise<NameNodeGate> {
    const gate = new NameNodeGate(target)
    gate.server.listen(0, '127.0.0.1')
    await once(gate.server, 'listening')
    return gate
  }

  get url(): string {
    const address = this.server.address()
    return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
  }

  async close(): Promise<void> {
    this.server.closeAllConnections()
    this.server.close()
    await once(this.server, 'close')
  }

  private serve(incoming: http.IncomingMessage, outgoing: http.ServerResponse): void {
    const { pathname, searchParams } = new URL(incoming.url ?? '/', this.target)
    const passage = { op: searchParams.get('op') ?? '', path: decodeURIComponent(pathname.replace('/webhdfs/v1', '')) }
    if (passage.op === 'LISTSTATUS') this.listed.push(passage.path)
    if (!this.mayPass({ stage: 'request', ...passage })) return
    const { hostname, port } = this.target
    const onward = http.request({ hostname, port, method: incoming.method, path: incoming.url, headers: { ...incoming.headers, host: this.target.host } }, (answer) => {
      if (!this.mayPass({ stage: 'answer', ...passage })) {
        answer.destroy()
        return
      }
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(outgoing)
    })
    onward.on('error', () => outgoing.destroy())
    incoming.pipe(onward)
  }
}
