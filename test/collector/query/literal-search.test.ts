import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LiteralSearch, NOWHERE } from '../../../collector/query/literal-search.ts'

/** Few letters, so that needles are found and nearly found all the time. */
const text = (maxLength: number): fc.Arbitrary<Buffer> => fc.array(fc.constantFrom('a', 'a', 'b', 'c'), { minLength: 1, maxLength }).map((letters) => Buffer.from(letters.join('')))

describe('a search for several needles', () => {
  test('finds what indexOf finds, content after content, from rising positions', () => {
    fc.assert(
      fc.property(fc.array(text(6), { minLength: 1, maxLength: 3 }), fc.array(text(3000), { minLength: 1, maxLength: 4 }), fc.array(fc.nat(40), { maxLength: 60 }), (needles, contents, steps) => {
        const search = new LiteralSearch(needles.map((needle) => [needle]), { ignoreCase: false })
        for (const content of contents) {
          search.begin(content)
          let from = 0
          for (const step of steps) {
            from += step
            const nearest = Math.min(...needles.map((needle) => content.indexOf(needle, from)).map((at) => (at < 0 ? NOWHERE : at)))
            expect(search.nextFrom(from)).toBe(from > content.length ? NOWHERE : nearest)
          }
        }
      }),
    )
  })

  test('a byte that is rare in the first content and common in the next is no matter', () => {
    const search = new LiteralSearch([[Buffer.from('xq')]], { ignoreCase: false })
    const rare = Buffer.alloc(100_000, 'xa')
    const common = Buffer.alloc(100_000, 'aq')
    for (const content of [rare, common, rare]) {
      search.begin(content)
      expect(search.nextFrom(0)).toBe(NOWHERE)
      const hit = Buffer.from(content)
      hit.write('xq', 77_000)
      search.begin(hit)
      expect(search.nextFrom(0)).toBe(77_000)
      expect(search.nextFrom(77_001)).toBe(NOWHERE)
    }
  })

  test('of texts that occur together the one that is rare in the first content is searched for', () => {
    const search = new LiteralSearch([[Buffer.from('common'), Buffer.from('rare')]], { ignoreCase: false })
    const content = Buffer.from(`${'a common line\n'.repeat(10)}a common and rare line\n`)
    search.begin(content)
    expect(search.nextFrom(0)).toBe(content.indexOf('rare'))
    search.begin(Buffer.from('a rare line'))
    expect(search.nextFrom(0)).toBe(2)
  })

  test('where no text is rarer the longer one is searched for', () => {
    const search = new LiteralSearch([[Buffer.from('ab'), Buffer.from('bcd')]], { ignoreCase: false })
    search.begin(Buffer.from('abcd'))
    expect(search.nextFrom(0)).toBe(1)
  })
})
