/**
 * What a file's bytes were from one beginning to the next truncation: one incarnation. The oracle judges by these: a
 * stream may hold the bytes of one of them and of no other.
 */
export type Ending =
  | { readonly kind: 'alive' }
  | { readonly kind: 'truncated'; readonly atMs: number }
  | { readonly kind: 'removed'; readonly atMs: number; readonly heldBy: readonly string[] }

export class Incarnation {
  readonly name: string
  /** Copied byte for byte from another at birth: its lines stand in both. */
  readonly copyOf: Incarnation | undefined
  readonly bornMs: number
  ending: Ending = { kind: 'alive' }
  lastWriteMs: number
  readonly inode: number
  /** Lives of agents that had it open under a name that their globs match, or read it while they had it open. */
  readonly openedBy = new Set<string>()
  private buffer = Buffer.alloc(0)
  private length = 0

  constructor(options: { name: string; inode: number; nowMs: number; copyOf?: Incarnation }) {
    this.inode = options.inode
    this.name = options.name
    this.copyOf = options.copyOf
    this.bornMs = options.nowMs
    this.lastWriteMs = options.nowMs
  }

  get size(): number {
    return this.length
  }

  write(position: number, bytes: Uint8Array): void {
    const end = position + bytes.length
    if (end > this.buffer.length) {
      const grown = Buffer.alloc(Math.max(end, this.buffer.length * 2, 1024))
      this.buffer.copy(grown, 0, 0, this.length)
      this.buffer = grown
    }
    this.buffer.set(bytes, position)
    this.length = Math.max(this.length, end)
  }

  view(): Buffer {
    return this.buffer.subarray(0, this.length)
  }
}
