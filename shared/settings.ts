/**
 * Settings of a daemon: one table says each key, its kind, default and help; from it come the YAML reader, the
 * command-line flags (kebab case) and the list of mistakes. Flags win over the file. All mistakes are reported at once,
 * each with its line and key, and unknown keys with the nearest known one.
 *
 * Not here: YAML (settings-file.ts), rules between keys (each daemon's config.ts adds those as problems of the same
 * form) and reading the file.
 */
import type { Command } from 'commander'
import { readSettingsFile, type FileKeys, type FileSection, type RawValue } from './settings-file.ts'
import { formatBytes, formatDuration, parseBytes, parseDuration } from './units.ts'

/**
 * `bytes`: `64MiB`, B KiB MiB GiB; `duration`: `250ms`, ms s m h d; `list`: YAML sequence, repeated flag; `sections`: YAML
 * sequence of maps with keys of their own (`table`), which has no flag.
 */
export type SettingKind = 'string' | 'integer' | 'bytes' | 'duration' | 'boolean' | 'list' | 'choice' | 'map' | 'sections'

export interface Setting {
  readonly kind: SettingKind
  readonly help: string
  /** Shown in the help, written as in the file (`64MiB`, `1h`); undefined = no default, and the value may be absent. */
  readonly default?: string | number | boolean | readonly string[]
  readonly choices?: readonly string[]
  readonly min?: number
  readonly max?: number
  /** Whether a list or string must be there. */
  readonly required?: boolean
  /** Not required where this key is given in its place. */
  readonly unless?: string
  /** Keys of each section. */
  readonly table?: SettingTable
}

export type SettingTable = Readonly<Record<string, Setting>>

type TypeOf<S extends Setting> = S['kind'] extends 'integer' | 'bytes' | 'duration'
  ? number
  : S['kind'] extends 'boolean'
    ? boolean
    : S['kind'] extends 'list'
      ? readonly string[]
      : S['kind'] extends 'map'
        ? Readonly<Record<string, string>>
        : S extends { readonly kind: 'sections'; readonly table: infer T extends SettingTable }
          ? readonly SettingSection<T>[]
        : S extends { readonly choices: readonly (infer C)[] }
          ? C
          : string

type IsAlwaysThere<S extends Setting> = S['kind'] extends 'list' | 'map' | 'boolean' | 'sections'
  ? true
  : S extends { readonly required: true }
    ? S extends { readonly unless: string }
      ? false
      : true
    : S extends { readonly default: string | number | boolean }
      ? true
      : false

/** Bytes and durations (in ms) are numbers. Lists, sections and maps are empty when absent, booleans false. */
export type SettingValues<T extends SettingTable> = {
  readonly [K in keyof T]: IsAlwaysThere<T[K]> extends true ? TypeOf<T[K]> : TypeOf<T[K]> | undefined
}

export interface SettingProblem {
  /** 1-based line in the file, undefined for flags and missing keys. */
  readonly line: number | undefined
  readonly key: string
  readonly message: string
  /** Of an unknown key: the known one that it resembles. */
  readonly meant?: string
}

export interface SettingSources {
  /** YAML. Undefined or empty means that only flags and defaults count. */
  readonly fileText?: string
  /** `command.opts()`: keys in camel case; keys outside the table are ignored. */
  readonly flags?: Readonly<Record<string, unknown>>
}

export interface ParsedSettings<T extends SettingTable> {
  /** Only to be used when there are no problems. */
  readonly values: SettingValues<T>
  readonly problems: readonly SettingProblem[]
  /** Line of each key that the file sets and no flag overrides, for rules between keys. */
  readonly lines: ReadonlyMap<string, number>
}

/** Its problems have keys of the section; the whole has them too, with their place. */
export interface SettingSection<T extends SettingTable> extends ParsedSettings<T> {
  readonly line: number
}

type SettingValue = readonly SettingSection<SettingTable>[] | string | number | boolean | readonly string[] | Readonly<Record<string, string>> | undefined

export function parseSettings<const T extends SettingTable>(table: T, sources: SettingSources): ParsedSettings<T> {
  const problems: SettingProblem[] = []
  const file = readSettingsFile(table, sources.fileText ?? '', problems)
  return parseKeys(table, { file, flags: sources.flags ?? {}, problems, line: undefined })
}

interface KeySources {
  readonly file: FileKeys
  readonly flags: Readonly<Record<string, unknown>>
  /** Of the file's form; those of values are added. */
  readonly problems: SettingProblem[]
  /** Where the section begins; undefined for the whole, whose keys have flags. */
  readonly line: number | undefined
}

function parseKeys<const T extends SettingTable>(table: T, { file, flags, problems, line: sectionLine }: KeySources): ParsedSettings<T> {
  const lines = new Map<string, number>()
  const values: Record<string, SettingValue> = {}
  for (const [key, setting] of Object.entries(table)) {
    const flag = flagValue(setting, flags[key])
    const fromFile = file.get(key)
    if (flag !== undefined) {
      values[key] = valueOf(setting, flag, (message) => problems.push({ line: undefined, key: flagName(key), message }))
    } else if (fromFile !== undefined) {
      const { line, raw, sections } = fromFile
      lines.set(key, line)
      if (sections !== undefined) {
        values[key] = sections.map((section, at) => parseSection(setting.table ?? {}, section, { key: `${key}[${at}]`, problems }))
        continue
      }
      values[key] = raw === undefined ? undefined : valueOf(setting, raw, (message) => problems.push({ line, key, message }))
    } else {
      values[key] = defaultOf(setting)
      // A required key that is there but misspelt is one mistake, not two.
      const isMisspelt = problems.some(({ meant }) => meant === key)
      if (setting.required === true && isMissing(values[key]) && !isMisspelt && !file.has(setting.unless ?? '')) {
        problems.push({ line: sectionLine, key, message: sectionLine === undefined ? `is required: set it in the file or by ${flagName(key)}` : 'is required in each section' })
      }
    }
  }
  return { values: values as SettingValues<T>, problems: inFileOrder(problems), lines }
}

function parseSection(table: SettingTable, section: FileSection, whole: { key: string; problems: SettingProblem[] }): SettingSection<SettingTable> {
  const parsed = parseKeys(table, { file: section.keys, flags: {}, problems: section.problems, line: section.line })
  // What is no map lacks every key: that is one mistake.
  const wholly = parsed.problems.filter(({ key }) => key === '')
  for (const problem of wholly.length > 0 ? wholly : parsed.problems) whole.problems.push(inSection(whole.key, problem))
  return { ...parsed, line: section.line }
}

/** `inputs[1]` and `files` make `inputs[1].files`. */
export function inSection(section: string, problem: SettingProblem): SettingProblem {
  return { line: problem.line, key: problem.key === '' ? section : `${section}.${problem.key}`, message: problem.message }
}

/** The values that are right by themselves, for rules between keys: what is wrong already is not judged once more. */
export function soundValues<T extends SettingTable>(parsed: ParsedSettings<T>): Partial<SettingValues<T>> {
  const wrong = new Set(parsed.problems.flatMap(({ key, meant }) => [key, meant ?? key]))
  return Object.fromEntries(Object.entries(parsed.values).filter(([key]) => !wrong.has(key) && !wrong.has(flagName(key)))) as Partial<SettingValues<T>>
}

/** In the order of the file; what has no line comes last. */
export function inFileOrder(problems: readonly SettingProblem[]): SettingProblem[] {
  return problems.toSorted((a, b) => (a.line ?? Number.MAX_SAFE_INTEGER) - (b.line ?? Number.MAX_SAFE_INTEGER))
}

/** One problem a line, as compilers write them: `collector.yaml:3: segmentByte: unknown key; did you mean segmentBytes?` */
export function formatProblems(problems: readonly SettingProblem[], fileName = 'config'): string {
  const where = ({ line }: SettingProblem): string => (line === undefined ? '' : `${fileName}:${line}: `)
  return problems.map((problem) => `${where(problem)}${problem.key === '' ? '' : `${problem.key}: `}${problem.message}\n`).join('')
}

/** `segmentBytes` → `--segment-bytes`. */
export function flagName(key: string): string {
  return `--${kebabCase(key)}`
}

/** Gives the command one flag for each key of the table. Values stay as typed: `parseSettings` judges them. */
export function addSettingFlags(command: Command, table: SettingTable): Command {
  for (const [key, setting] of Object.entries(table)) {
    const help = setting.help + defaultNote(setting)
    if (setting.kind === 'sections') continue
    if (setting.kind === 'boolean') {
      command.option(flagName(key), help)
      if (setting.default === true) command.option(`--no-${kebabCase(key)}`, `not: ${setting.help}`)
    } else if (setting.kind === 'list' || setting.kind === 'map') {
      const placeholder = setting.kind === 'map' ? 'key=value' : 'value'
      command.option(`${flagName(key)} <${placeholder}>`, `${help} (may be repeated)`, (value: string, before: string[] | undefined) => [
        ...(before ?? []),
        value,
      ])
    } else {
      command.option(`${flagName(key)} <${placeholderOf(setting)}>`, help)
    }
  }
  return command
}

function kebabCase(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
}

function placeholderOf(setting: Setting): string {
  if (setting.kind === 'choice') return (setting.choices ?? []).join('|')
  return { string: 'text', integer: 'number', bytes: 'size', duration: 'duration' }[setting.kind as 'string'] ?? 'value'
}

function defaultNote(setting: Setting): string {
  if (setting.default === undefined || typeof setting.default === 'boolean') return ''
  const value = defaultOf(setting)
  if (typeof value === 'number' && setting.kind === 'bytes') return ` (default ${formatBytes(value)})`
  if (typeof value === 'number' && setting.kind === 'duration') return ` (default ${formatDuration(value)})`
  return ` (default ${String(setting.default)})`
}

function isMissing(value: SettingValue): boolean {
  return value === undefined || value === '' || (Array.isArray(value) && value.length === 0)
}

// Values: from what was written to what the kind means.

function defaultOf(setting: Setting): SettingValue {
  if (setting.default === undefined) {
    if (setting.kind === 'boolean') return false
    if (setting.kind === 'list' || setting.kind === 'sections') return []
    return setting.kind === 'map' ? emptyRecord() : undefined
  }
  if (typeof setting.default === 'object') return setting.default
  if (typeof setting.default === 'number' || typeof setting.default === 'boolean') return setting.default
  return valueOf(setting, setting.default, (message) => {
    throw new TypeError(`default of a setting: ${message}`)
  })
}

function valueOf(setting: Setting, raw: RawValue, complain: (message: string) => void): SettingValue {
  switch (setting.kind) {
    case 'list':
      return listOf(setting, raw, complain)
    case 'map':
      return recordOf(raw, complain)
    case 'sections':
      complain('is no flag: it stands in the file')
      return []
    case 'boolean':
      if (raw === true || raw === 'true') return true
      if (raw !== false && raw !== 'false') complain(`${show(raw)} is not true or false`)
      return false
    case 'choice':
      if (typeof raw === 'string' && setting.choices?.includes(raw) === true) return raw
      complain(`${show(raw)} is not one of ${(setting.choices ?? []).join(', ')}`)
      return undefined
    case 'string':
      if (typeof raw === 'string' && (raw !== '' || setting.required !== true)) return raw
      complain(raw === '' ? 'is required and may not be empty' : `${show(raw)} is not a text`)
      return undefined
    case 'integer':
    case 'bytes':
    case 'duration':
      return numberOf(setting, raw, complain)
  }
}

const numberKinds = {
  integer: { parse: parseInteger, format: String, example: 'a whole number' },
  bytes: { parse: parseBytes, format: formatBytes, example: 'a size such as 64MiB (B, KiB, MiB, GiB)' },
  duration: { parse: parseDuration, format: formatDuration, example: 'a duration such as 250ms (ms, s, m, h, d)' },
} as const

function numberOf(setting: Setting, raw: RawValue, complain: (message: string) => void): number | undefined {
  const kind = numberKinds[setting.kind as keyof typeof numberKinds]
  const value = typeof raw === 'string' ? kind.parse(raw) : undefined
  if (value === undefined) {
    complain(`${show(raw)} is not ${kind.example}`)
    return undefined
  }
  if (setting.min !== undefined && value < setting.min) complain(`${show(raw)} is below the least, ${kind.format(setting.min)}`)
  if (setting.max !== undefined && value > setting.max) complain(`${show(raw)} is above the most, ${kind.format(setting.max)}`)
  return value
}

function parseInteger(text: string): number | undefined {
  const value = /^-?[0-9]{1,16}$/.test(text.trim()) ? Number(text) : undefined
  return Number.isSafeInteger(value) ? value : undefined
}

function listOf(setting: Setting, raw: RawValue, complain: (message: string) => void): readonly string[] {
  const list = typeof raw === 'string' ? [raw] : typeof raw === 'object' && !('get' in raw) ? raw : undefined
  if (list === undefined) complain(`${show(raw)} is not a list`)
  else if (list.length === 0 && setting.required === true) complain('is required and may not be empty')
  return list ?? []
}

function recordOf(raw: RawValue, complain: (message: string) => void): Readonly<Record<string, string>> {
  const record = emptyRecord()
  if (typeof raw !== 'object') {
    complain(`${show(raw)} is not a map of keys and values`)
    return record
  }
  if ('get' in raw) {
    for (const [key, value] of raw) record[key] = value
    return record
  }
  for (const pair of raw) {
    const equals = pair.indexOf('=')
    if (equals < 1) complain(`${show(pair)} is not key=value`)
    else record[pair.slice(0, equals)] = pair.slice(equals + 1)
  }
  return record
}

/** Without a prototype: a key such as `__proto__` from outside is a key like any other. */
function emptyRecord(): Record<string, string> {
  return Object.create(null) as Record<string, string>
}

function show(raw: RawValue): string {
  if (typeof raw === 'string') return JSON.stringify(raw.slice(0, 100))
  return typeof raw === 'boolean' ? String(raw) : raw instanceof Map ? 'a map' : 'a list'
}

function flagValue(setting: Setting, value: unknown): RawValue | undefined {
  if (typeof value === 'string' || typeof value === 'boolean') return value
  if (Array.isArray(value) && (setting.kind === 'list' || setting.kind === 'map')) return value.map(String)
  return undefined
}
