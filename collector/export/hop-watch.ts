/**
 * HttpClients that remember whom they asked, and what came of it: so that a failed step of `check-export` can name the
 * hop. Of a URL only host and operation are kept: the rest may hold tokens.
 */
import { errnoOf, toAppError } from '../../shared/errors.ts'
import type { HttpClient, HttpRequest } from '../../shared/system.ts'
import type { WebHdfsTransport } from './webhdfs-client.ts'

export interface Hop {
  readonly peer: 'NameNode' | 'DataNode' | 'HttpFS'
  /** `host:port`. */
  readonly address: string
  readonly operation: string
  /** HTTP status, or why there was none. */
  readonly outcome: number | { readonly code: string; readonly errno: string | undefined; readonly message: string }
}

const HOPS_MAX = 100

export class HopWatch {
  private hops: Hop[] = []

  /** The hops since the last call. */
  take(): readonly Hop[] {
    const taken = this.hops
    this.hops = []
    return taken
  }

  over(transport: WebHdfsTransport, mode: 'webhdfs' | 'httpfs'): WebHdfsTransport {
    const isGateway = mode === 'httpfs'
    return {
      http: this.watched(transport.http, isGateway ? 'HttpFS' : 'NameNode'),
      streamingHttp: this.watched(transport.streamingHttp, isGateway ? 'HttpFS' : 'DataNode'),
    }
  }

  private watched(client: HttpClient, peer: Hop['peer']): HttpClient {
    return {
      request: async (request) => {
        try {
          const response = await client.request(request)
          this.note({ peer, ...whom(request), outcome: response.status })
          return response
        } catch (error) {
          const { code, message } = toAppError(error)
          this.note({ peer, ...whom(request), outcome: { code, errno: errnoOf(error), message } })
          throw error
        }
      },
      close: () => client.close(),
    }
  }

  private note(hop: Hop): void {
    if (this.hops.length < HOPS_MAX) this.hops.push(hop)
  }
}

function whom({ url }: HttpRequest): Pick<Hop, 'address' | 'operation'> {
  const { host, searchParams } = new URL(url)
  return { address: host, operation: searchParams.get('op') ?? '' }
}

/** `DataNode dn-1:9864 CREATE: no such host`. */
export function describeHop({ peer, address, operation, outcome }: Hop): string {
  const result = typeof outcome === 'number' ? String(outcome) : (outcome.errno ?? outcome.code)
  return `${peer} ${address} ${operation} ${result}`
}
