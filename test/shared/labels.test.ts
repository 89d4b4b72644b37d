import { describe, expect, test } from 'vitest'
import { decodeLabels, encodeLabels, labelLimits, labelProblems } from '../../shared/labels.ts'

test('labels come back as they were, in order of name, and none give no header', () => {
  const header = encodeLabels({ rack: 'r7', env: 'prod "x" ü' })
  expect(header?.toString()).toBe('{"env":"prod \\"x\\" ü","rack":"r7"}')
  expect(decodeLabels(header ?? Buffer.alloc(0))).toEqual({ env: 'prod "x" ü', rack: 'r7' })
  expect(encodeLabels({})).toBeUndefined()
})

test('the largest labels that are allowed fit the cap', () => {
  const name = (index: number): string => `${index}`.padStart(labelLimits.nameCharacters, 'n')
  const largest = Object.fromEntries(Array.from({ length: labelLimits.count }, (_, index) => [name(index), '"'.repeat(labelLimits.valueBytes)]))
  expect(labelProblems(largest)).toEqual([])
  expect(decodeLabels(encodeLabels(largest) ?? Buffer.alloc(0))).toEqual(largest)
})

test('every mistake is told', () => {
  const many = Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`l${index}`, '']))
  expect(labelProblems(many)).toHaveLength(1)
  expect(labelProblems({ Env: 'x', b: 'ü'.repeat(129), c: 'a\nb', '': 'x' })).toHaveLength(4)
})

describe('from outside', () => {
  test.each([['not JSON', '{'], ['a list', '["a"]'], ['null', 'null'], ['a number in it', '{"a":1}'], ['a bad name', '{"A":"x"}'], ['too many bytes', `{"a":"${'x'.repeat(11_000)}"}`]])('%s is refused', (_, text) => {
    expect(() => decodeLabels(Buffer.from(text))).toThrow(expect.objectContaining({ code: 'INVALID_RECORD' }) as Error)
  })
})
