/** Things in memory under a cap of bytes; what was not used for longest goes first. One thing larger than the cap is held alone. */
export class ByteLru<V> {
  private readonly bytesMax: number
  private readonly held = new Map<string, { readonly value: V; readonly bytes: number }>()
  private bytes = 0

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax
  }

  get(key: string): V | undefined {
    const found = this.held.get(key)
    if (found === undefined) return undefined
    this.held.delete(key)
    this.held.set(key, found)
    return found.value
  }

  set(key: string, value: V, bytes: number): void {
    this.delete(key)
    this.held.set(key, { value, bytes })
    this.bytes += bytes
    for (const oldest of this.held.keys()) {
      if (this.bytes <= this.bytesMax || oldest === key) return
      this.delete(oldest)
    }
  }

  delete(key: string): void {
    const found = this.held.get(key)
    if (found === undefined) return
    this.held.delete(key)
    this.bytes -= found.bytes
  }
}
