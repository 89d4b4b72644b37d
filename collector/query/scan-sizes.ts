/** How much a query reads and holds at a time. */
export interface ScanSizes {
  /** Stored bytes of one scan: small at first, so that a query for a few lines answers at once, larger while pages come whole. */
  readonly unitBytesFirst: number
  readonly unitBytesMin: number
  readonly unitBytesMax: number
  /** Pages of all partitions and their read-ahead together. */
  readonly memoryBytes: number
  readonly pageBytesMin: number
  readonly pageBytesMax: number
  /** Bounds pages without text, too. */
  readonly pageRowsMax: number
}

/** A page of 4 MiB holds what one or two batches of 1 MiB become as JSON. */
export const defaultScanSizes: ScanSizes = {
  unitBytesFirst: 128 * 1024,
  unitBytesMin: 64 * 1024,
  unitBytesMax: 1024 * 1024,
  memoryBytes: 64 * 1024 * 1024,
  pageBytesMin: 64 * 1024,
  pageBytesMax: 4 * 1024 * 1024,
  pageRowsMax: 65_536,
}

export function grownUnit(bytes: number, sizes: ScanSizes): number {
  return Math.min(bytes * 2, sizes.unitBytesMax)
}

export function shrunkUnit(bytes: number, sizes: ScanSizes): number {
  return Math.max(Math.floor(bytes / 2), sizes.unitBytesMin)
}
