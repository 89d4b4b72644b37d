/** Numbers, sizes, durations and times as people read them. Not for files or the wire. */

export interface TimeZone {
  readonly utc: boolean
}

const binaryUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

export function humanCount(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ',')
}

/** Three significant digits: `9.13 MiB`. */
export function humanBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < binaryUnits.length - 1) {
    value /= 1024
    unit += 1
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2
  return `${value.toFixed(digits)} ${binaryUnits[unit] ?? 'B'}`
}

/** `420ms`, `5.3s`, `4m 20s`, `3h 2m`, `2d 4h`. */
export function humanDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)}ms`
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)}s`
  const seconds = Math.round(ms / 1000)
  const [minutes, hours, days] = [Math.floor(seconds / 60), Math.floor(seconds / 3600), Math.floor(seconds / 86_400)]
  if (days > 0) return `${days}d ${hours % 24}h`
  if (hours > 0) return `${hours}h ${minutes % 60}m`
  return `${minutes}m ${seconds % 60}s`
}

/** `2026-03-01T14:30:05.123+01:00`: it can be given back to `-S`. */
export function humanTime(ms: number, zone: TimeZone): string {
  if (!Number.isFinite(ms) || Math.abs(ms) > 8.64e15) return String(ms)
  if (zone.utc) return new Date(ms).toISOString()
  const offsetMinutes = -new Date(ms).getTimezoneOffset()
  const shifted = new Date(ms + offsetMinutes * 60_000)
  if (Number.isNaN(shifted.getTime())) return String(ms)
  const size = Math.abs(offsetMinutes)
  const hours = String(Math.floor(size / 60)).padStart(2, '0')
  const minutes = String(size % 60).padStart(2, '0')
  return `${shifted.toISOString().slice(0, -1)}${offsetMinutes < 0 ? '-' : '+'}${hours}:${minutes}`
}
