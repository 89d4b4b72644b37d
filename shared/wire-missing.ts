/**
 * `/v1/streams/missing`: what a log that was set back to an older copy has lost, as far as anybody knows. An agent posts
 * the positions that were acknowledged to its process; people and `tailrace verify` read which of them the log does not
 * reach any more.
 */
import * as v from 'valibot'

export const MISSING_PATH = '/v1/streams/missing'
export const TOLD_PER_REQUEST = 1000

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const hex16 = v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/))
const name = v.pipe(v.string(), v.minLength(1), v.maxLength(4096))

/** A stream, and up to where its bytes were acknowledged. */
export const toldStreamSchema = v.object({ id: hex16, topic: name, path: name, position: count })
export type ToldStream = v.InferOutput<typeof toldStreamSchema>

export const toldRequestSchema = v.object({ agentId: name, host: name, streams: v.pipe(v.array(toldStreamSchema), v.maxLength(TOLD_PER_REQUEST)) })
export type ToldRequest = v.InferOutput<typeof toldRequestSchema>
/** How many of them the log does not reach. */
export const toldResponseSchema = v.object({ missing: count })

const missingStreamSchema = v.object({
  ...toldStreamSchema.entries,
  agentId: name,
  host: name,
  /** Where the log has it now; `position` is where it was. */
  stored: count,
})
export type MissingStream = v.InferOutput<typeof missingStreamSchema>

export const missingResponseSchema = v.object({
  /** When it was noticed that the log was set back; null = it was not, as far as anybody knows. */
  sinceMs: v.nullable(count),
  missing: v.array(missingStreamSchema),
  /** Streams that an agent has found to be as far as it knew. */
  confirmed: v.array(hex16),
})
export type MissingResponse = v.InferOutput<typeof missingResponseSchema>
