/**
 * W6: the collector alone, fed with sealed batches from this process's memory over a few connections, every check on and
 * every answer after its fsync. Beside it, in turn: what the disk takes of the same bytes with plain writes and
 * fdatasync, and what their checksum alone costs.
 */
import { open } from 'node:fs/promises'
import { request, Agent } from 'node:http'
import { join } from 'node:path'
import * as v from 'valibot'
import { crc32c } from '../../shared/crc32c.ts'
import { batchesResponseSchema, contentTypes, paths } from '../../shared/wire.ts'
import { recordsStored, startCollector } from './collector-process.ts'
import { since } from './process-cost.ts'
import { inTemporaryFolder } from './programs.ts'
import { sealStreams, type SealedRequest } from './sealed-streams.ts'
import { percentile } from './statistics.ts'
import type { BenchOptions, Figures, Workload } from './workload.ts'

const STREAMS = 8
const PARTITIONS = 4
const REQUEST_BYTES_MAX = 1024 * 1024
/** Of the bytes, sent before the clock runs. */
const WARM_UP_SHARE = 0.1
const OURS = 'tailrace-collector'
const DISK = 'plain file'

type Streams = readonly (readonly SealedRequest[])[]

export const sealedBatches: Workload = {
  title: 'the collector alone, sealed batches from memory in requests up to 1 MiB, fsynced',
  runs: 3,
  prepare: async (options) => {
    const streams = await sealStreams({
      topic: 'bench', sealedBytes: options.sealedBytes, streams: STREAMS, partitions: PARTITIONS, requestBytesMax: REQUEST_BYTES_MAX, compressLevel: 1,
    })
    const requests = streams.flat()
    const mean = sum(requests, 'sealedBytes') / requests.length / 1024
    return {
      contestants: [
        { name: OURS, run: () => inTemporaryFolder((folder) => feed(folder, streams, options)) },
        { name: DISK, run: () => inTemporaryFolder((folder) => writePlainly(folder, requests)) },
      ],
      ratios: [
        { name: 'MB/s of sealed bytes / MB/s of plain writes', of: { contestant: OURS, figure: 'MB/s of sealed bytes' }, to: { contestant: DISK, figure: 'MB/s of sealed bytes' }, better: 'higher' },
        { name: 'MB per CPU-second / MB per CPU-second of CRC-32C', of: { contestant: OURS, figure: 'MB per CPU-second' }, to: { contestant: DISK, figure: 'CRC-32C, MB per CPU-second' }, better: 'higher' },
      ],
      notes: [`${requests.length} requests, ${mean.toFixed(0)} KiB on average, of ${STREAMS} streams into ${PARTITIONS} partitions; the sender is this process, both wherever the kernel puts them`],
      close: () => Promise.resolve(),
    }
  },
}

async function feed(folder: string, streams: Streams, options: BenchOptions): Promise<Figures> {
  const collector = await startCollector({ data: join(folder, 'data'), args: ['--partitions', String(PARTITIONS), ...options.collectorArgs] })
  const agent = new Agent({ keepAlive: true, maxSockets: STREAMS })
  try {
    const warm = streams.map((requests) => requests.slice(0, Math.ceil(requests.length * WARM_UP_SHARE)))
    const measured = streams.map((requests, at) => requests.slice(warm[at]?.length ?? 0))
    await Promise.all(warm.map((requests) => sendInOrder(collector.url, { requests, agent, tookMs: [] })))
    const before = await collector.program.cost()
    const tookMs: number[] = []
    const startedMs = performance.now()
    await Promise.all(measured.map((requests) => sendInOrder(collector.url, { requests, agent, tookMs })))
    const seconds = (performance.now() - startedMs) / 1000
    const cost = since(before, await collector.program.cost())
    const requests = measured.flat()
    const stored = await recordsStored(collector.url)
    const sent = sum(streams.flat(), 'records')
    const sealedMb = sum(requests, 'sealedBytes') / 1e6
    const sorted = tookMs.toSorted((a, b) => a - b)
    return {
      'MB/s of sealed bytes': sealedMb / seconds,
      'MB/s of source': sum(requests, 'sourceBytes') / 1e6 / seconds,
      'batches/s': sum(requests, 'batches') / seconds,
      'lines/s': sum(requests, 'records') / seconds,
      'MB per CPU-second': sealedMb / cost.cpuSeconds,
      'CPU-seconds per million lines': cost.cpuSeconds / (sum(requests, 'records') / 1e6),
      'cores used': cost.cpuSeconds / seconds,
      'peak RSS MiB': cost.peakRssMiB,
      'request → ack p50 ms': percentile(sorted, 0.5),
      'request → ack p99 ms': percentile(sorted, 0.99),
      'lines lost': Math.max(0, sent - stored),
      'lines doubled': Math.max(0, stored - sent),
    }
  } finally {
    agent.destroy()
    await collector.program.stop('SIGTERM')
  }
}

async function sendInOrder(url: string, { requests, agent, tookMs }: { requests: readonly SealedRequest[]; agent: Agent; tookMs: number[] }): Promise<void> {
  for (const { body, batches } of requests) {
    const startedMs = performance.now()
    const answer = v.parse(batchesResponseSchema, JSON.parse(await post(`${url}${paths.batches}`, body, agent)))
    tookMs.push(performance.now() - startedMs)
    const stored = answer.frames.filter(({ status }) => status === 'ok').length
    if (stored !== batches) throw new Error(`${batches - stored} of ${batches} batches were not stored: ${JSON.stringify(answer.frames.find(({ status }) => status !== 'ok'))}`)
  }
}

function post(url: string, body: Buffer, agent: Agent): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { method: 'POST', agent, headers: { 'content-type': contentTypes.batches, 'content-length': body.length } }, (answer) => {
      const pieces: Buffer[] = []
      answer.on('data', (piece: Buffer) => pieces.push(piece))
      answer.on('error', reject)
      answer.on('end', () => {
        const text = Buffer.concat(pieces).toString('utf8')
        if (answer.statusCode === 200) resolve(text)
        else reject(new Error(`the collector answered ${answer.statusCode}: ${text}`))
      })
    })
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

/** One fdatasync for each request, as a collector without group commit would do it. */
async function writePlainly(folder: string, requests: readonly SealedRequest[]): Promise<Figures> {
  const file = await open(join(folder, 'plain'), 'w')
  try {
    const startedMs = performance.now()
    for (const { body } of requests) {
      await file.write(body)
      await file.datasync()
    }
    const seconds = (performance.now() - startedMs) / 1000
    const before = process.cpuUsage()
    for (const { body } of requests) crc32c(body)
    const crcSeconds = (process.cpuUsage(before).user + process.cpuUsage(before).system) / 1e6
    const mb = requests.reduce((total, { body }) => total + body.length, 0) / 1e6
    return { 'MB/s of sealed bytes': mb / seconds, 'CRC-32C, MB per CPU-second': mb / crcSeconds }
  } finally {
    await file.close()
  }
}

function sum(requests: readonly SealedRequest[], figure: 'batches' | 'records' | 'sourceBytes' | 'sealedBytes'): number {
  return requests.reduce((total, request) => total + request[figure], 0)
}
