/** What `zstd -1` alone makes of a file, and what it costs: the floor that a shipper of compressed lines stands on. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { WrittenFile } from './lines.ts'
import { endedChildrenCpuSeconds } from './process-cost.ts'
import { inTemporaryFolder, outputOf, Program } from './programs.ts'
import type { Contestant } from './workload.ts'

export const ZSTD = 'zstd -1'

/** None where there is no zstd program; `notes` says so. */
export async function zstdYardstick(file: WrittenFile, name = ZSTD): Promise<{ contestants: readonly Contestant[]; notes: readonly string[] }> {
  const version = /v[0-9.]+/.exec((await outputOf(['zstd', '--version'])) ?? '')?.[0]
  if (version === undefined) return { contestants: [], notes: ['SKIPPED zstd -1, which is not installed: apt-get install zstd'] }
  const run = (): Promise<Record<string, number>> =>
    inTemporaryFolder(async (folder) => {
      const target = join(folder, 'out.zst')
      const cpuBefore = await endedChildrenCpuSeconds()
      const startedMs = performance.now()
      const program = new Program({ command: ['zstd', '-1', '-T1', '-q', '-f', file.path, '-o', target], core: 0 })
      if ((await program.ended()) !== 0) throw new Error(`zstd ended with ${program.child.exitCode}: ${program.said}`)
      const seconds = (performance.now() - startedMs) / 1000
      const cpuSeconds = (await endedChildrenCpuSeconds()) - cpuBefore
      return {
        'lines/s': file.lines / seconds,
        'MB/s of source': file.bytes / seconds / 1e6,
        'lines per agent CPU-second': file.lines / cpuSeconds,
        'agent CPU-s per million lines': cpuSeconds / (file.lines / 1e6),
        'bytes on disk per line': (await stat(target)).size / file.lines,
      }
    })
  return { contestants: [{ name, run }], notes: [`zstd ${version}`] }
}
