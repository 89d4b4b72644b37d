/** Matches by time: what `GET /v1/query?countBy=` answers, a line for each stretch of time that has matches. */
import * as v from 'valibot'

/** Widths in milliseconds. Stretches begin at whole multiples since 1970, so hours and days are those of UTC. */
export const timeUnits = { second: 1000, minute: 60_000, hour: 3_600_000, day: 86_400_000 } as const

export type TimeUnit = keyof typeof timeUnits

export const timeUnitNames = ['second', 'minute', 'hour', 'day'] as const satisfies readonly TimeUnit[]

/** `ts`: where the stretch begins, ms since 1970. By arrival time, as `since` and `until` are. */
export const timeCountSchema = v.object({ ts: v.pipe(v.number(), v.safeInteger()), count: v.pipe(v.number(), v.safeInteger(), v.minValue(1)) })

export type TimeCount = v.InferOutput<typeof timeCountSchema>
