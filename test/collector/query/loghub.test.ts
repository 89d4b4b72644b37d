import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { loadZstd } from '../../../shared/zstd.ts'
import { ask, engineOn, fillLog, type TestBatch } from './query-fixture.ts'

const folder = fileURLToPath(new URL('../../../../shared/data/loghub', import.meta.url))
const files = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.log')).toSorted() : []
if (files.length === 0) console.warn('SKIPPED: real log files (shared/data/loghub beside the repository) are not there')

const LINES_PER_BATCH = 700

/** Lines as bytes in latin1, so that a naive search compares bytes. */
function linesOf(name: string): string[] {
  const lines = readFileSync(`${folder}/${name}`).toString('latin1').split('\n')
  if (lines.at(-1) === '') lines.pop()
  return lines
}

function batchesOf(name: string, lines: readonly string[]): TestBatch[] {
  const batches: TestBatch[] = []
  for (let at = 0; at < lines.length; at += LINES_PER_BATCH) {
    const records = lines.slice(at, at + LINES_PER_BATCH).map((line) => ({ line: Buffer.from(line, 'latin1'), ts: at }))
    batches.push({ topic: 'logs', partition: 0, key: `host-1:/data/${name}`, records })
  }
  return batches
}

describe.skipIf(files.length === 0)('queries over real logs', () => {
  test.each(files)('%s: find what a naive grep finds', async (name) => {
    const lines = linesOf(name)
    const { log } = await fillLog(batchesOf(name, lines), await loadZstd())
    const engine = engineOn(log, await loadZstd())
    const numbers = (wanted: (line: string) => boolean): number[] => lines.flatMap((line, at) => (wanted(line) ? [at] : []))
    const offsets = async (parameters: string): Promise<number[]> => (await ask(engine, parameters)).rows.map(({ offset }) => offset)
    const inUtf8 = (line: string): string => Buffer.from(line, 'latin1').toString('utf8')

    for (const text of ['error', 'INFO', '17', ' 0', 'root', 'no such text']) {
      expect(await offsets(`pattern=${encodeURIComponent(text)}`)).toEqual(numbers((line) => line.includes(text)))
      expect(await offsets(`pattern=${encodeURIComponent(text)}&ignoreCase=1`)).toEqual(numbers((line) => line.toLowerCase().includes(text.toLowerCase())))
      expect(await offsets(`pattern=${encodeURIComponent(text)}&invert=1`)).toEqual(numbers((line) => !line.includes(text)))
    }
    for (const regex of ['[0-9]+\\.[0-9]+\\.[0-9]+', '(error|fail)ed?', '^[A-Z].* [a-z]+$', 'e{2}']) {
      const pattern = new RegExp(regex)
      expect(await offsets(`mode=regex&pattern=${encodeURIComponent(regex)}`)).toEqual(numbers((line) => pattern.test(inUtf8(line))))
    }
    expect((await ask(engine, 'last=25')).rows.map(({ line, b64 }) => (b64 === undefined ? line : Buffer.from(b64, 'base64').toString('utf8')))).toEqual(lines.slice(-25).map(inUtf8))
  })
})
