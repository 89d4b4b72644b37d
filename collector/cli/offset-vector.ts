/** Next offsets by partition: the only cursor there is. As text: `app:0@918273,app:1@7`, in order. */
import { AppError } from '../../shared/errors.ts'

/** Keys are `topic:partition`. */
export type OffsetVector = ReadonlyMap<string, number>

export function partitionKey(topic: string, partition: number): string {
  return `${topic}:${partition}`
}

export function formatCursor(vector: OffsetVector): string {
  return [...vector].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, offset]) => `${key}@${offset}`).join(',')
}

export function toObject(vector: OffsetVector): Record<string, number> {
  return Object.fromEntries([...vector].sort(([a], [b]) => (a < b ? -1 : 1)))
}

export function toVector(object: Readonly<Record<string, number>>): Map<string, number> {
  return new Map(Object.entries(object))
}

export function splitPartitionKey(key: string): { topic: string; partition: number } {
  const colon = key.lastIndexOf(':')
  const partition = Number(key.slice(colon + 1))
  if (colon < 1 || !Number.isSafeInteger(partition) || partition < 0) throw new AppError('BAD_REQUEST', `${key} is not topic:partition`)
  return { topic: key.slice(0, colon), partition }
}
