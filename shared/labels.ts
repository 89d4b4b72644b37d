/**
 * Static labels of an input (`env=prod`, `rack=r7`): sealed as the header `tr.labels` on the first record of each batch,
 * so that they live inside the data and hold for the whole batch. Compact JSON, an object of strings, names in order.
 * They say something about the source for people; no decision about streams or positions looks at them.
 */
import { AppError } from './errors.ts'

export const LABELS_HEADER_KEY = 'tr.labels'

export type Labels = Readonly<Record<string, string>>

export const labelLimits = {
  count: 16,
  nameCharacters: 64,
  valueBytes: 256,
  /** All names and values at their longest, with every character escaped once. */
  headerBytes: 10 * 1024,
} as const

const namePattern = /^[a-z0-9_.-]{1,64}$/

/** What is wrong with labels, a sentence each; nothing when they are fine. */
export function labelProblems(labels: Labels): string[] {
  const entries = Object.entries(labels)
  const problems: string[] = entries.length > labelLimits.count ? [`${entries.length} labels are over ${labelLimits.count}`] : []
  for (const [name, value] of entries) {
    const shown = JSON.stringify(name.slice(0, 100))
    if (!namePattern.test(name)) problems.push(`${shown} must have 1 to ${labelLimits.nameCharacters} of a-z 0-9 _ . -`)
    if (Buffer.byteLength(value) > labelLimits.valueBytes) problems.push(`the value of ${shown} is over ${labelLimits.valueBytes} bytes`)
    if (/\p{Cc}/u.test(value)) problems.push(`the value of ${shown} holds a control character`)
  }
  return problems
}

/** undefined when there are none: then no header is written. The same labels give the same bytes. */
export function encodeLabels(labels: Labels): Buffer | undefined {
  const entries = Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1))
  return entries.length === 0 ? undefined : Buffer.from(`{${entries.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`)
}

/** Of the header of a batch from outside. Throws INVALID_RECORD. */
export function decodeLabels(header: Buffer): Labels {
  if (header.length > labelLimits.headerBytes) throw invalid(`${header.length} bytes are over ${labelLimits.headerBytes}`)
  let value: unknown
  try {
    value = JSON.parse(header.toString('utf8'))
  } catch (error) {
    throw invalid('it is not JSON', error)
  }
  if (!isStringMap(value)) throw invalid('it is not an object of strings')
  const [problem] = labelProblems(value)
  if (problem !== undefined) throw invalid(problem)
  return value
}

function isStringMap(value: unknown): value is Labels {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && Object.values(value).every((each) => typeof each === 'string')
}

function invalid(what: string, cause?: unknown): AppError {
  return new AppError('INVALID_RECORD', `the header ${LABELS_HEADER_KEY}: ${what}`, cause === undefined ? {} : { cause })
}
