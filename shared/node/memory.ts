/** V8 settings for daemons whose memory is mostly buffers. To be called first, before the heap has grown. */
import { setFlagsFromString } from 'node:v8'

/**
 * Small code, and no middle compiler (Maglev): the functions of an HTTP request become hot in the same moment, and a
 * hundred of them that are compiled side by side leave 8 MiB behind that malloc never gives back (an agent after a minute
 * of steady load: 86 MiB with it, 79 without, at the same CPU; a backlog of 1 GB takes no more CPU either).
 */
export function keepCodeSmall(): void {
  setFlagsFromString('--optimize-for-size')
  setFlagsFromString('--no-maglev')
}

/**
 * Holds V8's young heap at its first size, 1 MiB. Each 64 KiB that a socket reads is a buffer outside of the heap which
 * only a collection frees: with 16 MiB of young heap V8 marks the whole heap for their sake, 35 times while a collector
 * takes 1 GB; with 1 MiB the cheap collections find them in time (W6: 470 MB a CPU-second before, 555 after). An agent with a
 * backlog takes 7 MiB less, and no more CPU (W1: 90 MiB before, 83 after).
 */
export function keepYoungHeapSmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1')
}
