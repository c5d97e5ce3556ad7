/** Bounds how many exchanges run at a time. */
export interface Admission {
  /**
   * Takes a place for this exchange until its response has been sent or its client has left. Returns false if `most` others
   * have one.
   */
  take(most: number): boolean
  /**
   * Call this when the client has shown that it may ask: its connection is then no newcomer any more (see
   * {@link NewcomerBounds}).
   */
  trust(): void
  /** False if the server is closing and this client has not begun to get `what` in parts. */
  mayBegin(what: string): boolean
  /**
   * Says that this response is a part of `what`. The client will ask for the next part unless this is the last one, and a
   * server that closes waits for that.
   */
  givesPart(what: string, isLast: boolean): void
  /**
   * Resolves when the response has been sent or the client has left, with the number of body bytes that the system has taken.
   */
  readonly ended: Promise<number>
}

export type Handler = (request: Request, admission: Admission) => Response | Promise<Response>

/** A server's certificate and key, and the authorities that may have signed a client's certificate; all in PEM. */
export interface MutualTls {
  readonly ca: readonly string[]
  readonly cert: string
  readonly key: string
}

/** Bounds for newcomers: connections whose client has not yet shown that it may ask. */
export interface NewcomerBounds {
  /** How many newcomers there may be; one more ends the oldest. */
  readonly most: number
  /**
   * How many of them may be from one address; one more ends the oldest. Also how many may come from there in a second; one more
   * is refused.
   */
  readonly mostPerAddress: number
  /** Milliseconds after which a newcomer is ended. */
  readonly time: number
}

export interface ListenOptions {
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  /** With it, the server speaks TLS 1.3, and only with clients that have a certificate; plain TCP if missing. */
  readonly tls?: MutualTls | undefined
  /** For a door that not everybody may ask. Its handler calls {@link Admission.trust} for clients that may. */
  readonly newcomers?: NewcomerBounds | undefined
  /** How many connections may be open; one more ends the oldest idle one. */
  readonly maxConnections?: number
  /** Milliseconds within which a client must take a head or a chunk of at most 256 KiB, or its connection is ended. */
  readonly writeTimeout?: number
  /** Called for every failure that the response cannot tell in full: a handler that threw, a body that broke off. */
  readonly onError: (error: unknown, request: { readonly method: string; readonly url: string }) => void
}

export interface Listener {
  readonly host: string
  readonly port: number
  /** How many exchanges have a place now (see {@link Admission}). */
  readonly running: number
  /**
   * First lets clients get the remaining parts of content that they have begun. Then takes no new connections, and lets running
   * exchanges finish. When the signal aborts, it ends everything that is left. Resolves when nothing is open any more, with the
   * number of exchanges that were cut.
   */
  close(drain: AbortSignal): Promise<number>
}

/** Longest request head in bytes. A repository, a digest and `ns` need under 1 KiB; beyond this the answer is 431. */
export const MAX_HEAD = 16 * 1024
/** Milliseconds for which an idle connection is kept for the next request. */
export const KEEP_ALIVE_TIMEOUT = 30_000

/** An answer of the server itself, which no handler has made. */
export function serverAnswer(status: number, text: string): Response {
  const headers = { 'content-type': 'text/plain; charset=utf-8', 'content-length': String(text.length) }
  return new Response(text, { status, headers })
}
