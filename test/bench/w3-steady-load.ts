/**
 * W3: a steady load into ten files. Costs of both sides, bytes, and how long a line takes until it is acked (seen on the
 * wire) and readable (seen by a reader at the other end); then single lines after idle.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { logBytes } from './collector-process.ts'
import { followFile } from './file-follower.ts'
import { Latencies } from './latencies.ts'
import { accessLines, writeLines } from './lines.ts'
import { Load } from './load.ts'
import { LiveRig } from './live-rig.ts'
import { loadFigures, lossFigures, measureLoad, measureSingles } from './measured-load.ts'
import { startPeer, stopPeer, type Peer } from './peer.ts'
import { findPeers } from './peers.ts'
import { loopbackBytes } from './process-cost.ts'
import { inTemporaryFolder, temporaryFolder } from './programs.ts'
import { SequenceCounter } from './sequence-counter.ts'
import type { BenchOptions, Figures, RatioSpec, Workload } from './workload.ts'
import { ZSTD, zstdYardstick } from './zstd-yardstick.ts'

const FILES = 10
const OURS = 'tailrace'
/** Beside the lines of load and warm-up. */
const SPARE_SECONDS = 30
/** How often the output of a peer's receiver is looked at: its latencies may be this much too long. */
const FOLLOW_MS = 2

export const steadyLoad: Workload = {
  title: 'a steady load into ten files',
  runs: 2,
  prepare: async (options) => {
    const inputs = await temporaryFolder()
    const sample = await writeLines(join(inputs.path, 'sample.log'), { bytes: 200 * options.linesPerSecond * options.seconds, make: accessLines() })
    const zstd = await zstdYardstick(sample)
    const { peers, notes } = await findPeers(options)
    return {
      contestants: [
        { name: OURS, run: () => inTemporaryFolder((folder) => runOurs(folder, options)) },
        ...zstd.contestants,
        ...peers.map((peer) => ({ name: peer.name, isPeer: true as const, run: () => inTemporaryFolder((folder) => runPeer(folder, peer, options)) })),
      ],
      ratios: ratios(peers),
      notes: [
        ...zstd.notes, ...notes,
        `${options.linesPerSecond} lines a second for ${options.seconds} s; readable at tailrace: a reader of /v1/tail with holdMs=0, attached all the time; at a peer: in the file that its receiver writes, which nobody syncs`,
        "bytes on the wire: tailrace's with the headers of HTTP, peers' with those of TCP and IP and the packets of TCP's own",
      ],
      close: inputs.remove,
    }
  },
}

function ratios(peers: readonly Peer[]): readonly RatioSpec[] {
  const cost = 'agent CPU-s per million lines'
  return [
    { name: 'agent CPU / CPU of zstd -1', of: { contestant: OURS, figure: cost }, to: { contestant: ZSTD, figure: cost }, better: 'lower' },
    { name: 'bytes on disk / bytes of zstd -1', of: { contestant: OURS, figure: 'bytes on disk per line' }, to: { contestant: ZSTD, figure: 'bytes on disk per line' }, better: 'lower' },
    ...peers.map(({ name }) => ({ name: `agent CPU / CPU of ${name}`, of: { contestant: OURS, figure: cost }, to: { contestant: name, figure: cost }, better: 'lower' as const })),
  ]
}

function logPaths(folder: string): string[] {
  return Array.from({ length: FILES }, (_, at) => join(folder, `app-${at}.log`))
}

function linesMax({ linesPerSecond, seconds }: BenchOptions): number {
  return linesPerSecond * (seconds + SPARE_SECONDS)
}

async function runOurs(folder: string, options: BenchOptions): Promise<Figures> {
  const logs = join(folder, 'logs')
  await mkdir(logs)
  const rig = await LiveRig.start({ folder, bench: options, paths: logPaths(logs), globs: [join(logs, '*.log')], linesMax: linesMax(options) })
  try {
    await rig.startAgent({ isWatched: true })
    await rig.startReader()
    const { load, counter, readable, acked, agent, collector } = rig
    const setup = { load, seconds: options.seconds, agentPid: agent.pid, receiverPid: collector.program.pid, counter, readable, acked, wireBytes: () => Promise.resolve(rig.wireBytes) }
    const measured = await measureLoad(setup)
    const singles = await measureSingles(setup)
    rig.checkReader()
    return { ...loadFigures(measured, setup), ...singles, 'bytes on disk per line': (await logBytes(rig.data)) / load.next, ...lossFigures(rig) }
  } finally {
    await rig.close()
  }
}

async function runPeer(folder: string, peer: Peer, options: BenchOptions): Promise<Figures> {
  const logs = join(folder, 'logs')
  await mkdir(logs)
  const output = join(folder, 'received')
  const readable = new Latencies(linesMax(options))
  const counter = new SequenceCounter(linesMax(options), (sequence) => readable.saw(sequence, performance.now()))
  const load = new Load({ paths: logPaths(logs), linesPerSecond: options.linesPerSecond, make: accessLines(), wrote: (sequence, atMs) => readable.wrote(sequence, atMs) })
  const running = await startPeer(peer, { folder, logs: logPaths(logs), logsFolder: logs, output })
  let isDone = false
  const following = followFile({ path: output, counter, everyMs: FOLLOW_MS, isDone: () => isDone, quietMsMax: Number.MAX_SAFE_INTEGER })
  try {
    const setup = { load, seconds: options.seconds, agentPid: running.agent.pid, receiverPid: running.receiver.pid, counter, readable, wireBytes: loopbackBytes }
    const measured = await measureLoad(setup)
    const singles = await measureSingles(setup)
    isDone = true
    const { bytes } = await following
    return { ...loadFigures(measured, setup), ...singles, 'bytes on disk per line': bytes / Math.max(1, counter.distinct), ...lossFigures(setup) }
  } finally {
    isDone = true
    load.close()
    await stopPeer(running)
  }
}
