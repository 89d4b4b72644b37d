import { Command } from 'commander'
import { expect, test } from 'vitest'
import { addSettingFlags, formatProblems, parseSettings, type SettingTable } from '../../shared/settings.ts'

const table = {
  data: { kind: 'string', help: 'folder', required: true },
  listen: { kind: 'string', help: 'address', default: '127.0.0.1:4280' },
  partitions: { kind: 'integer', help: 'count', default: 4, min: 1, max: 1024 },
  segmentBytes: { kind: 'bytes', help: 'size', default: '256MiB', min: 1024 },
  retentionAge: { kind: 'duration', help: 'age' },
  insecure: { kind: 'boolean', help: 'dangerous' },
  topics: { kind: 'boolean', help: 'make topics', default: true },
  paths: { kind: 'list', help: 'globs' },
  auth: { kind: 'choice', help: 'who may', choices: ['none', 'tokens'], default: 'none' },
  labels: { kind: 'map', help: 'labels' },
} as const satisfies SettingTable

test('defaults, file and flags: the later wins, and values have the type of their kind', () => {
  const fileText = 'data: /var/lib/x\nsegmentBytes: 64MiB\nretentionAge: 7d\npaths: [a, "b"]\nlabels: {dc: a1, rack: 7}\n'
  const { values, problems } = parseSettings(table, { fileText, flags: { segmentBytes: '1GiB', insecure: true } })
  expect(problems).toEqual([])
  expect(values).toEqual({
    data: '/var/lib/x',
    listen: '127.0.0.1:4280',
    partitions: 4,
    segmentBytes: 1024 ** 3,
    retentionAge: 7 * 86_400_000,
    insecure: true,
    topics: true,
    paths: ['a', 'b'],
    auth: 'none',
    labels: { dc: 'a1', rack: '7' },
  })
  const typed: number | undefined = values.retentionAge
  const choice: 'none' | 'tokens' = values.auth
  expect([typed, choice]).toEqual([604_800_000, 'none'])
})

test('a file with five mistakes gives five problems, each with its line and key', () => {
  const fileText = [
    'data: ./data', // 1
    'segmentByte: 64MiB', // 2 unknown
    'partitions: 0', // 3 below the least
    'retentionAge: 7', // 4 no unit
    'auth: token', // 5 no such choice
    'listen: [a, {b: c}]', // 6 nested
  ].join('\n')
  const { problems } = parseSettings(table, { fileText })
  expect(problems.map(({ line, key }) => [line, key])).toEqual([
    [2, 'segmentByte'],
    [3, 'partitions'],
    [4, 'retentionAge'],
    [5, 'auth'],
    [6, 'listen'],
  ])
  const text = formatProblems(problems, 'collector.yaml')
  expect(text).toContain('collector.yaml:2: segmentByte: unknown key; did you mean segmentBytes?\n')
  expect(text).toContain('collector.yaml:4: retentionAge: "7" is not a duration such as 250ms')
  expect(text).toContain('collector.yaml:5: auth: "token" is not one of none, tokens')
})

test('a kebab-case key in the file is refused with the right spelling', () => {
  const { problems } = parseSettings(table, { fileText: 'data: x\nsegment-bytes: 1MiB' })
  expect(problems).toEqual([{ line: 2, key: 'segment-bytes', message: 'unknown key; did you mean segmentBytes?', meant: 'segmentBytes' }])
})

test('a key that resembles nothing gets no suggestion', () => {
  const { problems } = parseSettings(table, { fileText: 'data: x\nwibblewobble: 1' })
  expect(problems.map(({ message }) => message)).toEqual(['unknown key'])
})

test('a missing required key and a bad flag are problems without a line', () => {
  const { problems } = parseSettings(table, { flags: { partitions: 'many' } })
  expect(formatProblems(problems)).toBe(
    'data: is required: set it in the file or by --data\n--partitions: "many" is not a whole number\n',
  )
})

test('a mistake in the file does not count where a flag overrides it', () => {
  expect(parseSettings(table, { fileText: 'data: x\npartitions: 0', flags: { partitions: '2' } }).problems).toEqual([])
})

test('broken YAML is one problem with its line, and a doubled key another kind', () => {
  expect(parseSettings(table, { fileText: 'data: x\nlisten: [a\n' }).problems[0]?.line).toBeGreaterThanOrEqual(2)
  const doubled = parseSettings(table, { fileText: 'data: x\nlisten: a\nlisten: b\n' }).problems
  expect(doubled.map(({ line }) => line)).toEqual([3])
})

test('a file that is not a map is refused, an empty one is not', () => {
  expect(parseSettings(table, { fileText: '- a\n- b', flags: { data: 'x' } }).problems).toHaveLength(1)
  expect(parseSettings(table, { fileText: '# nothing\n', flags: { data: 'x' } }).problems).toEqual([])
})

test('a key without a value is a problem, and so is the name of an object property', () => {
  const { problems } = parseSettings(table, { fileText: 'data:\n__proto__: 1\nconstructor: 2' })
  expect(problems.map(({ key }) => key)).toEqual(['data', '__proto__', 'constructor'])
})

test('a label named __proto__ stays a label', () => {
  const { values } = parseSettings(table, { fileText: 'data: x\nlabels: {__proto__: a}' })
  expect(Object.entries(values.labels)).toEqual([['__proto__', 'a']])
})

test('each key has a flag in kebab case that reaches the values', () => {
  const command = addSettingFlags(new Command(), table).exitOverride()
  command.parse(['--data', 'd', '--segment-bytes', '2KiB', '--paths', 'a', '--paths', 'b', '--labels', 'k=v=w', '--no-topics'], { from: 'user' })
  const { values, problems } = parseSettings(table, { flags: command.opts() })
  expect(problems).toEqual([])
  expect(values).toMatchObject({ data: 'd', segmentBytes: 2048, paths: ['a', 'b'], labels: { k: 'v=w' }, topics: false, insecure: false })
  expect(command.helpInformation()).toContain('(default 256MiB)')
})
