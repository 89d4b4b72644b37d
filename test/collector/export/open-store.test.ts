import { describe, expect, test } from 'vitest'
import { openRemoteStore, parseHdfsUrl } from '../../../collector/export/open-store.ts'
import { toAppError } from '../../../shared/errors.ts'
import { simulate } from '../../sim-system.ts'

describe('the address of a store', () => {
  test.each([
    ['http://nn:9870/tailrace', ['http://nn:9870'], '/tailrace'],
    ['http://nn1:9870,nn2:9870/data/logs/', ['http://nn1:9870', 'http://nn2:9870'], '/data/logs'],
    ['https://nn1:9871/t,https://nn2:9871/t', ['https://nn1:9871', 'https://nn2:9871'], '/t'],
  ])('%s names its servers and its folder', (url, nameNodes, root) => {
    expect(parseHdfsUrl(url)).toEqual({ nameNodes, root })
  })

  test.each(['http://nn:9870', 'http://nn:9870/', 'ftp://nn/x', 'http://user:pw@nn/x', 'http://nn1/a,http://nn2/b', 'http://nn1/a,https://nn2/a', 'http://nn/a?op=x', 'http://nn/a//b', 'http://nn/a:b', 'file:///', 'file://host/x'])(
    '%s is INVALID_CONFIG with a hint',
    (url) => {
      const { system } = simulate()
      let failure: unknown
      try {
        openRemoteStore(url, {}, { system, http: system.http, streamingHttp: system.http })
      } catch (error) {
        failure = error
      }
      expect(toAppError(failure)).toMatchObject({ code: 'INVALID_CONFIG' })
      expect(toAppError(failure).hint).toContain('file:///folder')
    },
  )

  test('a folder is taken as it is', () => {
    const { system } = simulate()
    expect(openRemoteStore('file:///srv/my%20logs/', {}, { system, http: system.http, streamingHttp: system.http }).description).toBe('file:///srv/my logs')
  })
})
