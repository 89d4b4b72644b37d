import { expect, test } from 'vitest'
import { ByteBudget } from '../../agent/byte-budget.ts'

const never = new AbortController().signal

test('bytes beyond the limit wait until some are released', async () => {
  const budget = new ByteBudget(100)
  await budget.acquire(80, never)
  let isAdmitted = false
  const waiting = budget.acquire(30, never).then(() => (isAdmitted = true))
  await Promise.resolve()
  expect(isAdmitted).toBe(false)
  budget.release(20)
  await waiting
  expect(budget.usedBytes).toBe(90)
})

test('a large request is not starved by small ones behind it', async () => {
  const budget = new ByteBudget(100)
  await budget.acquire(60, never)
  const order: string[] = []
  const large = budget.acquire(90, never).then(() => order.push('large'))
  const small = budget.acquire(10, never).then(() => order.push('small'))
  budget.release(60)
  await Promise.all([large, small])
  expect(order).toEqual(['large', 'small'])
})

test('a waiter that gives up leaves nothing taken', async () => {
  const budget = new ByteBudget(10)
  await budget.acquire(10, never)
  const abort = new AbortController()
  const waiting = budget.acquire(5, abort.signal)
  abort.abort()
  await expect(waiting).rejects.toMatchObject({ code: 'ABORTED' })
  budget.release(10)
  expect(budget.usedBytes).toBe(0)
})

test('releasing more than was taken is a bug', () => {
  expect(() => new ByteBudget(10).release(1)).toThrow('BUG')
})
