import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { agentSettings } from '../agent/config.ts'
import { collectorSettings } from '../collector/config.ts'
import type { Setting, SettingTable } from '../shared/settings.ts'
import { paths } from '../shared/wire.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string): string => readFileSync(`${root}/${path}`, 'utf8')

/** All sources below a folder as one text. */
function sourcesIn(folder: string): string {
  const files = readdirSync(`${root}/${folder}`, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.ts'))
  return files.toSorted().map((path) => read(`${folder}/${path}`)).join('\n')
}

/** The part between a heading of the second level and the next one. */
function sectionOf(text: string, heading: string): string {
  const part = text.split(/^## /m).find((each) => each.startsWith(`${heading}\n`))
  expect(part, `a section "${heading}"`).toBeDefined()
  return part ?? ''
}

/** Default by key, as the rows `| key | kind | default | help |` tell it. */
function defaultsTold(section: string): Map<string, string> {
  const rows = section.matchAll(/^\| `(?<key>[A-Za-z]+)` \| [^|]+ \| (?<value>[^|]+) \| .+ \|$/gm)
  return new Map([...rows].map(({ groups }) => [groups?.['key'] ?? '', groups?.['value'] ?? '']))
}

function defaultOf(setting: Setting): string {
  if (setting.required === true) return 'required'
  if (setting.default !== undefined) return `\`${typeof setting.default === 'object' ? setting.default.join(' ') : String(setting.default)}\``
  return setting.kind === 'boolean' ? '`false`' : 'none'
}

const tables: readonly (readonly [file: string, table: SettingTable])[] = [
  ['agent/README.md', agentSettings],
  ['collector/README.md', collectorSettings],
]

describe.each(tables)('%s', (file, table) => {
  test('tells each setting with its default, and none that is not there', () => {
    const expected = new Map(Object.entries(table).map(([key, setting]) => [key, defaultOf(setting)]))
    expect(defaultsTold(sectionOf(read(file), 'Settings'))).toEqual(expected)
  })

  test('tells each metric that the code declares, and none that it does not', () => {
    const folder = file.slice(0, file.indexOf('/'))
    const prefix = `tailrace_${folder}_`
    const declared = [...sourcesIn(folder).matchAll(new RegExp(`'${prefix}([a-z_]+)'`, 'g'))].map((match) => match[1])
    const rows = sectionOf(read(file), 'Metrics').matchAll(/^\| (?<names>`[^|]+`) \|/gm)
    const told = [...rows].flatMap(({ groups }) => [...(groups?.['names'] ?? '').matchAll(/`([a-z_]+)`/g)].map((match) => match[1]))
    expect(new Set(told)).toEqual(new Set(declared))
  })
})

describe('collector/README.md', () => {
  const text = read('collector/README.md')

  test('tells each path of the API', () => {
    const section = sectionOf(text, 'HTTP')
    expect(Object.values(paths).filter((path) => !section.includes(`${path}\``))).toEqual([])
  })

  test('tells what to do about each alarm', () => {
    const source = sourcesIn('collector')
    const raised = [/\braise\('([A-Z_]+)'/g, /\braise\([^\n]*code: '([A-Z_]+)'/g, /code: '([A-Z]+_[A-Z_]+)', message[^\n]*sinceMs/g].flatMap((pattern) => [...source.matchAll(pattern)].map((match) => match[1]))
    const told = [...sectionOf(text, 'Alarms').matchAll(/^\| `([A-Z_]+)` \|/gm)].map((match) => match[1])
    expect(raised.length).toBeGreaterThan(8)
    // The refusal of a store passes its error's own code on.
    expect(new Set(told)).toEqual(new Set([...raised, 'RESTORE_REQUIRED']))
  })
})
