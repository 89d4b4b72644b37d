/**
 * Where a replay goes: stdout, a file, a topic. `send` resolves when the sink has the records: written out, given to
 * the file system, or synced by the collector. One caller at a time.
 */
import * as v from 'valibot'
import { AppError, toAppError } from '../../shared/errors.ts'
import { parentOf } from '../../shared/files.ts'
import type { FileHandle } from '../../shared/system.ts'
import { checkTopicName, contentTypes, paths, type QueryRecord } from '../../shared/wire.ts'
import type { CollectorClient } from './collector-client.ts'
import type { CliContext } from './context.ts'
import { ExitError, exitCodes, usageError } from './exit-codes.ts'
import { BlockWriter, guard } from './file-target.ts'
import { Output } from './output.ts'
import { valueOf } from './query-stream.ts'
import { createRecordWriter, type FormatOptions } from './record-format.ts'

export type SinkSpec =
  | { readonly kind: 'stdout' }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'topic'; readonly topic: string }

export function parseSink(text: string | undefined): SinkSpec {
  if (text === undefined || text === 'stdout') return { kind: 'stdout' }
  if (text.startsWith('file:') && text.length > 5) return { kind: 'file', path: text.slice(5) }
  if (text.startsWith('topic:')) return { kind: 'topic', topic: checkTopicName(text.slice(6)) }
  throw usageError(`${JSON.stringify(text)} is not a sink`, 'use stdout, file:PATH or topic:NAME')
}

export function sinkText(sink: SinkSpec): string {
  if (sink.kind === 'stdout') return 'stdout'
  return sink.kind === 'file' ? `file:${sink.path}` : `topic:${sink.topic}`
}

export interface ReplaySink {
  /** `key` names this group: a sink that has seen it drops the repeat. */
  send(records: readonly QueryRecord[], key: string): Promise<void>
  /** Makes what was sent durable; answers the size of the file where there is one. */
  sync(): Promise<number | undefined>
  close(): Promise<void>
}

export interface SinkContext {
  readonly context: CliContext
  readonly client: CollectorClient
  readonly format: FormatOptions
  /** Bytes of the file to keep; undefined = a new file, which must not exist. */
  readonly resumeAt: number | undefined
}

export async function openSink(spec: SinkSpec, options: SinkContext): Promise<ReplaySink> {
  if (spec.kind === 'topic') return topicSink(spec.topic, options)
  if (spec.kind === 'file') return fileSink(spec.path, options)
  return stdoutSink(options)
}

function stdoutSink({ context, format }: SinkContext): ReplaySink {
  const output = new Output(context.stdout)
  const writer = createRecordWriter(output, format)
  return {
    send: async (records) => {
      for (const record of records) writer.writeRecord(record)
      await output.flush()
    },
    sync: () => Promise.resolve(undefined),
    close: () => output.flush(),
  }
}

async function fileSink(path: string, { context, format, resumeAt }: SinkContext): Promise<ReplaySink> {
  const handle = await openFile(path, context, resumeAt)
  const blocks = new BlockWriter(handle, resumeAt ?? 0)
  const output = new Output({
    isTty: false,
    write: (data) => guard(path, () => blocks.write(data)),
  })
  const writer = createRecordWriter(output, format)
  const flush = async (): Promise<void> => {
    await output.flush()
    await guard(path, () => blocks.flush())
  }
  return {
    send: async (records) => {
      for (const record of records) writer.writeRecord(record)
      await flush()
    },
    sync: async () => {
      await guard(path, () => handle.datasync())
      return blocks.position
    },
    close: async () => {
      await guard(path, () => handle.close())
    },
  }
}

async function openFile(path: string, context: CliContext, resumeAt: number | undefined): Promise<FileHandle> {
  if (resumeAt === undefined) {
    if ((await context.system.fs.stat(path)) !== undefined) {
      throw new ExitError(exitCodes.sinkFailed, 'CONFLICT', `${path} is there already`, { hint: 'a replay never overwrites; remove it or choose another name' })
    }
    return guard(path, async () => {
      const handle = await context.system.fs.open(path, 'create')
      // A checkpoint must never count bytes of a file whose name a crash takes away.
      await context.system.fs.syncDirectory(parentOf(path))
      return handle
    })
  }
  return guard(path, async () => {
    const handle = await context.system.fs.open(path, 'readWriteCreate')
    const { size } = await handle.stat()
    if (size < resumeAt) {
      await handle.close()
      throw new AppError('STORAGE_ERROR', `it has ${size} bytes, the checkpoint counts ${resumeAt}`)
    }
    await handle.truncate(resumeAt)
    await context.system.fs.syncDirectory(parentOf(path))
    return handle
  })
}

const SEND_RETRIES_MAX = 8
const RETRY_FIRST_MS = 200
const RETRY_MAX_MS = 10_000
const NEWLINE = Buffer.from('\n')

/** The collector syncs before it answers, and knows the key of a group that came twice. */
function topicSink(topic: string, { client, context }: SinkContext): ReplaySink {
  const path = `${paths.topics}/${encodeURIComponent(topic)}/lines`
  const post = async (records: readonly QueryRecord[], key: string): Promise<void> => {
    await client.json(path, v.unknown(), {
      method: 'POST',
      headers: { 'content-type': contentTypes.text, 'idempotency-key': key },
      body: [Buffer.concat(records.flatMap((record) => [valueOf(record), NEWLINE]))],
    })
  }
  return {
    send: async (records, key) => {
      for (let failures = 0; ; ) {
        try {
          await post(records, key)
          return
        } catch (error) {
          failures += 1
          await waitOrFail(toAppError(error), { failures, context, topic })
        }
      }
    },
    sync: () => Promise.resolve(undefined),
    close: () => Promise.resolve(),
  }
}

async function waitOrFail(error: AppError, facts: { failures: number; context: CliContext; topic: string }): Promise<void> {
  const { failures, context, topic } = facts
  if (context.signal.aborted) throw error
  if (!error.retryable || failures > SEND_RETRIES_MAX) {
    throw new ExitError(exitCodes.sinkFailed, error.code, `cannot write topic ${topic}: ${error.message}`, {
      cause: error,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    })
  }
  const ms = error.retryAfterMs ?? Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** failures)
  await context.system.clock.sleep(ms * (0.5 + context.system.random.next() / 2), context.signal)
}
