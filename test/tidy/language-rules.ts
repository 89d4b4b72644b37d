/** The part of TypeScript that the house uses, and the shape of a module. */
import { Visitor, type ESTree } from 'vite'
import { isTest, type Finding, type SourceFile } from './source-tree.ts'

type Report = (rule: string, at: number, text: string) => void

function reporter(file: SourceFile, findings: Finding[]): Report {
  return (rule, at, text) => {
    findings.push({ rule, path: file.path, line: file.lineOf(at), text })
  }
}

export function findLanguageProblems(file: SourceFile): readonly Finding[] {
  const findings: Finding[] = []
  const report = reporter(file, findings)
  new Visitor({
    TSAnyKeyword: (node) => report('any', node.start, 'any: it switches the compiler off where outside data comes in; use unknown and parse'),
    TSEnumDeclaration: (node) => report('enum', node.start, 'enum: it is code, not a type; use a union of strings'),
    TSModuleDeclaration: (node) => {
      if (!file.path.endsWith('.d.ts')) report('namespace', node.start, 'namespace: a file is the module')
    },
    TSNonNullExpression: (node) => report('non-null', node.start, '!: it hides the case that will happen; check it or assert with a reason'),
    TSParameterProperty: (node) => report('parameter-property', node.start, 'parameter property: it does not survive type stripping; declare the field'),
    PropertyDefinition: (node) => {
      if (node.definite === true) report('non-null', node.start, '!: on a field it hides the time before it is set')
      if (node.static && !node.readonly) report('module-state', node.start, 'mutable static field: state belongs to an object that someone made')
    },
    VariableDeclarator: (node) => {
      if (node.definite === true) report('non-null', node.start, '!: on a variable it hides the time before it is set')
    },
    CatchClause: (node) => {
      if (node.body.body.length === 0) report('empty-catch', node.start, 'empty catch: catch only to add facts, to translate or to decide')
    },
    ExpressionStatement: (node) => {
      if (!isTest(file.path) && isCatchThatDropsAll(node.expression)) report('empty-catch', node.start, '.catch that drops every error: say which one is expected, or log it')
    },
    ExportDefaultDeclaration: (node) => {
      // A declaration file says how others export; it has no say in it.
      if (!file.path.endsWith('.d.ts')) report('default-export', node.start, 'default export: a thing has one name everywhere')
    },
    ExportAllDeclaration: (node) => report('re-export', node.start, 're-export: import from where the thing lives'),
    ExportNamedDeclaration: (node) => {
      if (node.source !== null) report('re-export', node.start, 're-export: import from where the thing lives')
    },
  }).visit(file.program)
  return findings
}

/** `f().catch(() => {})` as a statement. Where the answer is used, undefined for a failure is a decision, not a drop. */
function isCatchThatDropsAll(node: ESTree.Expression): boolean {
  if (node.type === 'AwaitExpression' || node.type === 'UnaryExpression') return isCatchThatDropsAll(node.argument)
  if (node.type !== 'CallExpression') return false
  const { callee } = node
  if (callee.type !== 'MemberExpression' || callee.computed || callee.property.name !== 'catch') return false
  const handler = node.arguments[0]
  if (handler?.type !== 'ArrowFunctionExpression') return false
  if (handler.body.type === 'BlockStatement') return handler.body.body.length === 0
  return handler.params.length === 0 && handler.body.type === 'Identifier' && handler.body.name === 'undefined'
}

/** Entries may act when they are loaded: that is what they are for. */
const entry = /(^|\/)main\.ts$|-worker\.ts$|^packaging\/|vitest\.config\.ts$/

export function findModuleState(file: SourceFile): readonly Finding[] {
  if (isTest(file.path)) return []
  const findings: Finding[] = []
  const report = reporter(file, findings)
  for (const statement of file.program.body) {
    const node = statement.type === 'ExportNamedDeclaration' ? statement.declaration : statement
    if (node === null) continue
    if (node.type === 'VariableDeclaration') findMutable(node, report)
    else if (isActing(node) && !entry.test(file.path)) {
      report('import-work', node.start, 'work at import time: importing a module must do nothing that can be seen or can fail')
    }
  }
  return findings
}

function findMutable(node: ESTree.VariableDeclaration, report: Report): void {
  if (node.kind !== 'const' && node.declare !== true) {
    report('module-state', node.start, `top-level ${node.kind}: state belongs to an object that someone made, so that two can live in one process`)
  }
  for (const { id, init } of node.declarations) {
    if (init !== null && isEmptyCollection(init) && !isReadonly(id)) report('module-state', node.start, 'empty collection at the top level: it is there to be filled, so it is module state')
  }
}

const collections = new Set(['Map', 'Set', 'WeakMap', 'WeakSet', 'Array'])

function isEmptyCollection(node: ESTree.Expression): boolean {
  if (node.type === 'ArrayExpression') return node.elements.length === 0
  if (node.type === 'ObjectExpression') return node.properties.length === 0
  return node.type === 'NewExpression' && node.arguments.length === 0 && node.callee.type === 'Identifier' && collections.has(node.callee.name)
}

/** `ReadonlyMap<…>`, `readonly string[]`: a constant that is empty for good. */
function isReadonly(id: ESTree.BindingPattern): boolean {
  const type = id.typeAnnotation?.typeAnnotation
  if (type?.type === 'TSTypeOperator') return type.operator === 'readonly'
  return type?.type === 'TSTypeReference' && type.typeName.type === 'Identifier' && type.typeName.name.startsWith('Readonly')
}

const acting = new Set([
  'ExpressionStatement',
  'IfStatement',
  'ForStatement',
  'ForOfStatement',
  'ForInStatement',
  'WhileStatement',
  'TryStatement',
  'SwitchStatement',
  'BlockStatement',
  'ThrowStatement',
])

function isActing(node: ESTree.Node): boolean {
  return acting.has(node.type)
}

const unwantedComments: readonly (readonly [RegExp, string])[] = [
  [/\b(TODO|FIXME|XXX|HACK)\b/, 'a note to do something later: do it, or open an issue'],
  [/@ts-(ignore|nocheck)/, 'switches the compiler off: narrow the type instead'],
  [/@ts-expect-error(?! -- \S)/, 'expects a type error without saying why: write `-- reason` behind it'],
  [/(ox|es)lint-disable(?!.* -- \S)/, 'switches a lint rule off without saying why: write `-- reason` behind it'],
]

export function findCommentProblems(file: SourceFile): readonly Finding[] {
  const findings: Finding[] = []
  const report = reporter(file, findings)
  for (const comment of file.comments) {
    for (const [pattern, reason] of unwantedComments) {
      if (pattern.test(comment.value)) report('comment', comment.start, `${pattern.exec(comment.value)?.[0] ?? ''}: ${reason}`)
    }
  }
  const first = file.comments[0]
  const start = file.text.startsWith('#!') ? file.text.indexOf('\n') + 1 : 0
  if (!isTest(file.path) && (first === undefined || first.start > start || !first.value.startsWith('*'))) {
    report('header', 0, 'no header comment: say what the file is, what it is not, who may call it at once, what is durable')
  }
  if (!/^[a-z0-9]+([.-][a-z0-9]+)*\.ts$/.test(file.path.split('/').at(-1) ?? '')) report('file-name', 0, 'file name is not kebab-case')
  return findings
}
