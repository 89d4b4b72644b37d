/**
 * What a request handler sees: no sockets, so that tests and the simulator call handlers directly. http-server.ts is
 * the adapter to node:http.
 */

export interface ServerRequest {
  readonly method: string
  /** Path as sent, still percent-encoded, without the query. */
  readonly path: string
  readonly query: URLSearchParams
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>
  /** undefined for a body of unknown length (chunked) or none. */
  readonly contentLength: number | undefined
  /** Can be read once. Ends the connection's input when abandoned. */
  readonly body: AsyncIterable<Uint8Array>
  readonly remoteAddress: string
  /** Names of a verified client certificate: its common name and DNS alternative names. */
  readonly certificateNames: readonly string[]
  /** Fires when the client is gone or the server drains: long answers end then. */
  readonly signal: AbortSignal
}

export interface ServerResponse {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  /** A string is sent as UTF-8. An iterable is pulled as fast as the client reads, so a slow reader pauses it. */
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array>
}

export type Handler = (request: ServerRequest) => Promise<ServerResponse>
