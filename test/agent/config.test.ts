import { describe, expect, test } from 'vitest'
import { agentConfig, agentProblems, agentSettings, parseAddress } from '../../agent/config.ts'
import { formatProblems, parseSettings } from '../../shared/settings.ts'

function problemsOf(fileText: string): string {
  return formatProblems(agentProblems(parseSettings(agentSettings, { fileText })), 'agent.yaml')
}

const minimal = 'collector: http://127.0.0.1:4280\ntopic: app\nfiles: [/var/log/app/*.log]\n'

test('three lines are enough, and the defaults are the documented ones', () => {
  expect(problemsOf(minimal)).toBe('')
  const config = agentConfig(parseSettings(agentSettings, { fileText: minimal }).values, 'web-1')
  expect(config).toMatchObject({
    agentId: 'web-1', host: 'web-1', lineBytesMax: 512 * 1024, batchBytesMax: 1024 * 1024, lingerMs: 20, lingerMsMax: 250,
    memoryBytes: 16 * 1024 * 1024, unterminatedAfterMs: 30_000, isOnce: false, isReship: false,
  })
  expect(config.inputs[0]?.exclude).toEqual(['*.gz', '*.zst', '*.xz', '*.bz2', '*.journal', '*.journal~', 'wtmp', 'btmp', 'lastlog'])
})

test('all mistakes are told at once, each with its line', () => {
  const told = problemsOf('collector: ftp://x\ntopic: .hidden\nfiles: [relative/*.log]\nlineBytesMax: 700KiB\nbatchBytesMax: 512KiB\nlingerMs: 2s\n')
  expect(told.split('\n').filter((line) => line !== '')).toEqual([
    expect.stringMatching(/^agent\.yaml:1: collector: /),
    expect.stringMatching(/^agent\.yaml:2: topic: /),
    expect.stringMatching(/^agent\.yaml:3: files: /),
    expect.stringMatching(/^agent\.yaml:4: lineBytesMax: /),
    expect.stringMatching(/^agent\.yaml:6: lingerMs: /),
  ])
})

test('mistakes of form do not hide mistakes of meaning, and each is told once', () => {
  const told = problemsOf('colector: x\ntopic: .bad\nfiles: []\nlingerMs: 20 parsecs\nmemory: 3KiB\ncompress: turbo\n')
  expect(told.split('\n').map((line) => line.split(': ').slice(0, 2).join(': '))).toEqual([
    'agent.yaml:1: colector', 'agent.yaml:2: topic', 'agent.yaml:3: files', 'agent.yaml:4: lingerMs', 'agent.yaml:5: memory', 'agent.yaml:6: compress', '',
  ])
  expect(told).toContain('did you mean collector?')
})

describe('rules between keys', () => {
  test.each([
    ['memory: 4MiB\nbatchBytesMax: 2MiB', 'memory'],
    ['token: a\ntokenFile: /b', 'token'],
    ['tlsCertFile: /a', 'tlsCertFile'],
    ['host: a:b', 'host'],
    ['labels: {Env: prod}', 'labels'],
    ['labels: {env: "a\\tb"}', 'labels'],
    ['admin: nonsense', 'admin'],
  ])('%j is refused for %s', (text, key) => {
    expect(problemsOf(minimal + text)).toContain(` ${key}: `)
  })
})

test('labels are sealed in order of name, and none are none', () => {
  const labelsOf = (text: string): string | undefined => agentConfig(parseSettings(agentSettings, { fileText: minimal + text }).values, 'h').inputs[0]?.labels?.toString()
  expect(labelsOf('labels: {rack: 07, env: prod}')).toBe('{"env":"prod","rack":"07"}')
  expect(labelsOf('')).toBeUndefined()
})

test.each([
  ['127.0.0.1:4281', { host: '127.0.0.1', port: 4281 }],
  ['[::1]:0', { host: '::1', port: 0 }],
  ['localhost:1', { host: 'localhost', port: 1 }],
  ['127.0.0.1', undefined],
  ['a:70000', undefined],
])('address %s', (text, expected) => {
  expect(parseAddress(text)).toEqual(expected)
})
