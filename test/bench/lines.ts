/**
 * The lines that workloads write. Every line carries `seq=` and ten digits, so that a sink can tell which came, which
 * did not, and which came twice. Deterministic by seed.
 */
import { open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { accessLine, seededRandom } from '../access-log.ts'

export type LineMaker = (sequence: number) => string

const BLOCK_BYTES = 4 * 1024 * 1024
const JSON_LINE_BYTES = 1024
const levels = ['DEBUG', 'INFO', 'INFO', 'INFO', 'WARN', 'ERROR']
const services = ['checkout', 'inventory', 'payments', 'search', 'session', 'shipping']
const words = ['accepted', 'balance', 'customer', 'delivery', 'expired', 'fetched', 'gateway', 'handler', 'invoice', 'journal', 'keyspace', 'latency', 'matched', 'network', 'ordered', 'pending']

export function accessLines(seed = 1): LineMaker {
  const random = seededRandom(seed)
  return (sequence) => accessLine(sequence, random)
}

/** Objects of 1 KiB with their newline. */
export function jsonLines(seed = 1): LineMaker {
  const random = seededRandom(seed)
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T
  const hex = (digits: number): string => Math.floor(random() * 16 ** digits).toString(16).padStart(digits, '0')
  return (sequence) => {
    const head = {
      time: new Date(1_700_000_000_000 + sequence).toISOString(), level: pick(levels), service: pick(services), trace: `${hex(8)}${hex(8)}`,
      user: Math.floor(random() * 1e6), ms: Math.floor(random() * 5000), status: pick([200, 201, 204, 400, 404, 500]), path: `/api/v2/${pick(words)}/${hex(6)}`, line: `seq=${String(sequence).padStart(10, '0')}`,
    }
    const start = `${JSON.stringify(head).slice(0, -1)},"text":"`
    let text = ''
    while (text.length < JSON_LINE_BYTES) text += `${pick(words)} ${pick(words)} ${hex(4)} `
    return `${start}${text.slice(0, JSON_LINE_BYTES - start.length - 3)}"}\n`
  }
}

/** Real lines of the loghub collection one after another, over and over; undefined where the files are not. */
export async function loghubLines(folder: string): Promise<LineMaker | undefined> {
  const names = await readdir(folder).catch((error: unknown) => {
    if (error instanceof Error && Reflect.get(error, 'code') === 'ENOENT') return []
    throw error
  })
  const logs = names.filter((name) => name.endsWith('.log')).toSorted()
  const texts = await Promise.all(logs.map((name) => readFile(join(folder, name), 'latin1')))
  const lines = texts.flatMap((text) => text.split('\n')).filter((line) => line.length > 0)
  if (lines.length === 0) return undefined
  return (sequence) => `${lines[sequence % lines.length] ?? ''} seq=${String(sequence).padStart(10, '0')}\n`
}

export interface WrittenFile {
  readonly path: string
  readonly bytes: number
  readonly lines: number
}

/** Whole lines up to about so many bytes, numbered from `first` on. */
export async function writeLines(path: string, { bytes, make, first = 0 }: { bytes: number; make: LineMaker; first?: number }): Promise<WrittenFile> {
  const file = await open(path, 'w')
  const block = Buffer.allocUnsafe(BLOCK_BYTES + 64 * 1024)
  let written = 0
  let sequence = first
  try {
    while (written < bytes) {
      let at = 0
      while (at < BLOCK_BYTES && written + at < bytes) {
        at += block.write(make(sequence), at, 'latin1')
        sequence += 1
      }
      await file.write(block, 0, at)
      written += at
    }
    // The writing back of these pages is not to be paid by whoever is measured first.
    await file.sync()
  } finally {
    await file.close()
  }
  return { path, bytes: written, lines: sequence - first }
}
