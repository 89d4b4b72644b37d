/** An object that answers as `real` does, but for some members; also where those of `real` stand in its class. */
export function overridden<T extends object>(real: T, changes: Partial<T>): T {
  return Object.assign(Object.create(real) as T, changes)
}
