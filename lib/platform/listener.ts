/** Bounds how many exchanges run at a time. */
export interface Admission {
  /**
   * Takes a place for this exchange until its response has been sent or its client has left. Gives false, and takes none,
   * when `most` others have one.
   */
  take(most: number): boolean
  /** The client has shown that it may ask: its connection is no newcomer any more (see {@link NewcomerBounds}). */
  trust(): void
  /** False if the server closes and this client has not begun to get that in parts. */
  mayBegin(what: string): boolean
  /**
   * This response is a part of something, after which the client will ask for the next one unless it is the last. A server
   * that closes waits for that.
   */
  givesPart(what: string, isLast: boolean): void
  /** Resolves when the response has been sent or the client has left, with the bytes of its body that the system has taken. */
  readonly ended: Promise<number>
}

export type Handler = (request: Request, admission: Admission) => Response | Promise<Response>

/** A server's certificate and key, and the authorities that may have signed a client's certificate; all in PEM. */
export interface MutualTls {
  readonly ca: readonly string[]
  readonly cert: string
  readonly key: string
}

/** Bounds for connections from which no request has come yet that shows that its client may ask. */
export interface NewcomerBounds {
  /** How many there may be in all; one more ends the oldest. */
  readonly most: number
  /** How many there may be from one address, likewise, and how many may come from there in a second: one more is refused. */
  readonly mostPerAddress: number
  /** Milliseconds from when one is accepted until it is ended. */
  readonly time: number
}

export interface ListenOptions {
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  /** Speaks TLS 1.3, and only with clients that have a certificate; plain TCP if missing. */
  readonly tls?: MutualTls | undefined
  /**
   * Whether the handler reads no body of a request, and declares the length of each answer of which clients may ask more than
   * one on a connection. Then each byte takes half the processor time on Bun.
   */
  readonly isPlain?: boolean
  /** For a door that not everybody may ask: its handler trusts the clients that may. */
  readonly newcomers?: NewcomerBounds | undefined
  /** Connections that may be open; one more ends the oldest idle one. */
  readonly maxConnections?: number
  /** Milliseconds within which a client must take a chunk of a body, of at most 256 KiB, or its connection is ended. */
  readonly writeTimeout?: number
  /** Hears of every failure that the response could not tell in full: a handler that threw, a body that broke off. */
  readonly onError: (error: unknown, request: { readonly method: string; readonly url: string }) => void
}

export interface Listener {
  readonly host: string
  readonly port: number
  /** Exchanges that have a place (see {@link Admission}) at this moment. */
  readonly running: number
  /**
   * Lets clients get the rest of what they have begun to get in parts, then takes no new connections, and lets running
   * exchanges finish, all of it until the signal aborts; then ends the rest. Resolves when nothing is left open, with the number
   * of exchanges that were cut.
   */
  close(drain: AbortSignal): Promise<number>
}

/** Longest request head in bytes. A repository, a digest and `ns` need under 1 KiB; beyond this the answer is 431. */
export const MAX_HEAD = 16 * 1024
/** How long an idle connection is kept for the next request, in milliseconds. */
export const KEEP_ALIVE_TIMEOUT = 30_000

/**
 * The 400 for a request that no handler must see, if it is one: its URL, made of its path and its Host header, does not
 * parse; it has two Host headers (RFC 9112, section 3.2), which every runtime joins by a comma; or the URL parser has
 * turned its path into another one (dot segments, backslashes, characters that must be encoded).
 *
 * @param path as the client sent it, without the query; not compared if missing
 */
export function malformedAnswer(request: Request, path?: string): Response | undefined {
  const url = URL.parse(request.url)
  const isVerbatim = url !== null && (path === undefined || path === url.pathname)
  return isVerbatim && !request.headers.get('host')?.includes(',') ? undefined : badRequest()
}

export function badRequest(): Response {
  return textAnswer(400, 'bad request: the path or the Host header is not in its normal form\n')
}

export function internalError(): Response {
  return textAnswer(500, 'internal error; the log of this mirror has the cause\n')
}

function textAnswer(status: number, text: string): Response {
  const headers = { 'content-type': 'text/plain; charset=utf-8', 'content-length': String(text.length) }
  return new Response(text, { status, headers })
}
