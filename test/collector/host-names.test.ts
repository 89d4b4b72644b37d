import { expect, test } from 'vitest'
import { createHostCheck } from '../../collector/host-names.ts'

function known(host: string, allowedHosts: readonly string[], asked: readonly (string | undefined)[]): readonly boolean[] {
  return asked.map(createHostCheck({ listen: { host, port: 4280 }, allowedHosts }))
}

test('on loopback only loopback names and configured ones are ours', () => {
  expect(known('127.0.0.1', ['logs.local'], ['localhost:4280', '127.0.0.1', '[::1]:4280', 'LOGS.local', 'evil.example:4280', 'localhost.evil.example', '', undefined])).toEqual([
    true, true, true, true, false, false, false, false,
  ])
})

test('beyond loopback every name is taken until some are configured', () => {
  expect(known('0.0.0.0', [], ['anything', undefined])).toEqual([true, true])
  expect(known('10.0.0.5', ['logs.example'], ['10.0.0.5:4280', 'logs.example', 'evil.example'])).toEqual([true, true, false])
})
