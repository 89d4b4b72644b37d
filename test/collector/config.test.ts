import { expect, test } from 'vitest'
import { collectorSettings, isLoopback, parseListen, toCollectorConfig, type CollectorConfig } from '../../collector/config.ts'
import { formatProblems, parseSettings } from '../../shared/settings.ts'

function configOf(fileText: string, flags: Readonly<Record<string, unknown>> = {}): CollectorConfig | string {
  const result = toCollectorConfig(parseSettings(collectorSettings, { fileText, flags }))
  return 'config' in result ? result.config : formatProblems(result.problems, 'c.yaml')
}

test('a data folder is all that a collector needs', () => {
  expect(configOf('', { data: './data' })).toMatchObject({
    dataDirectory: './data',
    listen: { host: '127.0.0.1', port: 4280 },
    topicDefaults: { partitions: 4, segmentBytes: 256 * 1024 * 1024, segmentAgeMs: 3_600_000, retentionBytes: undefined, retentionAgeMs: undefined },
    export: undefined,
    hasTokens: false,
    tls: undefined,
    autoCreateTopics: true,
  })
})

test('five mistakes are five problems, whether of one value or between two, each with line and key', () => {
  const text = configOf(['data: d', 'listen: 0.0.0.0:4280', 'segmentBytes: 5', 'retentionAge: soon', 'tlsClientCa: ca.pem', 'hdsf: http://nn:9870/x'].join('\n'))
  expect(String(text).split('\n').map((line) => line.split(': ').slice(0, 2).join(': '))).toEqual([
    'c.yaml:2: listen', 'c.yaml:3: segmentBytes', 'c.yaml:4: retentionAge', 'c.yaml:5: tlsClientCa', 'c.yaml:6: hdsf', '',
  ])
})

test('mistakes of form do not hide mistakes of meaning, and no value is blamed twice', () => {
  const text = String(configOf(['dta: d', 'listen: 127.0.0.1', 'segmentBytes: 20 parsecs', 'exportTo: /x', 'readNames: [a]', 'retentionBytes: 1KiB', 'auth: turbo'].join('\n')))
  expect(text.split('\n').map((line) => line.split(': ').slice(0, 2).join(': '))).toEqual([
    'c.yaml:1: dta', 'c.yaml:2: listen', 'c.yaml:3: segmentBytes', 'c.yaml:4: exportTo', 'c.yaml:5: readNames', 'c.yaml:6: retentionBytes', 'c.yaml:7: auth', '',
  ])
})

test('beyond loopback it takes both TLS and authentication, or the word insecure', () => {
  const tls = 'tlsCert: c\ntlsKey: k\n'
  const starts = (more: string, listen = '0.0.0.0:4280'): boolean => typeof configOf(`data: d\nlisten: "${listen}"\n${more}`) !== 'string'
  expect([starts(''), starts(tls), starts('auth: tokens'), starts(`${tls}auth: tokens`), starts(`${tls}tlsClientCa: a`), starts('insecure: true')]).toEqual([
    false, false, false, true, true, true,
  ])
  expect(['127.0.0.1:1', 'localhost:1', '[::1]:1', '127.8.9.1:1', ':1', '[::]:1', '10.0.0.1:1', 'host.example:1'].map((listen) => starts('', listen))).toEqual([
    true, true, true, true, false, false, false, false,
  ])
})

test('addresses to listen on are parsed, and nonsense is not', () => {
  expect(parseListen('[::1]:80')).toEqual({ host: '::1', port: 80 })
  expect(parseListen(':80')).toEqual({ host: '::', port: 80 })
  expect(['80', '::1:80', '[1.2.3.4]:80', 'a:99999', 'a b:1', 'http://a:1'].map(parseListen)).toEqual(Array(6).fill(undefined))
  expect(isLoopback('127.example.org')).toBe(false)
})

test('there is one export, with a folder, and retention keeps at least a segment', () => {
  expect(configOf('data: d\nexportTo: file:///x\nhdfs: http://nn:9870/y')).toContain('exportTo: there is one export')
  expect(configOf('data: d\nhdfs: http://nn:9870')).toContain('c.yaml:2: hdfs: ')
  expect(configOf('data: d\nexportTo: /x')).toContain('is not a URL')
  expect(configOf('data: d\nhdfs: http://nn:9870/y\nhdfsAuth: kerberos\nhdfsTokenFile: /t')).toContain('hdfsTokenFile: is another way to authenticate')
  expect(configOf('data: d\nhdfs: http://nn:9870/y\nhdfsAuth: kerberos')).toMatchObject({ export: { store: { auth: 'kerberos' } } })
  expect(configOf('data: d\nretentionBytes: 10MiB')).toContain('less than one segment')
  expect(configOf('data: d\nhdfs: http://nn:9870/x\nhdfsUser: tail\nhdfsDataNodes: {dn1: 10.0.0.1}')).toMatchObject({
    export: { url: 'http://nn:9870/x', parallel: 4, store: { mode: 'webhdfs', userName: 'tail', dataNodeHosts: { dn1: '10.0.0.1' } } },
  })
})

test('tables come with an export, or are a mistake', () => {
  expect(configOf('data: d\ntables: parquet')).toContain('tables: needs an export')
  expect(configOf('data: d\nexportTo: file:///x')).not.toHaveProperty('export.tables')
  expect(configOf('data: d\nexportTo: file:///x\ntables: jsonl\ntableLateness: 1h')).toMatchObject({ export: { tables: { format: 'jsonl', latenessMs: 3_600_000 } } })
})
