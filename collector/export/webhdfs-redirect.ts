/**
 * Where a NameNode may send us. A redirect decides who gets the log's bytes and, on secure clusters, a token, so it is
 * checked before either leaves: same scheme, and a host that the operator allowed or that is a neighbour of the NameNode.
 * Pure.
 *
 * Default neighbours: a loopback NameNode has loopback DataNodes; an IPv4 one those of its /16; a named one the names
 * of its own parent domain, or other bare names if it is a bare name. Everything else has to be listed.
 */
import { BlockList, isIP } from 'node:net'
import { AppError } from '../../shared/errors.ts'

export interface RedirectRules {
  /** Host names, `.suffix`es, addresses and CIDR blocks; empty = the neighbours of the NameNode. */
  readonly allowedHosts: readonly string[]
  /** `host` or `host:port` of a redirect → `host` or `host:port` to connect to instead; a mapped name is allowed. */
  readonly dataNodeHosts: Readonly<Record<string, string>>
}

/** The URL to use: `location` verbatim but for a mapped host. REMOTE_REFUSED when it leads elsewhere. */
export function checkRedirect(location: string, nameNodeUrl: string, rules: RedirectRules): string {
  const target = parseUrl(location)
  const nameNode = new URL(nameNodeUrl)
  if (target === undefined || target.username !== '' || target.password !== '') throw refused('a redirect that is not a plain URL')
  if (target.protocol !== nameNode.protocol) throw refused(`a redirect from ${nameNode.protocol} to ${target.protocol}`)
  const mapped = rules.dataNodeHosts[target.host] ?? rules.dataNodeHosts[target.hostname]
  if (mapped !== undefined) return replaceHost(location, target, mapped)
  const host = bareHost(target.hostname)
  const isAllowed =
    rules.allowedHosts.length > 0
      ? host === bareHost(nameNode.hostname) || rules.allowedHosts.some((rule) => matchesRule(host, rule.toLowerCase()))
      : isNeighbour(host, bareHost(nameNode.hostname))
  if (!isAllowed) throw refused(`a redirect to ${host}, which is not an allowed DataNode`)
  return location
}

function refused(what: string): AppError {
  return new AppError('REMOTE_REFUSED', `the NameNode sent ${what}`, {
    hint: 'list the DataNodes in hdfsAllowedHosts, or map their names with hdfsDataNodes',
  })
}

function parseUrl(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined
}

function bareHost(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '').toLowerCase()
}

/** Only the authority changes: the rest may carry a token whose encoding is the server's business. */
function replaceHost(location: string, target: URL, mapped: string): string {
  const authority = /:\d+$/.test(mapped) || target.port === '' ? mapped : `${mapped}:${target.port}`
  return location.replace(/^(https?:\/\/)[^/?#]+/i, (_whole, scheme: string) => `${scheme}${authority}`)
}

function matchesRule(host: string, rule: string): boolean {
  if (rule.startsWith('.')) return host.endsWith(rule)
  const slash = rule.indexOf('/')
  return slash < 0 ? host === rule : inBlock(host, { network: rule.slice(0, slash), prefix: Number(rule.slice(slash + 1)) })
}

function inBlock(host: string, block: { network: string; prefix: number }): boolean {
  const version = isIP(block.network)
  if (version === 0 || isIP(host) !== version || !Number.isInteger(block.prefix)) return false
  if (block.prefix < 0 || block.prefix > (version === 4 ? 32 : 128)) return false
  const family = version === 4 ? 'ipv4' : 'ipv6'
  const list = new BlockList()
  list.addSubnet(block.network, block.prefix, family)
  return list.check(host, family)
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || inBlock(host, { network: '127.0.0.0', prefix: 8 })
}

function isNeighbour(host: string, nameNode: string): boolean {
  if (host === nameNode) return true
  if (isLoopback(nameNode) || isLoopback(host)) return isLoopback(nameNode) && isLoopback(host)
  if (isIP(nameNode) === 4) return inBlock(host, { network: nameNode, prefix: 16 })
  if (isIP(nameNode) !== 0 || isIP(host) !== 0) return false
  const dot = nameNode.indexOf('.')
  return dot < 0 ? !host.includes('.') : host.endsWith(nameNode.slice(dot))
}
