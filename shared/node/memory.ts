/** V8 settings that keep a small daemon small. */
import { setFlagsFromString } from 'node:v8'

export function keepCodeSmall(): void {
  setFlagsFromString('--optimize-for-size')
}
