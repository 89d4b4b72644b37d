/**
 * The network between agents and the collector, without sockets: it loses, delays, doubles, cuts and mixes up requests
 * and answers, calls the collector's handler, and tells its observer what went in and came out. A request body must not
 * change until its answer is there (I13).
 */
import { AppError, BugError } from '../../shared/errors.ts'
import { crc32c } from '../../shared/crc32c.ts'
import { errorResponse } from '../../shared/http-body.ts'
import type { Handler, ServerRequest, ServerResponse } from '../../shared/http-handler.ts'
import type { HttpClient, HttpRequest, HttpResponse } from '../../shared/system.ts'
import { paths } from '../../shared/wire.ts'
import type { Dice } from './dice.ts'
import type { Life } from './life.ts'
import type { Scheduler } from './scheduler.ts'
import type { Trace } from './trace.ts'

export interface Exchange {
  readonly path: string
  readonly body: Buffer
  readonly agentLife: string
}

export interface NetworkObserver {
  /** An agent's request is on its way. */
  sent(exchange: Exchange): void
  /** The collector gave this answer: whether it arrives or not, it has been said. */
  answered(exchange: Exchange, status: number, body: Buffer): void
  /** A handler broke an assertion. */
  broke(error: BugError): void
}

export interface Server {
  readonly handler: Handler
  readonly life: Life
}

export type NetworkFault = 'refuse' | 'lose request' | 'cut request' | 'lose answer' | 'cut answer' | 'double' | 'late' | 'cross'

export interface NetworkState {
  /** Average one-way time. */
  delayMs: number
  faultChance: number
  faults: readonly NetworkFault[]
  /** Nobody gets through, without a word. */
  isCut: boolean
}

interface Answer {
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
  readonly body: Buffer
}

const TIMEOUT_MS = 30_000
const LATE_MS = 8_000

export class SimNetwork {
  readonly state: NetworkState = { delayMs: 2, faultChance: 0, faults: [], isCut: false }
  server: Server | undefined
  private readonly scheduler: Scheduler
  private readonly dice: Dice
  private readonly trace: Trace
  private readonly observer: NetworkObserver
  /** The last answer of each kind, for mixing up. */
  private readonly lastAnswers = new Map<string, Answer>()

  constructor(parts: { scheduler: Scheduler; dice: Dice; trace: Trace; observer: NetworkObserver }) {
    this.scheduler = parts.scheduler
    this.dice = parts.dice
    this.trace = parts.trace
    this.observer = parts.observer
  }

  /** What one life of an agent connects through. */
  client(life: Life): HttpClient {
    return {
      request: (request) => life.hold(untilAborted(this.request(request, life), request.signal)),
      close: () => Promise.resolve(),
    }
  }

  private async request(request: HttpRequest, life: Life): Promise<HttpResponse> {
    const buffers = request.body === undefined || 'stream' in request.body ? [] : request.body
    const before = checksum(buffers)
    const path = new URL(request.url).pathname
    const fault = this.dice.isHit(this.state.faultChance) && this.state.faults.length > 0 ? this.dice.pick(this.state.faults) : undefined
    if (fault !== undefined) this.trace.note(life.name, `${path} meets the fault "${fault}"`)
    const whole = Buffer.concat(buffers)
    this.observer.sent({ path, body: whole, agentLife: life.name })
    await this.travel()
    // A dead process has closed its socket: what had left it may arrive or not.
    if (!life.isAlive && this.dice.isHit(0.5)) return await new Promise(() => undefined)
    const look = (): void => {
      if (life.isAlive && request.signal?.aborted !== true && checksum(buffers) !== before) this.trace.violation('I13', `the body of ${path} changed on its way`)
    }
    look()
    const body = Buffer.concat(buffers)
    const answer = await this.meet(fault, { path, body, agentLife: life.name }, request)
    await this.travel()
    look()
    this.lastAnswers.set(path, answer)
    return response(answer, fault === 'cut answer')
  }

  private async meet(fault: NetworkFault | undefined, exchange: Exchange, request: HttpRequest): Promise<Answer> {
    const { server } = this
    if (this.state.isCut || fault === 'lose request') {
      await this.scheduler.sleep(this.dice.isHit(0.5) ? TIMEOUT_MS : this.dice.gap(500))
      throw unknownOutcome('no answer came')
    }
    if (server === undefined || !server.life.isAlive || fault === 'refuse') throw new AppError('CANNOT_CONNECT', 'connection refused')
    if (fault === 'cut request') {
      const cut = exchange.body.subarray(0, this.dice.between(0, Math.max(0, exchange.body.length - 1)))
      await this.deliver(server, { ...exchange, body: cut }, { request, announced: exchange.body.length }).catch(() => undefined)
      throw unknownOutcome('the connection was cut while sending')
    }
    if (fault === 'late') {
      // Believed dead by its sender, who tries again, while some box on the way still holds it.
      const held = Buffer.from(exchange.body)
      this.scheduler.in(this.dice.gap(LATE_MS), () => this.deliverLate({ ...exchange, body: held }, request))
      await this.scheduler.sleep(this.dice.gap(300))
      throw unknownOutcome('the connection was reset')
    }
    if (fault === 'double') {
      const copy = Buffer.from(exchange.body)
      this.scheduler.in(this.dice.gap(this.dice.isHit(0.5) ? 10 : 2_000), () => this.deliverLate({ ...exchange, body: copy }, request))
    }
    const answer = await this.deliver(server, exchange, { request, announced: exchange.body.length })
    if (fault === 'lose answer') {
      await this.scheduler.sleep(this.dice.isHit(0.3) ? TIMEOUT_MS : this.dice.gap(200))
      throw unknownOutcome('the answer was lost')
    }
    // Acknowledgements echo what they are for (I10); other answers have nothing to be told by, and only cost a copy.
    const isCrossed = fault === 'cross' && exchange.path === paths.batches
    return (isCrossed ? this.lastAnswers.get(exchange.path) : undefined) ?? answer
  }

  private deliverLate(exchange: Exchange, request: HttpRequest): void {
    const { server } = this
    if (server === undefined || !server.life.isAlive) return
    // Nobody waits for what comes of it; a broken assertion has gone to the observer.
    void this.deliver(server, exchange, { request, announced: exchange.body.length }).catch(() => undefined)
  }

  private async deliver(server: Server, exchange: Exchange, sent: { request: HttpRequest; announced: number }): Promise<Answer> {
    const url = new URL(sent.request.url)
    const serverRequest: ServerRequest = {
      method: sent.request.method,
      path: url.pathname,
      query: url.searchParams,
      headers: new Map(Object.entries({ host: url.host, ...sent.request.headers })),
      contentLength: sent.announced,
      body: pieces(exchange.body),
      remoteAddress: '127.0.0.1',
      certificateNames: [],
      signal: new AbortController().signal,
    }
    const given = await untilDead(server.handler(serverRequest).catch((error: unknown) => this.failed(error)), server.life)
    const body = await collect(given.body)
    this.observer.answered(exchange, given.status, body)
    return { status: given.status, headers: new Map(Object.entries(given.headers ?? {})), body }
  }

  private failed(error: unknown): ServerResponse {
    if (error instanceof BugError) this.observer.broke(error)
    return errorResponse(error)
  }

  private travel(): Promise<void> {
    return this.scheduler.sleep(this.dice.gap(this.state.delayMs))
  }
}

/** In two pieces, so that nobody relies on a body that comes at once. */
async function* pieces(body: Buffer): AsyncGenerator<Uint8Array> {
  await Promise.resolve()
  const middle = body.length >> 1
  if (middle > 0) yield body.subarray(0, middle)
  if (body.length > middle) yield body.subarray(middle)
}

function response(answer: Answer, isCut: boolean): HttpResponse {
  return {
    status: answer.status,
    headers: answer.headers,
    body: (async function* body() {
      await Promise.resolve()
      if (!isCut) {
        yield answer.body
        return
      }
      yield answer.body.subarray(0, answer.body.length >> 1)
      throw unknownOutcome('the answer was cut off')
    })(),
  }
}

export async function collect(body: ServerResponse['body']): Promise<Buffer> {
  if (body === undefined) return Buffer.alloc(0)
  if (typeof body === 'string') return Buffer.from(body)
  if (body instanceof Uint8Array) return Buffer.from(body)
  const all: Uint8Array[] = []
  for await (const piece of body) all.push(Buffer.from(piece))
  return Buffer.concat(all)
}

/** The server's death is a connection reset for whoever waits for it. */
function untilDead<T>(promise: Promise<T>, life: Life): Promise<T> {
  return new Promise((resolve, reject) => {
    const forget = life.onDeath(() => reject(unknownOutcome('the connection was reset')))
    promise.then(
      (value) => {
        forget()
        resolve(value)
      },
      (error: unknown) => {
        forget()
        reject(error instanceof Error ? error : new Error(String(error)))
      },
    )
  })
}

function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(new AppError('ABORTED', 'the request was stopped'))
    if (signal.aborted) stop()
    signal.addEventListener('abort', stop, { once: true })
    promise.then(
      (value) => {
        signal.removeEventListener('abort', stop)
        resolve(value)
      },
      (error: unknown) => {
        signal.removeEventListener('abort', stop)
        reject(error instanceof Error ? error : new Error(String(error)))
      },
    )
  })
}

function unknownOutcome(message: string): AppError {
  return new AppError('UNKNOWN_OUTCOME', message)
}

function checksum(buffers: readonly Uint8Array[]): number {
  let sum = 0
  for (const buffer of buffers) sum = crc32c(buffer, sum)
  return sum
}
