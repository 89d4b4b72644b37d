/** W2: twenty files that are already there, at once: the same bytes as W1 in other hands. */
import { join } from 'node:path'
import { accessLines, writeLines, type WrittenFile } from './lines.ts'
import { findPeers } from './peers.ts'
import { inTemporaryFolder, temporaryFolder } from './programs.ts'
import { shipOurs, shippedFigures, shipPeer } from './shipping.ts'
import type { Contestant, Workload } from './workload.ts'

const FILES = 20
const OURS = 'tailrace'

export const twentyFiles: Workload = {
  title: 'twenty files that are already there, at once',
  runs: 3,
  prepare: async (options) => {
    const inputs = await temporaryFolder()
    const files: WrittenFile[] = []
    for (let at = 0, first = 0; at < FILES; at += 1) {
      const file = await writeLines(join(inputs.path, `access-${at}.log`), { bytes: options.bytes / FILES, make: accessLines(at), first })
      files.push(file)
      first += file.lines
    }
    const { peers, notes } = await findPeers(options)
    const figure = 'lines per agent CPU-second'
    return {
      contestants: [
        { name: OURS, run: () => inTemporaryFolder(async (folder) => shippedFigures(await shipOurs(folder, files, options))) },
        ...peers.map((peer): Contestant => ({ name: peer.name, isPeer: true, run: () => inTemporaryFolder(async (folder) => shippedFigures(await shipPeer(folder, files, peer))) })),
      ],
      ratios: peers.map(({ name }) => ({ name: `${figure}: ${OURS} / ${name}`, of: { contestant: OURS, figure }, to: { contestant: name, figure }, better: 'higher' as const })),
      notes,
      warmUp: () => inTemporaryFolder(async (folder) => void (await shipOurs(folder, files.slice(0, 1), options))),
      close: inputs.remove,
    }
  },
}
