/**
 * The YAML of a settings file: its keys with their lines and raw values, and what is wrong with its form. What a value
 * means is the business of settings.ts.
 */
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Document, type Node, type YAMLMap } from 'yaml'
import type { SettingProblem, SettingTable } from './settings.ts'

/** What a file or flag holds for one key, before its kind is looked at. */
export type RawValue = string | boolean | readonly string[] | ReadonlyMap<string, string>

const FILE_CHARACTERS_MAX = 1024 * 1024
const SECTIONS_MAX = 256

/** The keys of one map of the file: the whole, or one section of it. */
export type FileKeys = ReadonlyMap<string, FileValue>

export interface FileSection {
  readonly line: number
  readonly keys: FileKeys
  /** With keys of the section, not of the whole. */
  readonly problems: SettingProblem[]
}

export interface FileValue {
  readonly line: number
  /** In the place of `raw`, for a list of sections. */
  readonly sections?: readonly FileSection[]
  /** undefined when a problem was already reported for it. */
  readonly raw: RawValue | undefined
}

/** Every known key of the file; what is wrong is added to `problems`. */
export function readSettingsFile(table: SettingTable, text: string, problems: SettingProblem[]): FileKeys {
  const values = new Map<string, FileValue>()
  if (text.length > FILE_CHARACTERS_MAX) {
    problems.push({ line: 1, key: '', message: `the file is longer than ${FILE_CHARACTERS_MAX} characters` })
    return values
  }
  const counter = new LineCounter()
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false })
  const lineAt = (position: number): number => counter.linePos(position).line
  let isReadable = true
  for (const error of document.errors) {
    if (error.code !== 'DUPLICATE_KEY') isReadable = false
    problems.push({ line: lineAt(error.pos[0]), key: '', message: `not valid YAML: ${error.message}` })
  }
  const root = document.contents
  if (!isReadable || root === null) return values
  if (!isMap(root)) {
    if (!isScalar(root) || root.value !== null) problems.push({ line: 1, key: '', message: 'the file is not a map of keys and values' })
    return values
  }
  return keysOf(root, table, { document, lineAt, problems })
}

interface ReadContext {
  readonly document: Document
  readonly lineAt: (position: number) => number
  readonly problems: SettingProblem[]
}

function keysOf(root: YAMLMap, table: SettingTable, context: ReadContext): FileKeys {
  const { document, lineAt, problems } = context
  const values = new Map<string, FileValue>()
  for (const pair of root.items) {
    const key = isScalar(pair.key) ? String(pair.key.value) : '?'
    const line = lineAt((pair.key as Node).range?.[0] ?? 0)
    const complain = (message: string): void => {
      problems.push({ line, key, message })
    }
    const setting = Object.hasOwn(table, key) ? table[key] : undefined
    if (setting === undefined) {
      const meant = nearestKey(key, Object.keys(table))
      problems.push({ line, key, message: meant === undefined ? 'unknown key' : `unknown key; did you mean ${meant}?`, ...(meant === undefined ? {} : { meant }) })
    } else if (values.has(key)) continue
    else if (setting.kind === 'sections') values.set(key, { line, raw: undefined, sections: sectionsOf(pair.value, setting.table ?? {}, { ...context, complain }) })
    else values.set(key, { line, raw: rawOf(document, pair.value, complain) })
  }
  return values
}

function sectionsOf(node: unknown, table: SettingTable, context: ReadContext & { complain: (message: string) => void }): FileSection[] {
  const { document, lineAt, complain } = context
  const target = isAlias(node) ? node.resolve(document) : node
  if (!isSeq(target) || target.items.length === 0) {
    complain('must be a list of sections, each with keys of its own')
    return []
  }
  if (target.items.length > SECTIONS_MAX) complain(`${target.items.length} sections are over ${SECTIONS_MAX}`)
  return target.items.slice(0, SECTIONS_MAX).map((item) => {
    const line = lineAt((item as Node | null)?.range?.[0] ?? 0)
    const problems: SettingProblem[] = []
    if (isMap(item)) return { line, keys: keysOf(item, table, { ...context, problems }), problems }
    return { line, keys: new Map<string, FileValue>(), problems: [{ line, key: '', message: 'is not a map of keys and values' }] }
  })
}

function rawOf(document: Document, node: unknown, complain: (message: string) => void): RawValue | undefined {
  const target = isAlias(node) ? node.resolve(document) : node
  if (isScalar(target)) return scalarOf(target, complain)
  if (isSeq(target)) {
    const list = target.items.map((item) => scalarOf(item, complain))
    return list.every((item) => item !== undefined) ? list.map(String) : undefined
  }
  if (isMap(target)) {
    const pairs = target.items.map((pair) => [scalarOf(pair.key, complain), scalarOf(pair.value, complain)] as const)
    return pairs.every(([key, value]) => key !== undefined && value !== undefined)
      ? new Map(pairs.map(([key, value]) => [String(key), String(value)]))
      : undefined
  }
  complain('has no value')
  return undefined
}

/** Numbers keep the digits that were written: a host name `0123` must not become 123. */
function scalarOf(node: unknown, complain: (message: string) => void): string | boolean | undefined {
  if (!isScalar(node)) {
    complain('holds something nested where a plain value is meant')
    return undefined
  }
  if (typeof node.value === 'string' || typeof node.value === 'boolean') return node.value
  if (node.value !== null && node.source !== undefined) return node.source
  complain('has no value')
  return undefined
}

function nearestKey(key: string, known: readonly string[]): string | undefined {
  const plain = (name: string): string => name.replace(/[-_]/g, '').toLowerCase()
  const ranked = known.map((name) => ({ name, distance: editDistance(plain(key), plain(name)) })).sort((a, b) => a.distance - b.distance)
  const nearest = ranked[0]
  const isNear = nearest !== undefined && nearest.distance <= Math.max(1, Math.floor(nearest.name.length / 3))
  return isNear ? nearest.name : undefined
}

/** Levenshtein; keys are short, and longer ones are cut so that a hostile file costs nothing. */
function editDistance(a: string, b: string): number {
  const [left, right] = [a.slice(0, 64), b.slice(0, 64)]
  let row = Array.from({ length: right.length + 1 }, (_, index) => index)
  for (let i = 1; i <= left.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= right.length; j += 1) {
      const replaced = (row[j - 1] ?? 0) + (left[i - 1] === right[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[right.length] ?? 0
}
