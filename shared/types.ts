/** Branded numbers, so that an offset and a position can't be swapped. All are safe integers ≥ 0. */

declare const offsetBrand: unique symbol
declare const positionBrand: unique symbol

/** A record's number in its partition. */
export type Offset = number & { readonly [offsetBrand]: true }
/** A byte's place in a source file. */
export type FilePosition = number & { readonly [positionBrand]: true }

export function toOffset(value: number): Offset {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`not an offset: ${value}`)
  return value as Offset
}

export function toPosition(value: number): FilePosition {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`not a file position: ${value}`)
  return value as FilePosition
}
