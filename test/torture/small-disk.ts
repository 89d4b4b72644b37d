/**
 * A small file system for the collector's data, so that it can be full: ext4 on a loop device, else a tmpfs, else the
 * plain folder, of which `skipped` says why. Unmounted by `remove`, also after a failure.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface SmallDisk {
  readonly path: string
  readonly kind: string
  /** Why there is no small file system. */
  readonly skipped: string | undefined
  /** Takes nearly all of the space that is left; answers whether it could. */
  fill(): boolean
  free(): void
  /** Unmounts and mounts again, as after a power cut: the journal is replayed. */
  remount(): void
  remove(): void
}

const LEFT_BYTES = 48 * 1024
/** More than this left would be no full disk. */
const LEFT_BYTES_MAX = 4 * 1024 * 1024

export function makeSmallDisk(work: string, megabytes: number): SmallDisk {
  const path = join(work, 'disk')
  mkdirSync(path)
  const reasons: string[] = []
  for (const mount of [mountLoop, mountTmpfs]) {
    try {
      const kind = mount({ work, path, megabytes })
      return { path, kind, skipped: undefined, ...filler(path), remount: () => remount({ work, path, megabytes }), remove: () => unmount(path) }
    } catch (error) {
      reasons.push(error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error))
    }
  }
  const nothing = (): void => undefined
  return { path, kind: 'plain folder', skipped: reasons.join('; '), fill: () => false, free: nothing, remount: nothing, remove: nothing }
}

interface Mount {
  readonly work: string
  readonly path: string
  readonly megabytes: number
}

function mountLoop({ work, path, megabytes }: Mount): string {
  const image = join(work, 'disk.img')
  writeFileSync(image, '')
  truncateSync(image, megabytes * 1024 * 1024)
  run('mkfs.ext4', ['-q', '-m', '0', image])
  run('mount', ['-o', 'loop', image, path])
  return `ext4 of ${megabytes} MiB on a loop device`
}

function remount({ work, path }: Mount): void {
  run('umount', [path])
  run('mount', ['-o', 'loop', join(work, 'disk.img'), path])
}

function mountTmpfs({ path, megabytes }: Mount): string {
  run('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', path])
  return `tmpfs of ${megabytes} MiB`
}

function unmount(path: string): void {
  try {
    run('umount', [path])
  } catch {
    // Somebody still has a file open: detached now, gone when it is closed.
    run('umount', ['-l', path])
  }
}

function filler(path: string): Pick<SmallDisk, 'fill' | 'free'> {
  const file = join(path, 'filler')
  return {
    fill: () => {
      // The collector writes meanwhile, so that what was free a moment ago may not be any more.
      for (let leftBytes = LEFT_BYTES; leftBytes <= LEFT_BYTES_MAX; leftBytes *= 2) {
        const { bavail, bsize } = statfsSync(path)
        const { status } = spawnSync('fallocate', ['-l', String(Math.max(bsize, bavail * bsize - leftBytes)), file])
        if (status === 0) return true
      }
      return false
    },
    free: () => rmSync(file, { force: true }),
  }
}

export function run(command: string, args: readonly string[]): string {
  return execFileSync(command, args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString()
}
