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

describe('inputs', () => {
  const two = [
    'collector: http://127.0.0.1:4280', 'exclude: [a]', 'ignoreOlder: 1d', 'labels: {env: prod, rack: r7}', 'inputs:',
    '  - {topic: web, files: [/log/web/*.log]}', '  - topic: db', '    files: [/log/db/*.log]', '    exclude: []', '    startAt: end', '    labels: {rack: r8}',
  ].join('\n')

  test('each has its topic and files, and the rest as it is at the top unless it says otherwise', () => {
    expect(problemsOf(two)).toBe('')
    const { inputs } = agentConfig(parseSettings(agentSettings, { fileText: two }).values, 'h')
    expect(inputs.map(({ labels, ...input }) => ({ ...input, labels: labels?.toString() }))).toEqual([
      { topic: 'web', files: ['/log/web/*.log'], exclude: ['a'], startAt: 'beginning', ignoreOlderMs: 86_400_000, followSymlinks: false, labels: '{"env":"prod","rack":"r7"}' },
      { topic: 'db', files: ['/log/db/*.log'], exclude: [], startAt: 'end', ignoreOlderMs: 86_400_000, followSymlinks: false, labels: '{"env":"prod","rack":"r8"}' },
    ])
  })

  test('their mistakes are told with line and place, together with all others', () => {
    const told = problemsOf(
      ['collector: x', 'inputs:', '  - {topic: .bad, files: [/log/*]}', '  - topic: db', '    file: [/log/*]', '    startAt: middle', '  - files: [log/*]', '  - just text', 'memory: 3KiB'].join('\n'),
    )
    expect(told.split('\n').map((line) => line.split(': ').slice(0, 2).join(': '))).toEqual([
      'agent.yaml:1: collector', 'agent.yaml:3: inputs[0].topic', 'agent.yaml:5: inputs[1].file', 'agent.yaml:6: inputs[1].startAt',
      'agent.yaml:7: inputs[2].topic', 'agent.yaml:7: inputs[2].files', 'agent.yaml:8: inputs[3]',
      'agent.yaml:9: memory', '',
    ])
  })

  test('they stand in the place of topic and files, not beside them', () => {
    expect(problemsOf(`${two}\ntopic: app\nfiles: [/log/*.log]\n`)).toMatch(/^agent\.yaml:12: topic: .*inputs.*\nagent\.yaml:13: files: .*inputs.*\n$/)
    expect(problemsOf('collector: http://h:1\ninputs: []\n')).toContain('agent.yaml:2: inputs: must be a list of sections')
  })

  test('labels of the top and of an input count together', () => {
    const many = Array.from({ length: 10 }, (_, index) => `l${index}: x`).join(', ')
    const more = Array.from({ length: 10 }, (_, index) => `m${index}: x`).join(', ')
    expect(problemsOf(`collector: http://h:1\nlabels: {${many}}\ninputs:\n  - {topic: a, files: [/l/*], labels: {${more}}}\n`)).toContain('agent.yaml:4: inputs[0].labels: 20 labels are over 16')
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
