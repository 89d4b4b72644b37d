/** What a process has cost so far, from /proc: CPU time and peak memory, read while it still runs. */
import { readFile } from 'node:fs/promises'

const TICKS_PER_SECOND = 100

export interface Cost {
  readonly cpuSeconds: number
  readonly peakRssMiB: number
}

export async function costOf(pid: number): Promise<Cost> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const peak = /VmHWM:\s+(\d+) kB/.exec(status)?.[1]
  return {
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
    peakRssMiB: Number(peak ?? 0) / 1024,
  }
}

/** Polls a process until it ends: the last reading before the end counts. */
export async function watchCost(pid: number, isRunning: () => boolean, everyMs = 20): Promise<Cost> {
  let last: Cost = { cpuSeconds: 0, peakRssMiB: 0 }
  while (isRunning()) {
    try {
      const now = await costOf(pid)
      // A process that is ending has given its memory back already.
      last = { cpuSeconds: now.cpuSeconds, peakRssMiB: Math.max(now.peakRssMiB, last.peakRssMiB) }
    } catch (error) {
      if (!isRunning()) break
      if (!(error instanceof Error && Reflect.get(error, 'code') === 'ENOENT')) throw error
    }
    await new Promise((resolve) => setTimeout(resolve, everyMs))
  }
  return last
}
