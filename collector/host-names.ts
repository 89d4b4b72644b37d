/**
 * Which Host headers are ours. A page on the internet can point a name of its own at 127.0.0.1 and so talk to a collector
 * on loopback through a browser (DNS rebinding); the browser then sends that name, and it is none of these.
 */
import { isLoopback, type ListenAddress } from './config.ts'

const loopbackNames: readonly string[] = ['localhost', '127.0.0.1', '[::1]']

/** Beyond loopback any name is taken unless `allowedHosts` says which: there, identity is proved by token or certificate. */
export function createHostCheck(options: { listen: ListenAddress; allowedHosts: readonly string[] }): (host: string | undefined) => boolean {
  const { listen, allowedHosts } = options
  if (!isLoopback(listen.host) && allowedHosts.length === 0) return () => true
  const listened = listen.host.includes(':') ? `[${listen.host}]` : listen.host
  const known = new Set([...loopbackNames, listened, ...allowedHosts].map((name) => name.toLowerCase()))
  return (host) => host !== undefined && known.has(withoutPort(host).toLowerCase())
}

function withoutPort(host: string): string {
  return host.replace(/:[0-9]{1,5}$/, '')
}
