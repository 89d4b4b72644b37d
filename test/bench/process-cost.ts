/** What processes have cost so far, from /proc: CPU time and peak memory. Other systems than Linux have no such files. */
import { readFile } from 'node:fs/promises'

const TICKS_PER_SECOND = 100
const POLL_MS = 20

export interface Cost {
  readonly cpuSeconds: number
  readonly peakRssMiB: number
}

export const NO_COST: Cost = { cpuSeconds: 0, peakRssMiB: 0 }

export async function costOf(pid: number): Promise<Cost> {
  const fields = await statFields(String(pid))
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const peak = /VmHWM:\s+(\d+) kB/.exec(status)?.[1]
  return {
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
    peakRssMiB: Number(peak ?? 0) / 1024,
  }
}

/** CPU time of the children that have ended and were waited for: exact, where polling misses the last moments. */
export async function endedChildrenCpuSeconds(): Promise<number> {
  const fields = await statFields('self')
  return (Number(fields[13]) + Number(fields[14])) / TICKS_PER_SECOND
}

export function since(before: Cost, after: Cost): Cost {
  return { cpuSeconds: after.cpuSeconds - before.cpuSeconds, peakRssMiB: after.peakRssMiB }
}

/** Polls a process until it ends: the last reading before the end counts. */
export async function watchCost(pid: number, isRunning: () => boolean): Promise<Cost> {
  let last = NO_COST
  while (isRunning()) {
    try {
      const now = await costOf(pid)
      // A process that is ending has given its memory back already.
      last = { cpuSeconds: now.cpuSeconds, peakRssMiB: Math.max(now.peakRssMiB, last.peakRssMiB) }
    } catch (error) {
      if (!isRunning()) break
      if (!isGone(error)) throw error
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  return last
}

/** Bytes that went over the loopback interface, headers included: the same measure for every peer. */
export async function loopbackBytes(): Promise<number> {
  const line = (await readFile('/proc/net/dev', 'utf8')).split('\n').find((each) => each.trimStart().startsWith('lo:'))
  return Number(line?.split(':')[1]?.trim().split(/\s+/)[0] ?? Number.NaN)
}

async function statFields(pid: string): Promise<string[]> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
}

function isGone(error: unknown): boolean {
  const code: unknown = error instanceof Error ? Reflect.get(error, 'code') : undefined
  return code === 'ENOENT' || code === 'ESRCH'
}
