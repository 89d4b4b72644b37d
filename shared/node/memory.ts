/** V8 settings that keep a small daemon small. */
import { setFlagsFromString } from 'node:v8'
import { hasNativeZstd } from '../zstd.ts'

/**
 * Once, before anything uses WebAssembly. undici's parser is WebAssembly; compiling it a second time, optimised, takes
 * 15 MiB (measured on Node 24) and gains nothing at the few answers a second that an agent reads. Where zstd itself is
 * WebAssembly it has to be optimised.
 */
export function keepCodeSmall(): void {
  setFlagsFromString('--optimize-for-size')
  if (hasNativeZstd()) setFlagsFromString('--liftoff-only')
}
