/** node:https for whoever speaks TLS, loaded when it is first wanted: a process that never does is 5 MiB smaller. */
import type * as Https from 'node:https'

export function nodeHttps(): typeof Https {
  return process.getBuiltinModule('node:https')
}
