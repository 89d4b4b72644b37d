/**
 * W1: one file that is already there, shipped to its end. Access lines of 200 bytes at each level of compression, beside
 * the peers and `zstd -1` of the same file; JSON lines of 1 KiB and the loghub files, each beside its own `zstd -1`.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { accessLines, jsonLines, loghubLines, writeLines, type LineMaker, type WrittenFile } from './lines.ts'
import { findPeers } from './peers.ts'
import { inTemporaryFolder, temporaryFolder } from './programs.ts'
import { shipOurs, shippedFigures, shipPeer } from './shipping.ts'
import type { BenchOptions, Contestant, RatioSpec, Workload } from './workload.ts'
import { ZSTD, zstdYardstick } from './zstd-yardstick.ts'

const OURS = 'tailrace'
const BEST = 'tailrace best'
/** What is warmed up with: enough for every path of the code to have run once. */
const WARM_UP_BYTES = 20_000_000

export const backlog: Workload = {
  title: 'a file that is already there; tailrace: → fsynced, acked and readable, peers: → in their receiver\'s file',
  runs: 3,
  prepare: async (options) => {
    const inputs = await temporaryFolder()
    const input = async (name: string, make: LineMaker, bytes = options.bytes): Promise<WrittenFile> => {
      await mkdir(join(inputs.path, name))
      return writeLines(join(inputs.path, name, `${name}.log`), { bytes, make })
    }
    const access = await input('access', accessLines())
    const warmUp = await input('warm-up', accessLines(2), Math.min(WARM_UP_BYTES, options.bytes))
    const json = await input('json', jsonLines())
    const loghub = await loghubLines(options.loghub)
    const real = loghub === undefined ? undefined : await input('loghub', loghub)
    const yardsticks = await Promise.all([zstdYardstick(access), zstdYardstick(json, `${ZSTD}, JSON`), ...(real === undefined ? [] : [zstdYardstick(real, `${ZSTD}, loghub`)])])
    const { peers, notes } = await findPeers(options)
    const ours = (name: string, file: WrittenFile, agentArgs: readonly string[] = []): Contestant => ({ name, run: () => inTemporaryFolder(async (folder) => shippedFigures(await shipOurs(folder, [file], options, agentArgs))) })
    const contestants = [
      ours(OURS, access),
      ...peers.map((peer): Contestant => ({ name: peer.name, isPeer: true, run: () => inTemporaryFolder(async (folder) => shippedFigures(await shipPeer(folder, [access], peer))) })),
      ours(BEST, access, ['--compress', 'best']),
      ours(`${OURS}, JSON`, json),
      ...(real === undefined ? [] : [ours(`${OURS}, loghub`, real)]),
      ...yardsticks.flatMap((each) => each.contestants),
    ]
    return {
      contestants,
      ratios: [...peers.map(({ name }) => speedRatio(OURS, name)), ...yardstickRatios(real !== undefined)],
      notes: [...new Set([...notes, ...yardsticks.flatMap((each) => each.notes)]), ...loghubNote(real, options), `${(access.bytes / 1e6).toFixed(0)} MB each; bytes on the wire are those of the loopback interface, TCP and IP headers and acks included`],
      warmUp: () => inTemporaryFolder(async (folder) => void (await shipOurs(folder, [warmUp], options))),
      close: inputs.remove,
    }
  },
}

function loghubNote(real: WrittenFile | undefined, { loghub }: BenchOptions): readonly string[] {
  return real === undefined ? [`SKIPPED loghub: there are no *.log files in ${loghub}; --loghub names another folder`] : []
}

function speedRatio(ours: string, other: string): RatioSpec {
  const figure = 'lines per agent CPU-second'
  return { name: `${figure}: ${ours} / ${other}`, of: { contestant: ours, figure }, to: { contestant: other, figure }, better: 'higher' }
}

function bytesRatio(ours: string, other: string): RatioSpec {
  const figure = 'bytes on disk per line'
  return { name: `${figure}: ${ours} / ${other}`, of: { contestant: ours, figure }, to: { contestant: other, figure }, better: 'lower' }
}

function yardstickRatios(hasLoghub: boolean): readonly RatioSpec[] {
  const pairs = ['', ', JSON', ...(hasLoghub ? [', loghub'] : [])].map((kind) => [`${OURS}${kind}`, `${ZSTD}${kind}`] as const)
  return [...pairs.flatMap(([ours, zstd]) => [speedRatio(ours, zstd), bytesRatio(ours, zstd)]), bytesRatio(BEST, ZSTD), wallRatio()]
}

/** End to end against the floor: both sides' work, on two cores. */
function wallRatio(): RatioSpec {
  return { name: `lines/s: ${OURS} / ${ZSTD}`, of: { contestant: OURS, figure: 'lines/s' }, to: { contestant: ZSTD, figure: 'lines/s' }, better: 'higher' }
}
