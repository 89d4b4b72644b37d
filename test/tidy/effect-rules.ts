/** Ambient effects: globals that read a clock, roll dice, wait, or touch the process. And what unit tests may not do. */
import { Visitor, type ESTree } from 'vite'
import type { Effect } from './exceptions.ts'
import { isAllowedEffect } from './import-rules.ts'
import { isTest, type Finding, type SourceFile } from './source-tree.ts'

/** Globals that are an effect however they are used. */
const effectGlobals: Readonly<Record<string, Effect>> = {
  setTimeout: 'clock',
  setInterval: 'clock',
  setImmediate: 'clock',
  clearTimeout: 'clock',
  clearInterval: 'clock',
  performance: 'clock',
  process: 'process',
  console: 'console',
  fetch: 'network',
  WebSocket: 'network',
  EventSource: 'network',
  crypto: 'random',
}

/** `object.property` pairs that are an effect. */
const effectMembers: Readonly<Record<string, Effect>> = {
  'Date.now': 'clock',
  'Math.random': 'random',
  'AbortSignal.timeout': 'clock',
}

interface Use {
  readonly what: string
  readonly effect: Effect
  readonly at: number
}

/** Uses of ambient effects in one file, test or not. */
export function effectUses(file: SourceFile): readonly Use[] {
  const uses: Use[] = []
  // Names that stand where a name is no use of a global: `x.process`, `{ process: 1 }`, a method called so.
  const notGlobal = new Set<number>()
  const skipKey = (node: { readonly key: { readonly start: number }; readonly computed: boolean; readonly shorthand?: boolean }): void => {
    if (!node.computed && node.shorthand !== true) notGlobal.add(node.key.start)
  }
  new Visitor({
    MemberExpression: (node) => {
      if (node.computed) return
      notGlobal.add(node.property.start)
      const member = node.object.type === 'Identifier' ? `${node.object.name}.${node.property.name}` : ''
      const effect = effectMembers[member]
      if (effect !== undefined) uses.push({ what: member, effect, at: node.start })
    },
    Property: skipKey,
    MethodDefinition: skipKey,
    PropertyDefinition: skipKey,
    TSPropertySignature: skipKey,
    TSMethodSignature: skipKey,
    ImportSpecifier: (node) => void notGlobal.add(node.imported.start),
    TSQualifiedName: (node) => void notGlobal.add(node.right.start),
    NewExpression: (node) => {
      if (isNamed(node.callee, 'Date') && node.arguments.length === 0) uses.push({ what: 'new Date()', effect: 'clock', at: node.start })
    },
    CallExpression: (node) => {
      if (isNamed(node.callee, 'Date')) uses.push({ what: 'Date()', effect: 'clock', at: node.start })
    },
    Identifier: (node) => {
      const effect = Object.hasOwn(effectGlobals, node.name) ? effectGlobals[node.name] : undefined
      if (effect !== undefined && !notGlobal.has(node.start)) uses.push({ what: node.name, effect, at: node.start })
    },
  }).visit(file.program)
  return uses
}

export function findEffects(file: SourceFile): readonly Finding[] {
  if (isTest(file.path)) return []
  return effectUses(file)
    .filter((use) => !isAllowedEffect(file.path, use.effect))
    .map((use) => ({
      rule: 'effect',
      path: file.path,
      line: file.lineOf(use.at),
      text: `uses ${use.what} (${use.effect}): effects go through System, or simulation can't replace them`,
    }))
}

/** Suites against real processes may wait, on a condition with a deadline. */
const mayWait = /^test\/(e2e|torture|real|bench|golden)\/|\.long\.test\.ts$/
const waits = new Set(['setTimeout', 'setInterval', 'AbortSignal.timeout'])
const realTime = new Set(['Date.now', 'new Date()', 'Date()', 'performance', 'Math.random'])
const mocks = /^vi\.(mock|doMock|hoisted|useFakeTimers|setSystemTime|stubGlobal|spyOn)$/

export function findTestHabits(file: SourceFile): readonly Finding[] {
  if (!isTest(file.path)) return []
  const findings: Finding[] = []
  const add = (rule: string, at: number, text: string): void => {
    findings.push({ rule, path: file.path, line: file.lineOf(at), text })
  }
  for (const use of effectUses(file)) {
    if (mayWait.test(file.path)) continue
    if (waits.has(use.what)) add('test-sleep', use.at, `uses ${use.what}: a test that sleeps is slow or flaky; wait for a condition, or advance the simulated clock`)
    if (realTime.has(use.what)) add('test-clock', use.at, `uses ${use.what}: a test that reads the real clock or dice can't be replayed`)
  }
  new Visitor({
    MemberExpression: (node) => {
      const member = !node.computed && node.object.type === 'Identifier' ? `${node.object.name}.${node.property.name}` : ''
      if (mocks.test(member)) add('test-mock', node.start, `uses ${member}: pass another System instead of replacing modules or globals`)
      if (/^(test|it|describe)\.only$/.test(member)) add('test-only', node.start, `uses ${member}: the other tests would silently not run`)
    },
    ImportDeclaration: (node) => {
      const isTimer = typeof node.source.value === 'string' && node.source.value.startsWith('node:timers')
      if (isTimer && !mayWait.test(file.path)) add('test-sleep', node.start, 'imports node:timers: a test that sleeps is slow or flaky')
    },
  }).visit(file.program)
  return findings
}

function isNamed(node: ESTree.Node, name: string): boolean {
  return node.type === 'Identifier' && node.name === name
}
