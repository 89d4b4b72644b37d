/**
 * The project's TypeScript files, read and parsed once for the tidy rules. The parser is the one that vitest already
 * brings (oxc, through vite), because the native TypeScript compiler has no stable API for this.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseSync, type ESTree } from 'vite'

export const FOLDERS = ['agent', 'collector', 'shared', 'test', 'packaging'] as const

export interface SourceFile {
  /** From the root of the project, with `/`. */
  readonly path: string
  readonly text: string
  readonly program: ESTree.Program
  readonly comments: ReturnType<typeof parseSync>['comments']
  /** 1-based line of a position in the text. */
  lineOf(position: number): number
}

export interface Finding {
  readonly rule: string
  readonly path: string
  readonly line: number
  /** What was found, and why it is not wanted. */
  readonly text: string
  /** The measured size, for rules with a limit. */
  readonly size?: number
}

export function parseSource(path: string, text: string): SourceFile {
  const parsed = parseSync(path, text, { lang: 'ts', sourceType: 'module' })
  const problem = parsed.errors[0]
  if (problem !== undefined) throw new Error(`${path} does not parse: ${problem.message}`)
  const lineStarts = [0]
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) lineStarts.push(at + 1)
  const lineOf = (position: number): number => {
    let low = 0
    let high = lineStarts.length
    while (high - low > 1) {
      const middle = (low + high) >> 1
      if ((lineStarts[middle] ?? 0) <= position) low = middle
      else high = middle
    }
    return low + 1
  }
  return { path, text, program: parsed.program, comments: parsed.comments, lineOf }
}

export function readSourceTree(root: string): readonly SourceFile[] {
  const files: SourceFile[] = []
  for (const folder of FOLDERS) {
    for (const name of readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).sort()) {
      if (!name.endsWith('.ts') || name.includes('node_modules')) continue
      const path = `${folder}/${name}`
      files.push(parseSource(path, readFileSync(join(root, path), 'utf8')))
    }
  }
  return files
}

export const isTest = (path: string): boolean => path.startsWith('test/')
