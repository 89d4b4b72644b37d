/**
 * `tailrace cat`: a source file rebuilt from the log, byte for byte. Every batch is checked (CRC, hashes, chain) before
 * its bytes are written; what is missing or damaged is named on stderr and the rest is written all the same.
 */
import { toAppError } from '../../shared/errors.ts'
import type { StreamInfo } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'
import { connect, type CollectorClient } from './collector-client.ts'
import { serverOptions, storeOptions, type CommandInput, type CommandSpec } from './command.ts'
import type { CliContext } from './context.ts'
import { exitCodes, usageError } from './exit-codes.ts'
import { batchesIn, fetchPages, type RawBatch } from './fetch-batches.ts'
import { openFileTarget } from './file-target.ts'
import { humanBytes, humanTime } from './human.ts'
import { openBatch, type OpenedBatch } from './opened-batch.ts'
import { Output } from './output.ts'
import { Progress } from './progress.ts'
import { problemText, StreamChain } from './stream-chain.ts'
import { generationsOf, parseFileName } from './stream-selection.ts'

export const catCommand: CommandSpec = {
  name: 'cat',
  operands: ['[host:path]'],
  summary: 'rebuild a source file from the log, byte for byte',
  examples: [
    { command: 'tailrace cat web-1:/var/log/app.log | sha256sum', meaning: 'the newest generation that bore this name' },
    { command: 'tailrace cat web-1:/var/log/app.log --all -o app-all.log', meaning: 'every generation, oldest first, into a file' },
    { command: 'tailrace cat web-1:/var/log/app.log --from webhdfs://namenode:9870/tailrace', meaning: 'straight from the export, with no collector' },
    { command: 'tailrace cat --stream 3f2a9c0d11', meaning: 'one generation by its id (tailrace streams lists them)' },
  ],
  options: [
    { flags: '--all', kind: 'flag', help: 'every generation that bore this name, oldest first' },
    { flags: '--stream <id>', kind: 'text', help: 'this stream (the first digits of its id do)' },
    { flags: '-t, --topic <name>', kind: 'text', help: 'only of this topic, when the file goes to several' },
    { flags: '-o, --output <file>', kind: 'text', help: 'write to a file (under another name until it is whole)' },
    ...serverOptions,
    ...storeOptions,
  ],
  details: `The bytes are those that the collector had stored when the command began. Each batch is checked by its CRC, its
hashes and its place in the stream; a hole or damage is told on stderr and gives exit code 3.`,
  run: runCat,
}

export interface ByteTarget {
  write(bytes: Uint8Array): Promise<void>
  /** What was written stays. */
  finish(): Promise<void>
  /** What was written goes. */
  discard(): Promise<void>
}

interface CatRun {
  readonly client: CollectorClient
  readonly zstd: Zstd
  readonly target: ByteTarget
  readonly stderr: Output
  readonly progress: Progress
}

async function runCat(input: CommandInput, context: CliContext): Promise<number> {
  const client = await connect(input, context)
  const stderr = new Output(context.stderr)
  const streams = await chooseStreams(input, { client, stderr })
  if (streams.length === 0) {
    await stderr.line(`tailrace: no stream is or was ${input.operands[0] ?? input.text('stream') ?? ''}; tailrace streams lists what there is`)
    return exitCodes.nothing
  }
  const file = input.text('output')
  const target = file === undefined ? sinkTarget(context) : await openFileTarget(context.system.fs, file)
  const progress = new Progress(context, { alsoOnTty: file !== undefined })
  const run: CatRun = { client, zstd: await context.loadZstd(), target, stderr, progress }
  try {
    let isWhole = true
    for (const stream of streams) isWhole = (await catStream(stream, run)) && isWhole
    await progress.clear()
    await target.finish()
    return isWhole ? exitCodes.ok : exitCodes.partial
  } catch (error) {
    await progress.clear()
    await target.discard()
    throw error
  }
}

/** Raw bytes even on a terminal, as cat(1) does: a rebuilt file is data, not lines to read. */
function sinkTarget(context: CliContext): ByteTarget {
  const nothing = (): Promise<void> => Promise.resolve()
  return {
    write: async (bytes) => {
      await context.stdout.write(bytes)
    },
    finish: nothing,
    discard: nothing,
  }
}

async function chooseStreams(input: CommandInput, { client, stderr }: { client: CollectorClient; stderr: Output }): Promise<StreamInfo[]> {
  const id = input.text('stream')?.toLowerCase()
  const name = input.operands[0]
  if ((id === undefined) === (name === undefined)) throw usageError('give either HOST:PATH or --stream ID')
  const topic = input.text('topic')
  const found: StreamInfo[] = []
  if (id !== undefined) {
    if (!/^[0-9a-f]{4,32}$/.test(id)) throw usageError('--stream takes 4 to 32 hex digits of a stream id')
    for await (const stream of client.streams(id.length === 32 ? { id } : {})) if (stream.id.startsWith(id)) found.push(stream)
    if (found.length > 1) throw usageError(`${found.length} streams begin with ${id}`, 'give more digits')
    return found
  }
  const file = parseFileName(name ?? '')
  for await (const stream of client.streams({ host: file.host, path: file.path })) {
    if (topic === undefined || stream.topic === topic) found.push(stream)
  }
  const generations = generationsOf(found, file)
  if (input.flag('all')) return generations
  const newest = generations.at(-1)
  if (newest === undefined) return []
  await sayWhich(newest, generations, { stderr, input })
  return [newest]
}

/** Only when there was a choice that the user may not expect. */
async function sayWhich(
  newest: StreamInfo,
  generations: readonly StreamInfo[],
  { stderr, input }: { stderr: Output; input: CommandInput },
): Promise<void> {
  const others = generations.filter((stream) => stream !== newest)
  if (others.length === 0) return
  const topics = new Set(generations.map(({ topic }) => topic))
  const hint = topics.size > 1 ? `; it is in ${topics.size} topics, -t chooses one` : ''
  await stderr.line(
    `tailrace: newest of ${generations.length} generations: ${newest.id.slice(0, 12)} in ${newest.topic}, last append ` +
      `${humanTime(newest.lastAppendMs, input.zone)}; --all gives every one${hint}`,
  )
}

/** Whether every byte up to the stream's position came out. */
async function catStream(stream: StreamInfo, run: CatRun): Promise<boolean> {
  const name = `${stream.host}:${stream.path} (${stream.id.slice(0, 12)})`
  const chain = new StreamChain()
  let problems = 0
  const complain = async (text: string): Promise<void> => {
    problems += 1
    await run.progress.clear()
    await run.stderr.line(`tailrace: ${name}: ${text}`)
  }
  const range = {
    topic: stream.topic, partition: stream.partition, streamId: stream.id, offset: stream.firstOffset, endOffset: stream.lastOffset + 1,
  }
  for await (const page of fetchPages(run.client, range)) {
    for (const batch of batchesIn(page.batches)) {
      const opened = await tryOpen(batch, { zstd: run.zstd, complain })
      if (opened?.source?.streamId.toString('hex') !== stream.id) continue
      if (chain.start === undefined && opened.source.start > 0) {
        const isDropped = stream.firstOffset < page.logStartOffset
        await complain(isDropped ? `the log begins at byte ${opened.source.start} of this file: retention dropped what was before it` : `bytes 0 to ${opened.source.start} are missing`)
      }
      const step = chain.add(opened.source, opened.content, opened.header.recordCount)
      for (const problem of step.problems) await complain(problemText(problem))
      await run.target.write(opened.content.subarray(step.skipBytes))
      await run.progress.update(() => `${name}: ${humanBytes(chain.position)} of ${humanBytes(stream.position)}`)
    }
  }
  if (chain.position < stream.position) await complain(`bytes ${chain.position} to ${stream.position} are missing`)
  return problems === 0
}

async function tryOpen(
  batch: RawBatch,
  { zstd, complain }: { zstd: Zstd; complain: (text: string) => Promise<void> },
): Promise<OpenedBatch | undefined> {
  try {
    return openBatch(batch, zstd)
  } catch (error) {
    const { code, message } = toAppError(error)
    await complain(`batch at offset ${batch.header.baseOffset} is damaged: ${message} (${code})`)
    return undefined
  }
}
