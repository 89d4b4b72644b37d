/** An object that answers as `real` does, but for some members; also where those of `real` stand in its class. */
export function overridden<T extends object>(real: T, changes: Partial<T>): T {
  return new Proxy(real, {
    get: (target, name) => {
      const changed: unknown = Reflect.get(changes, name)
      if (changed !== undefined) return changed
      const member: unknown = Reflect.get(target, name)
      return typeof member === 'function' ? member.bind(target) : member
    },
  })
}
