/**
 * What the log has lost by being set back to an older copy, as far as agents know: `/v1/streams/missing`. An agent tells
 * up to where its streams were acknowledged; what the log does not reach is written to `<data>/set-back.json` and stays
 * there until it is stored again. Nothing is decided by it: it is what `verify` and the alarm tell people.
 */
import * as v from 'valibot'
import { AppError, errnoOf, toAppError } from '../../shared/errors.ts'
import { readTextFile, writeFileDurably } from '../../shared/files.ts'
import { jsonResponse } from '../../shared/http-body.ts'
import type { System } from '../../shared/system.ts'
import { parseJson, type CollectorStatus } from '../../shared/wire.ts'
import { MISSING_PATH, toldRequestSchema, toldStreamSchema, type MissingResponse, type MissingStream, type ToldRequest } from '../../shared/wire-missing.ts'
import type { TopicLog } from '../storage/topic-log.ts'
import { checkIdentity, type Caller } from './auth.ts'
import { readJson } from './conversation.ts'
import type { Route } from './router.ts'

export const SET_BACK_FILE_NAME = 'set-back.json'
const FILE_BYTES_MAX = 256 * 1024 * 1024
/** Of either kind; beyond, more names say nothing new. */
const STREAMS_MAX = 100_000

const fileSchema = v.object({
  version: v.literal(1),
  sinceMs: v.number(),
  told: v.array(v.object({ ...toldStreamSchema.entries, agentId: v.string(), host: v.string() })),
  confirmed: v.array(v.string()),
})
type SetBackFile = v.InferOutput<typeof fileSchema>
type Told = SetBackFile['told'][number]

/** Durable on return: from now on a stream counts as known only where somebody says so. */
export async function noteSetBack(system: Pick<System, 'fs'>, dataDirectory: string, sinceMs: number): Promise<void> {
  const file: SetBackFile = { version: 1, sinceMs, told: [], confirmed: [] }
  await writeFileDurably(system.fs, `${dataDirectory}/${SET_BACK_FILE_NAME}`, Buffer.from(JSON.stringify(file)))
}

export class SetBackBook {
  private readonly system: Pick<System, 'fs' | 'clock' | 'log'>
  private readonly log: Pick<TopicLog, 'streams'>
  private readonly path: string
  private sinceMs: number | undefined
  private readonly told = new Map<string, Told>()
  private readonly confirmed = new Set<string>()
  private writing: Promise<void> = Promise.resolve()

  constructor(system: Pick<System, 'fs' | 'clock' | 'log'>, log: Pick<TopicLog, 'streams'>, dataDirectory: string) {
    this.system = system
    this.log = log
    this.path = `${dataDirectory}/${SET_BACK_FILE_NAME}`
  }

  /** With what was known before. */
  static async open(system: Pick<System, 'fs' | 'clock' | 'log'>, log: Pick<TopicLog, 'streams'>, dataDirectory: string): Promise<SetBackBook> {
    const book = new SetBackBook(system, log, dataDirectory)
    try {
      const file = v.parse(fileSchema, JSON.parse(await readTextFile(system.fs, book.path, FILE_BYTES_MAX)))
      book.sinceMs = file.sinceMs
      for (const each of file.told) book.told.set(each.id, each)
      for (const id of file.confirmed) book.confirmed.add(id)
    } catch (error) {
      // Its loss costs an explanation, never a line: not worth refusing a start.
      if (errnoOf(error) !== 'ENOENT') system.log.warn('what is known of a set-back can not be read', { path: book.path, error: toAppError(error).message })
    }
    return book
  }

  /** Answers how many of the streams the log does not reach; durable then. */
  async tell({ agentId, host, streams }: ToldRequest): Promise<number> {
    let missing = 0
    let hasChanged = false
    const reached: string[] = []
    for (const stream of streams) {
      const state = this.log.streams.get(Buffer.from(stream.id, 'hex'))
      if (state !== undefined && state.source.agentId !== agentId) continue
      if ((state?.position ?? 0) >= stream.position) {
        reached.push(stream.id)
        continue
      }
      missing += 1
      if ((this.told.get(stream.id)?.position ?? 0) >= stream.position || this.told.size >= STREAMS_MAX) continue
      this.told.set(stream.id, { ...stream, agentId, host })
      hasChanged = true
    }
    if (missing > 0 && this.sinceMs === undefined) {
      this.sinceMs = this.system.clock.nowMs()
      this.system.log.error('the log is behind what it acknowledged: its folder was set back', { agentId, host, streams: missing })
    }
    for (const id of reached) hasChanged = this.confirm(id) || hasChanged
    if (hasChanged && this.sinceMs !== undefined) await this.write()
    return missing
  }

  private confirm(id: string): boolean {
    if (this.sinceMs === undefined || this.confirmed.has(id) || this.confirmed.size >= STREAMS_MAX) return false
    this.confirmed.add(id)
    return true
  }

  list(): MissingResponse {
    return { sinceMs: this.sinceMs === undefined ? null : Math.max(0, Math.floor(this.sinceMs)), missing: [...this.missing()], confirmed: [...this.confirmed].sort() }
  }

  private *missing(): Generator<MissingStream> {
    for (const told of this.told.values()) {
      const stored = this.log.streams.get(Buffer.from(told.id, 'hex'))?.position ?? 0
      if (stored < told.position) yield { ...told, stored }
    }
  }

  alarms(): CollectorStatus['alarms'] {
    const { sinceMs } = this
    const missing = [...this.missing()]
    if (missing.length === 0 || sinceMs === undefined) return []
    const bytes = missing.reduce((sum, { position, stored }) => sum + position - stored, 0)
    return [{ code: 'LOG_SET_BACK', message: `${missing.length} streams have ${bytes} bytes less than was acknowledged: the data folder was set back; tailrace verify names them`, sinceMs }]
  }

  /** One after another, each with all that is known by then. */
  private write(): Promise<void> {
    this.writing = this.writing.then(
      () => this.writeNow(),
      () => this.writeNow(),
    )
    return this.writing
  }

  private async writeNow(): Promise<void> {
    const file: SetBackFile = { version: 1, sinceMs: this.sinceMs ?? 0, told: [...this.told.values()], confirmed: [...this.confirmed] }
    await writeFileDurably(this.system.fs, this.path, Buffer.from(JSON.stringify(file)))
  }
}

export function createSetBackRoutes(book: SetBackBook): readonly Route[] {
  return [
    { method: 'GET', pattern: MISSING_PATH, role: 'read', handler: () => Promise.resolve(jsonResponse(book.list())) },
    { method: 'POST', pattern: MISSING_PATH, role: 'ingest', handler: async (request, { caller }) => tell(await readJson(request), caller, book) },
  ]
}

async function tell(text: string, caller: Caller, book: SetBackBook): Promise<ReturnType<typeof jsonResponse>> {
  const request = parseJson(toldRequestSchema, text, 'told positions')
  checkIdentity(caller, request)
  try {
    return jsonResponse({ missing: await book.tell(request) })
  } catch (error) {
    throw error instanceof AppError ? error : new AppError('UNAVAILABLE', 'what was told could not be written', { cause: error, retryAfterMs: 10_000 })
  }
}
