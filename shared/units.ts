/**
 * Sizes and durations as people write them in configs and flags: `64MiB`, `250ms`, `7d`. Parsing answers undefined for
 * what is not one, so that each caller words its own complaint. Nothing here knows about settings.
 */

const byteUnits = [
  { name: 'GiB', bytes: 1024 ** 3 },
  { name: 'MiB', bytes: 1024 ** 2 },
  { name: 'KiB', bytes: 1024 },
  { name: 'B', bytes: 1 },
] as const

const durationUnits = [
  { name: 'd', ms: 86_400_000 },
  { name: 'h', ms: 3_600_000 },
  { name: 'm', ms: 60_000 },
  { name: 's', ms: 1000 },
  { name: 'ms', ms: 1 },
] as const

const quantity = /^([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)$/

/** `64MiB`, `1.5 GiB`, or plain bytes. Whole bytes only. */
export function parseBytes(text: string): number | undefined {
  const match = quantity.exec(text.trim())
  if (match === null) return undefined
  const unit = match[2] === '' ? 1 : byteUnits.find(({ name }) => name === match[2])?.bytes
  return unit === undefined ? undefined : wholeNumber(Number(match[1]) * unit)
}

/** `250ms`, `1.5h`, `7d`; a number without a unit is refused, but for 0, since nobody can tell seconds from ms. */
export function parseDuration(text: string): number | undefined {
  const match = quantity.exec(text.trim())
  if (match === null) return undefined
  if (match[2] === '') return Number(match[1]) === 0 ? 0 : undefined
  const unit = durationUnits.find(({ name }) => name === match[2])?.ms
  return unit === undefined ? undefined : wholeNumber(Number(match[1]) * unit)
}

function wholeNumber(value: number): number | undefined {
  return Number.isSafeInteger(value) ? value : undefined
}

/** In the largest unit that gives a whole number, so that it can be parsed back. */
export function formatBytes(bytes: number): string {
  const unit = byteUnits.find((candidate) => bytes !== 0 && bytes % candidate.bytes === 0)
  return unit === undefined ? `${bytes}B` : `${bytes / unit.bytes}${unit.name}`
}

/** In the largest unit that gives a whole number, so that it can be parsed back. */
export function formatDuration(ms: number): string {
  const unit = durationUnits.find((candidate) => ms !== 0 && ms % candidate.ms === 0)
  return unit === undefined ? `${ms}ms` : `${ms / unit.ms}${unit.name}`
}
