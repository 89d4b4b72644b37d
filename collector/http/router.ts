/**
 * Finds the handler for a request and decides whether this caller may use it. Routes are plain values, so that each
 * area of the API brings its own list and tests call handlers without a server.
 *
 * Order of the checks, one error code each: Host and Origin header (FORBIDDEN), path (NOT_FOUND), method (METHOD_NOT_ALLOWED),
 * identity (UNAUTHENTICATED), role (FORBIDDEN). Nothing of the body is read before all have passed.
 */
import { AppError, assert } from '../../shared/errors.ts'
import { errorResponse } from '../../shared/http-body.ts'
import type { Handler, ServerRequest, ServerResponse } from '../../shared/http-handler.ts'
import type { Caller, Role } from './auth.ts'

export type RouteMethod = 'GET' | 'POST' | 'PATCH' | 'DELETE'

export interface RouteContext {
  /** Value of each `:name` in the pattern, percent-decoded once. */
  readonly params: ReadonlyMap<string, string>
  readonly caller: Caller
}

export type RouteHandler = (request: ServerRequest, context: RouteContext) => Promise<ServerResponse>

export interface Route {
  readonly method: RouteMethod
  /** `/v1/topics/:topic/lines`: literal segments and `:name`. */
  readonly pattern: string
  /** Of several, one is enough. */
  readonly role: Role | readonly Role[]
  readonly handler: RouteHandler
}

export interface RouterOptions {
  readonly routes: readonly Route[]
  /** Throws UNAUTHENTICATED. */
  readonly authenticate: (request: ServerRequest) => Caller
  /** Whether the Host header is one of ours: closes the door to DNS rebinding. */
  readonly isKnownHost: (host: string | undefined) => boolean
}

interface CompiledRoute extends Route {
  readonly segments: readonly string[]
}

const SEGMENTS_MAX = 16

export function createRouter(options: RouterOptions): Handler {
  const routes = options.routes.map((route) => ({ ...route, segments: segmentsOf(route.pattern) }))
  checkUnique(routes)
  return async (request) => {
    const host = request.headers.get('host')
    if (!options.isKnownHost(host)) {
      throw new AppError('FORBIDDEN', `Host ${JSON.stringify(host ?? '')} is not a name of this collector`, {
        hint: 'use the address it listens on, or add the name to allowedHosts',
      })
    }
    checkOrigin(request, host)
    const segments = segmentsOf(request.path)
    const candidates = routes.filter((route) => matches(route, segments))
    if (candidates.length === 0) throw new AppError('NOT_FOUND', `there is nothing at ${request.path.slice(0, 200)}`)
    const method = request.method === 'HEAD' ? 'GET' : request.method
    const route = candidates.find((candidate) => candidate.method === method)
    if (route === undefined) return methodNotAllowed(request, candidates)
    const caller = route.role === 'public' ? anonymous : options.authenticate(request)
    checkRole(caller, route)
    return route.handler(request, { params: paramsOf(route, segments), caller })
  }
}

/** The value of a `:name` of the route's own pattern. */
export function param(context: RouteContext, name: string): string {
  const value = context.params.get(name)
  assert(value !== undefined, `the pattern has :${name}`)
  return value
}

/**
 * A page of another site can make a browser post to us, and on loopback there is no token that it lacks. Browsers name
 * the page's origin in every such request.
 */
function checkOrigin(request: ServerRequest, host: string | undefined): void {
  const origin = request.headers.get('origin')
  if (origin === undefined || request.method === 'GET' || request.method === 'HEAD') return
  if (URL.canParse(origin) && new URL(origin).host === host) return
  throw new AppError('FORBIDDEN', 'requests of web pages of other sites are not taken', { hint: 'send it from a server of yours' })
}

function checkRole(caller: Caller, { role }: Route): void {
  const roles = typeof role === 'string' ? [role] : role
  if (roles.some((each) => each === 'public' || caller.roles.has(each))) return
  throw new AppError('FORBIDDEN', `${caller.name} may not do this: it takes the role ${roles.join(' or ')}`)
}

const anonymous: Caller = { name: 'anonymous', roles: new Set<Role>(), identity: undefined }

function segmentsOf(path: string): readonly string[] {
  const parts = path.split('/', SEGMENTS_MAX + 2)
  if (parts.length > SEGMENTS_MAX + 1) throw new AppError('NOT_FOUND', 'the path is too deep')
  return parts.slice(1)
}

/** A literal segment wins over a parameter only by being registered so: patterns here never overlap (checkUnique). */
function matches(route: CompiledRoute, segments: readonly string[]): boolean {
  return route.segments.length === segments.length && route.segments.every((segment, at) => isParam(segment) || segment === segments[at])
}

function isParam(segment: string): boolean {
  return segment.startsWith(':')
}

function paramsOf(route: CompiledRoute, segments: readonly string[]): ReadonlyMap<string, string> {
  const params = new Map<string, string>()
  for (const [at, segment] of route.segments.entries()) {
    if (isParam(segment)) params.set(segment.slice(1), decodeSegment(segments[at] ?? ''))
  }
  return params
}

/** Once, and only once: a doubly encoded `..` stays an odd name, which the name's own check refuses. */
function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch (error) {
    throw new AppError('BAD_REQUEST', 'the path is not valid percent-encoding', { cause: error })
  }
}

function methodNotAllowed(request: ServerRequest, candidates: readonly Route[]): ServerResponse {
  const allowed = candidates.map(({ method }) => method).join(', ')
  const error = new AppError('METHOD_NOT_ALLOWED', `${request.method.slice(0, 20)} is not possible here, only ${allowed}`)
  const response = errorResponse(error)
  return { ...response, headers: { ...response.headers, allow: allowed } }
}

function checkUnique(routes: readonly Route[]): void {
  const seen = new Set<string>()
  for (const { method, pattern } of routes) {
    const shape = `${method} ${pattern.replace(/:[^/]+/g, ':')}`
    assert(!seen.has(shape), `route ${shape} is registered once`)
    seen.add(shape)
  }
}
