/** A collector under measurement: started with a data folder of its own, asked over HTTP like any client asks. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'
import { paths, topicsResponseSchema } from '../../shared/wire.ts'
import { freePort, ownProgram, Program, until } from './programs.ts'
import type { SequenceCounter } from './sequence-counter.ts'

export interface CollectorOptions {
  readonly data: string
  readonly core?: number | undefined
  readonly port?: number
  readonly args: readonly string[]
}

export interface CollectorProcess {
  readonly program: Program
  readonly url: string
  readonly port: number
}

export async function startCollector(options: CollectorOptions): Promise<CollectorProcess> {
  const port = options.port ?? (await freePort())
  const url = `http://127.0.0.1:${port}`
  const program = new Program({
    command: [...ownProgram('tailrace-collector'), 'run', '--data', options.data, '--listen', `127.0.0.1:${port}`, '--log-level', 'warn', ...options.args],
    core: options.core,
  })
  await until('the collector is ready', async () => {
    if (!program.isRunning) throw new Error(`the collector ended: ${program.said}`)
    return (await fetch(`${url}${paths.ready}`)).ok
  })
  return { program, url, port }
}

export async function recordsStored(url: string): Promise<number> {
  const { topics } = v.parse(topicsResponseSchema, await (await fetch(`${url}${paths.topics}`)).json())
  return topics.flatMap((topic) => topic.partitions).reduce((sum, partition) => sum + partition.highWatermark, 0)
}

/** Reads every stored line back and counts its sequence number. */
export async function readBack(url: string, counter: SequenceCounter): Promise<void> {
  const answer = await fetch(`${url}${paths.query}`)
  if (!answer.ok || answer.body === null) throw new Error(`the query was answered with ${answer.status}`)
  let tail = ''
  for await (const piece of answer.body) {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
    counter.feed(bytes)
    tail = `${tail}${bytes.toString('latin1', Math.max(0, bytes.length - 4096))}`.slice(-4096)
  }
  if (!/"end":\{[^\n]*\n$/.test(tail)) throw new Error('reading back was cut off')
}

/** Bytes of all segments under a data folder. */
export async function logBytes(data: string): Promise<number> {
  const topics = join(data, 'topics')
  const names = (await readdir(topics, { recursive: true })).filter((name) => name.endsWith('.log'))
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(topics, name))).size))
  return sizes.reduce((sum, size) => sum + size, 0)
}
