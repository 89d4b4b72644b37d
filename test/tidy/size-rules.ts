/** Lengths of files and functions. The numbers are tripwires that start a talk about splitting, not laws. */
import { Visitor, type ESTree } from 'vite'
import { isTest, type Finding, type SourceFile } from './source-tree.ts'

export const FILE_LINES_MAX = 500
export const FUNCTION_LINES_MAX = 70

export interface Measured {
  readonly path: string
  readonly line: number
  readonly name: string
  readonly lines: number
}

export function measureFile(file: SourceFile): Measured {
  const lines = file.text.split('\n').length - (file.text.endsWith('\n') ? 1 : 0)
  return { path: file.path, line: 1, name: file.path, lines }
}

/** Every function with a body. A callback of `describe`, or a contract suite named so, only groups tests: not measured. */
export function measureFunctions(file: SourceFile): readonly Measured[] {
  const found: Measured[] = []
  const groups = new Set<number>()
  const names = new Map<number, string>()
  const measure = (node: { readonly start: number; readonly end: number; readonly id?: ESTree.Node | null }): void => {
    if (groups.has(node.start)) return
    const own = node.id?.type === 'Identifier' ? node.id.name : undefined
    if (own?.startsWith('describe') === true && isTest(file.path)) return
    const line = file.lineOf(node.start)
    found.push({ path: file.path, line, name: own ?? names.get(node.start) ?? 'callback', lines: file.lineOf(node.end) - line + 1 })
  }
  new Visitor({
    CallExpression: (node) => {
      if (nameOfCallee(node).startsWith('describe')) for (const argument of node.arguments) groups.add(argument.start)
    },
    VariableDeclarator: (node) => {
      if (node.id.type === 'Identifier' && node.init !== null) names.set(node.init.start, node.id.name)
    },
    MethodDefinition: (node) => {
      if (node.key.type === 'Identifier') names.set(node.value.start, node.key.name)
    },
    FunctionDeclaration: measure,
    FunctionExpression: measure,
    ArrowFunctionExpression: measure,
  }).visit(file.program)
  return found
}

/** `describe` of `describe(…)`, `describe.each(…)(…)` and `describe.skipIf(…)(…)`. */
function nameOfCallee(call: ESTree.CallExpression): string {
  let callee: ESTree.Expression = call
  while (callee.type === 'CallExpression' || callee.type === 'MemberExpression') {
    callee = callee.type === 'CallExpression' ? callee.callee : callee.object
  }
  return callee.type === 'Identifier' ? callee.name : ''
}

export function findSizeProblems(file: SourceFile): readonly Finding[] {
  const findings: Finding[] = []
  const whole = measureFile(file)
  if (whole.lines > FILE_LINES_MAX) {
    findings.push({ rule: 'file-length', path: file.path, line: 1, size: whole.lines, text: `${whole.lines} lines, over ${FILE_LINES_MAX}: more than one concept lives here` })
  }
  for (const each of measureFunctions(file)) {
    if (each.lines <= FUNCTION_LINES_MAX) continue
    findings.push({ rule: 'function-length', path: file.path, line: each.line, size: each.lines, text: `${each.name} has ${each.lines} lines, over ${FUNCTION_LINES_MAX}: decide in one place, act in another` })
  }
  return findings
}
