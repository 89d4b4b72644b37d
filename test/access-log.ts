/** Generated access log lines: the input of the benchmark and of the large end-to-end test. Deterministic by seed. */
import { open } from 'node:fs/promises'

export interface AccessLogOptions {
  readonly path: string
  readonly bytes: number
  readonly seed: number
}

const LINE_BYTES = 200
const BLOCK_BYTES = 4 * 1024 * 1024

const methods = ['GET', 'GET', 'GET', 'GET', 'POST', 'PUT', 'DELETE', 'HEAD']
const pages = ['/', '/index.html', '/api/v1/users', '/api/v1/orders', '/static/app.js', '/static/style.css', '/login', '/cart', '/search', '/images/logo.png']
const statuses = [200, 200, 200, 200, 200, 204, 301, 304, 400, 401, 403, 404, 500, 502]
const agents = [
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0', 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/605.1.15',
  'curl/8.5.0', 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/132.0', 'Googlebot/2.1 (+http://www.google.com/bot.html)',
]

/** mulberry32: small, fast, good enough for test data. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000
  }
}

/** One line of exactly 200 bytes with its newline; `sequence` stands in it as ten digits. */
export function accessLine(sequence: number, random: () => number): string {
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T
  const ip = `${10 + Math.floor(random() * 200)}.${Math.floor(random() * 256)}.${Math.floor(random() * 256)}.${Math.floor(random() * 256)}`
  const time = new Date(1_700_000_000_000 + sequence).toISOString()
  const head = `${ip} - - [${time}] "${pick(methods)} ${pick(pages)}?id=${Math.floor(random() * 1e6)} HTTP/1.1" ${pick(statuses)} ${Math.floor(random() * 50_000)} "${pick(agents)}"`
  const tail = ` seq=${String(sequence).padStart(10, '0')}`
  return `${head.slice(0, LINE_BYTES - tail.length - 1).padEnd(LINE_BYTES - tail.length - 1)}${tail}\n`
}

export async function writeAccessLog(options: AccessLogOptions): Promise<{ lines: number }> {
  const random = seededRandom(options.seed)
  const file = await open(options.path, 'w')
  const total = Math.floor(options.bytes / LINE_BYTES)
  try {
    const block = Buffer.alloc(BLOCK_BYTES - (BLOCK_BYTES % LINE_BYTES))
    for (let lines = 0; lines < total; ) {
      let at = 0
      while (at < block.length && lines < total) {
        at += block.write(accessLine(lines, random), at, 'latin1')
        lines += 1
      }
      await file.write(block, 0, at)
    }
  } finally {
    await file.close()
  }
  return { lines: total }
}
