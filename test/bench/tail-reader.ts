/** A reader at the collector's end: follows a topic over `/v1/tail` and feeds what comes to a counter, as it comes. */
import { get, type ClientRequest } from 'node:http'
import { paths } from '../../shared/wire.ts'
import { sleep } from './programs.ts'
import type { SequenceCounter } from './sequence-counter.ts'

const RETRY_MS = 50
const ATTEMPTS_MAX = 200

export class TailReader {
  private readonly request: ClientRequest
  private isClosed = false
  private brokenBy: string | undefined

  private constructor(request: ClientRequest) {
    this.request = request
  }

  /** From the beginning of the topic, as soon as that is there. `holdMs=0`: partitions do not wait for each other. */
  static async open(url: string, topic: string, counter: SequenceCounter): Promise<TailReader> {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      const reader = await TailReader.attempt(`${url}${paths.tail}?topic=${topic}&holdMs=0&last=1000000`, counter)
      if (reader !== undefined) return reader
      await sleep(RETRY_MS)
    }
    throw new Error(`there is no topic ${topic} to follow`)
  }

  private static attempt(url: string, counter: SequenceCounter): Promise<TailReader | undefined> {
    return new Promise((resolve, reject) => {
      const request = get(url, (answer) => {
        if (answer.statusCode !== 200) {
          answer.resume()
          resolve(undefined)
          return
        }
        answer.on('data', (piece: Buffer) => counter.feed(piece))
        const reader = new TailReader(request)
        answer.on('error', (error) => reader.noteBreak(error.message))
        answer.on('close', () => reader.noteBreak('the answer ended'))
        resolve(reader)
      })
      request.on('error', reject)
    })
  }

  /** Throws when the collector ended the tail by itself: what was not seen then may well be stored. */
  check(): void {
    if (this.brokenBy !== undefined) throw new Error(`the reader lost its tail: ${this.brokenBy}`)
  }

  private noteBreak(message: string): void {
    if (!this.isClosed) this.brokenBy ??= message
  }

  close(): void {
    this.isClosed = true
    this.request.on('error', () => this.request.destroyed)
    this.request.destroy()
  }
}
