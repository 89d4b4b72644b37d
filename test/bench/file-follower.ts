/** Reads a file as it grows, by looking again and again, and feeds what is new to a counter. For sinks that write files. */
import { open, type FileHandle } from 'node:fs/promises'
import { sleep } from './programs.ts'
import type { SequenceCounter } from './sequence-counter.ts'

const BLOCK_BYTES = 4 * 1024 * 1024

export interface FollowOptions {
  readonly path: string
  readonly counter: SequenceCounter
  readonly everyMs: number
  readonly isDone: () => boolean
  /** Gives up when nothing new came for so long. */
  readonly quietMsMax: number
}

/** Ends when `isDone` or when it was quiet for too long; gives the time of the last bytes and the size so far. */
export async function followFile(options: FollowOptions): Promise<{ lastMs: number; bytes: number }> {
  const block = Buffer.allocUnsafe(BLOCK_BYTES)
  let file: FileHandle | undefined
  let lastMs = performance.now()
  let bytes = 0
  try {
    while (!options.isDone() && performance.now() - lastMs < options.quietMsMax) {
      file ??= await openIfThere(options.path)
      const { bytesRead } = file === undefined ? { bytesRead: 0 } : await file.read(block, 0, block.length, bytes)
      if (bytesRead > 0) {
        bytes += bytesRead
        lastMs = performance.now()
        options.counter.feed(block.subarray(0, bytesRead))
      }
      if (bytesRead < block.length) await sleep(options.everyMs)
    }
  } finally {
    await file?.close()
  }
  return { lastMs, bytes }
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r')
  } catch (error) {
    if (error instanceof Error && Reflect.get(error, 'code') === 'ENOENT') return undefined
    throw error
  }
}
