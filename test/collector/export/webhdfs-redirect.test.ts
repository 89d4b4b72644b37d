import { describe, expect, test } from 'vitest'
import { checkRedirect } from '../../../collector/export/webhdfs-redirect.ts'
import { toAppError } from '../../../shared/errors.ts'

const query = '/webhdfs/v1/t/a?op=CREATE&delegation=AbC%2Bd%3d&x=a b'

function decide(nameNode: string, host: string, options: { allowedHosts?: string[]; dataNodeHosts?: Record<string, string> } = {}): string {
  try {
    return checkRedirect(`http://${host}${query}`, `http://${nameNode}:9870`, { allowedHosts: options.allowedHosts ?? [], dataNodeHosts: options.dataNodeHosts ?? {} })
  } catch (error) {
    return toAppError(error).code
  }
}

describe('a redirect', () => {
  test.each([
    ['127.0.0.1', '127.0.0.12:9864', true],
    ['localhost', '127.0.0.12:9864', true],
    ['127.0.0.1', '10.0.0.1:9864', false],
    ['10.1.2.3', '10.1.200.7:9864', true],
    ['10.1.2.3', '10.2.0.1:9864', false],
    ['10.1.2.3', '127.0.0.1:9864', false],
    ['10.1.2.3', '169.254.169.254:80', false],
    ['nn1.hdp.example.com', 'dn7.hdp.example.com:9864', true],
    ['nn1.hdp.example.com', 'dn7.hdp.example.com.evil.test:9864', false],
    ['nn1.hdp.example.com', 'evilhdp.example.com:9864', false],
    ['nn1.hdp.example.com', '10.0.0.1:9864', false],
    ['namenode', 'datanode:9864', true],
    ['namenode', 'dn.example.com:9864', false],
    ['nn1.hdp.example.com', 'localhost:9864', false],
  ])('of NameNode %s to %s without a list is taken: %s', (nameNode, host, isTaken) => {
    expect(decide(nameNode, host)).toBe(isTaken ? `http://${host}${query}` : 'REMOTE_REFUSED')
  })

  test.each([
    ['dn1.other.net', ['.other.net'], true],
    ['dn1.other.net', ['dn1.other.net'], true],
    ['dn2.other.net', ['dn1.other.net'], false],
    ['192.168.7.9', ['192.168.0.0/16'], true],
    ['192.169.7.9', ['192.168.0.0/16'], false],
    ['192.169.7.9', ['192.168.0.0/99'], false],
    ['[fd00::7]', ['fd00::/8'], true],
  ])('to %s with the list %s is taken: %s', (host, allowedHosts, isTaken) => {
    expect(decide('nn', `${host}:9864`, { allowedHosts }) !== 'REMOTE_REFUSED').toBe(isTaken)
  })

  test('a list replaces the neighbours, but the NameNode itself stays allowed', () => {
    expect(decide('127.0.0.1', '127.0.0.2:9864', { allowedHosts: ['dn'] })).toBe('REMOTE_REFUSED')
    expect(decide('127.0.0.1', '127.0.0.1:9864', { allowedHosts: ['dn'] })).not.toBe('REMOTE_REFUSED')
  })

  test('a mapped host is replaced and nothing else: the token keeps its encoding', () => {
    expect(decide('nn', 'dn1.inside:9864', { dataNodeHosts: { 'dn1.inside': '192.0.2.7' } })).toBe(`http://192.0.2.7:9864${query}`)
    expect(decide('nn', 'dn1.inside:9864', { dataNodeHosts: { 'dn1.inside:9864': '192.0.2.7:19864' } })).toBe(`http://192.0.2.7:19864${query}`)
  })

  test.each(['https://127.0.0.1:9865/x', 'file:///etc/passwd', 'http://user:secret@127.0.0.1/x', 'nonsense'])('%s is refused', (location) => {
    expect(() => checkRedirect(location, 'http://127.0.0.1:9870', { allowedHosts: [], dataNodeHosts: {} })).toThrow('the NameNode sent')
  })
})
