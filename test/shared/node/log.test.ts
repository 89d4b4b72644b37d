import { expect, test } from 'vitest'
import { AppError } from '../../../shared/errors.ts'
import { createLog } from '../../../shared/node/log.ts'

function capture(isTerminal: boolean): { lines: string[]; log: ReturnType<typeof createLog> } {
  const lines: string[] = []
  return { lines, log: createLog({ level: 'info', isTerminal, write: (line) => lines.push(line), nowMs: () => 0, fields: { component: 'agent' } }) }
}

test('a line is one JSON object with its fields, errors by code and hint', () => {
  const { lines, log } = capture(false)
  log.warn('cannot ship', { path: 'a\nb', size: 5n, error: new AppError('DISK_FULL', 'no space', { hint: 'free some' }) })
  expect(JSON.parse(lines.join(''))).toEqual({
    time: '1970-01-01T00:00:00.000Z', level: 'warn', event: 'cannot ship', component: 'agent', path: 'a\nb', size: '5',
    error: { code: 'DISK_FULL', message: 'no space', hint: 'free some' },
  })
  expect(lines.join('').trimEnd()).not.toContain('\n')
})

test('levels below the least are not printed, and nothing named like a secret ever is', () => {
  const { lines, log } = capture(true)
  log.debug('quiet')
  log.info('hello', { authToken: 'hunter2', password: 'hunter2' })
  expect(lines).toHaveLength(1)
  expect(lines[0]).not.toContain('hunter2')
})
