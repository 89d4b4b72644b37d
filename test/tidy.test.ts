import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { findEffects, findTestHabits } from './tidy/effect-rules.ts'
import { exceptions, packageHomes, seams, type Exception } from './tidy/exceptions.ts'
import { covers, findImportProblems, importsOf, isAllowedEffect } from './tidy/import-rules.ts'
import { findCommentProblems, findLanguageProblems, findModuleState } from './tidy/language-rules.ts'
import { findSizeProblems, measureFile, measureFunctions, type Measured } from './tidy/size-rules.ts'
import { parseSource, readSourceTree, type Finding, type SourceFile } from './tidy/source-tree.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const checks = [findImportProblems, findEffects, findTestHabits, findLanguageProblems, findModuleState, findCommentProblems, findSizeProblems]

function findAll(file: SourceFile): readonly Finding[] {
  return checks.flatMap((check) => check(file))
}

function excuses(exception: Exception, finding: Finding): boolean {
  return exception.rule === finding.rule && exception.path === finding.path && (finding.size ?? 0) <= (exception.limit ?? finding.size ?? 0)
}

function printed(findings: readonly Finding[]): string {
  return findings.map((finding) => `${finding.path}:${finding.line} [${finding.rule}] ${finding.text}`).join('\n')
}

function longest(all: readonly Measured[]): string {
  const five = all.toSorted((a, b) => b.lines - a.lines).slice(0, 5)
  return five.map((each) => `${String(each.lines).padStart(6)}  ${each.path}:${each.line} ${each.name === each.path ? '' : each.name}`).join('\n')
}

describe('the tree', () => {
  const files = readSourceTree(root)
  const findings = files.flatMap(findAll)

  test('keeps the house rules', () => {
    const open = findings.filter((finding) => !exceptions.some((exception) => excuses(exception, finding)))
    expect(printed(open)).toBe('')
  })

  test('needs every exception that it was granted', () => {
    const idle = exceptions.filter((exception) => !findings.some((finding) => excuses(exception, finding)))
    expect(idle.map((exception) => `${exception.path} no longer needs its exception from ${exception.rule}: take it off the list`)).toEqual([])
  })

  test('has no seam and no package home for files that are gone', () => {
    const places = [...seams.map((seam) => seam.path), ...Object.values(packageHomes).flat()]
    expect(places.filter((place) => !existsSync(`${root}/${place}`))).toEqual([])
  })

  test('has one home for each runtime dependency, and none that is not declared', () => {
    const manifest: unknown = JSON.parse(readFileSync(`${root}/package.json`, 'utf8'))
    expect(manifest).toHaveProperty('dependencies')
    const { dependencies } = manifest as { dependencies: Record<string, string> }
    expect(Object.keys(packageHomes).toSorted()).toEqual(Object.keys(dependencies).toSorted())
  })

  test('lists its five longest files and functions, because order decays quietly', () => {
    const report = `longest files\n${longest(files.map(measureFile))}\nlongest functions\n${longest(files.flatMap(measureFunctions))}`
    console.info(report)
    expect(files.length).toBeGreaterThan(10)
  })
})

/** What each rule must catch: without this, a rule that looks at nothing would pass for ever. */
const violations: readonly (readonly [rule: string, path: string, source: string])[] = [
  ['import-house', 'shared/a.ts', `import { x } from '../agent/x.ts'`],
  ['import-house', 'agent/a.ts', `import { x } from '../collector/x.ts'`],
  ['import-house', 'agent/a.ts', `const x = await import('../collector/x.ts')`],
  ['import-house', 'collector/storage/a.ts', `import type { x } from '../http/x.ts'`],
  ['import-house', 'collector/query/a.ts', `import { x } from '../export/x.ts'`],
  ['import-house', 'collector/export/a.ts', `import { x } from '../http/x.ts'`],
  ['import-house', 'collector/http/a.ts', `import { x } from '../export/x.ts'`],
  ['import-house', 'collector/cli/query.ts', `import { x } from '../storage/x.ts'`],
  ['import-house', 'collector/collector.ts', `import { x } from '../test/x.ts'`],
  ['import-ending', 'agent/a.ts', `import { x } from './x'`],
  ['package-home', 'agent/a.ts', `import { Counter } from 'prom-client'`],
  ['package-home', 'agent/a.ts', `import leftPad from 'left-pad'`],
  ['effect', 'agent/a.ts', `import { readFile } from 'node:fs/promises'`],
  ['effect', 'collector/http/a.ts', `import { createServer } from 'node:http'`],
  ['effect', 'collector/http/a.ts', `import { type Server, createServer } from 'node:http'`],
  ['effect', 'collector/http/a.ts', `import { isIP, connect } from 'node:net'`],
  ['effect', 'collector/http/a.ts', `import 'node:net'`],
  ['effect', 'agent/a.ts', `import { randomBytes } from 'node:crypto'`],
  ['effect', 'agent/a.ts', `import crypto from 'node:crypto'`],
  ['effect', 'agent/a.ts', `export const f = () => Date.now()`],
  ['effect', 'agent/a.ts', `export const f = () => new Date()`],
  ['effect', 'agent/a.ts', `export const f = () => Math.random()`],
  ['effect', 'agent/a.ts', `export const f = () => setTimeout(g, 10)`],
  ['effect', 'agent/a.ts', `export const f = () => AbortSignal.timeout(5)`],
  ['effect', 'agent/a.ts', `export const f = () => process.exit(1)`],
  ['effect', 'agent/a.ts', `export const f = () => ({ process })`],
  ['effect', 'agent/a.ts', `export const f = () => console.log(1)`],
  ['effect', 'agent/a.ts', `export const f = () => fetch('http://x')`],
  ['any', 'agent/a.ts', `export const f = (x: any) => x`],
  ['enum', 'agent/a.ts', `export enum Color { Red }`],
  ['namespace', 'agent/a.ts', `export namespace N { export const a = 1 }`],
  ['non-null', 'agent/a.ts', `export const f = (x?: string) => x!.length`],
  ['non-null', 'agent/a.ts', `export class A { x!: string }`],
  ['parameter-property', 'agent/a.ts', `export class A { constructor(private readonly x: number) {} }`],
  ['module-state', 'agent/a.ts', `let count = 0`],
  ['module-state', 'agent/a.ts', `export const seen = new Set<string>()`],
  ['module-state', 'agent/a.ts', `export class A { static count = 0 }`],
  ['import-work', 'agent/a.ts', `start()`],
  ['empty-catch', 'agent/a.ts', `export const f = () => { try { g() } catch { /* nothing */ } }`],
  ['empty-catch', 'agent/a.ts', `export const f = () => { g().catch(() => {}) }`],
  ['empty-catch', 'agent/a.ts', `export const f = async () => { await g().catch(() => undefined) }`],
  ['module-state', 'agent/a.ts', `const seen: Map<string, string> = new Map()`],
  ['default-export', 'agent/a.ts', `export default 1`],
  ['re-export', 'agent/index.ts', `export * from './a.ts'`],
  ['re-export', 'agent/index.ts', `export { a } from './a.ts'`],
  ['comment', 'agent/a.ts', `// ${'TO'}DO: later`],
  ['comment', 'agent/a.ts', `// @ts-${'ignore'}`],
  ['comment', 'agent/a.ts', `// oxlint-${'disable'}-next-line no-empty`],
  ['header', 'agent/a.ts', `export const a = 1`],
  ['file-name', 'agent/BadName.ts', `export const a = 1`],
  ['file-length', 'agent/a.ts', 'export type A = 1\n'.repeat(501)],
  ['function-length', 'agent/a.ts', `export function f() {\n${'g()\n'.repeat(70)}}`],
  ['test-sleep', 'test/a.test.ts', `setTimeout(done, 100)`],
  ['test-sleep', 'test/a.test.ts', `import { setTimeout } from 'node:timers/promises'`],
  ['test-clock', 'test/a.test.ts', `const now = Date.now()`],
  ['test-mock', 'test/a.test.ts', `vi.mock('node:fs')`],
  ['test-only', 'test/a.test.ts', `test.${'only'}('x', () => {})`],
]

describe('the rules', () => {
  test.each(violations.map((violation) => ({ violation, excerpt: violation[2].slice(0, 60).replaceAll('\n', ' ') })))('catch $violation.0 in $violation.1: $excerpt', ({ violation: [rule, path, source] }) => {
    expect(findAll(parseSource(path, source)).map((finding) => finding.rule)).toContain(rule)
  })

  test('let a tidy module pass', () => {
    const source = [
      '/** A header. */',
      `import { createHash } from 'node:crypto'`,
      `import { isIP } from 'node:net'`,
      `import type { IncomingMessage } from 'node:http'`,
      `import { x } from '../shared/x.ts'`,
      'export const LIMIT = 5',
      'const nothing: ReadonlyMap<string, string> = new Map()',
      'const table = { process: 1 } as const',
      'export function f(system: { process: number; setTimeout: number }): number {',
      '  try { return x(createHash, system.process, system.setTimeout, new Date(0), table.process) } catch (error) { throw new Error("x", { cause: error }) }',
      '}',
    ].join('\n')
    expect(printed(findAll(parseSource('agent/a.ts', source)))).toBe('')
  })

  test('see every kind of import', () => {
    const file = parseSource('agent/a.ts', `import 'a'; import b from 'b'; export { c } from 'c'; export * from 'd'; const e = await import('e')`)
    expect(importsOf(file).map((each) => each.specifier)).toEqual(['a', 'b', 'c', 'd', 'e'])
  })

  test('grant an effect only where a seam names it', () => {
    expect(isAllowedEffect('shared/node/clock.ts', 'clock')).toBe(true)
    expect(isAllowedEffect('agent/tailer.ts', 'clock')).toBe(false)
    expect(covers('shared/node/', 'shared/node-system.ts')).toBe(false)
  })
})
