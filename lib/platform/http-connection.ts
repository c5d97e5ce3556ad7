import { STATUS_CODES } from 'node:http'
import { Client, type Wire } from './client.ts'
import { closes, endOfHead, ProtocolError, readHead } from './http-head.ts'
import { type Handler, KEEP_ALIVE_TIMEOUT, type ListenOptions, MAX_HEAD, serverAnswer } from './listener.ts'
import { respond } from './send.ts'
import type { ServerConnection, ServerConnections } from './server-connections.ts'

/** State that all connections of a server share. */
export interface HttpServer {
  readonly handler: Handler
  readonly options: ListenOptions
  readonly connections: ServerConnections
  closing: boolean
}

const NOT_NORMAL = 'bad request: the path or the Host header is not in its normal form\n'
/** A method begins with a byte in this range, and TLS does not. */
const FIRST = [0x21, 0x7e] as const
/**
 * Longest body of a POST in bytes; only the page sends one. Nobody reads any other body: its connection ends after the answer.
 */
const MAX_BODY = 4 * 1024
/** Milliseconds that a client has to end its side of a connection after this side. */
const LINGER = 1_000
/**
 * A host name or address with a port. A URL parser accepts more, but no other text is a valid Host header (RFC 9110, section
 * 7.2).
 */
const HOST = /^[0-9A-Za-z._:[\]-]+$/
const REQUEST_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\/[\x21-\x7e]*) HTTP\/1\.([01])$/

/** A connection, with one exchange after another. */
export class HttpConnection {
  readonly #wire: Wire
  readonly #server: HttpServer
  readonly #connection: ServerConnection
  /** Bytes that have come and belong to no exchange yet. */
  #waiting = Buffer.alloc(0)
  #client: Client | undefined
  #idle: ReturnType<typeof setTimeout> | undefined
  /** Whether nothing more is read from it. */
  #isOver = false

  constructor(wire: Wire, connection: ServerConnection, server: HttpServer) {
    this.#wire = wire
    this.#connection = connection
    this.#server = server
    this.#rest()
  }

  received(bytes: Uint8Array): void {
    // Bytes after the last request are a body that nobody reads.
    if (this.#isOver || this.#client?.keepAlive === false) return
    this.#waiting = Buffer.concat([this.#waiting, bytes])
    if (this.#client === undefined) this.#next()
    // Pipelined requests may wait, but only up to a limit.
    else if (this.#waiting.length > MAX_HEAD) this.#wire.close()
  }

  closed(): void {
    this.#isOver = true
    clearTimeout(this.#idle)
    this.#server.connections.remove(this.#connection)
    this.#client?.left()
  }

  /** Ends the connection unless a whole request comes in time. */
  #rest(): void {
    this.#idle = setTimeout(() => this.#wire.close(), KEEP_ALIVE_TIMEOUT)
  }

  /** Answers the next request, if all of it is there. */
  #next(): void {
    const end = endOfHead(this.#waiting)
    const [first = FIRST[0]] = this.#waiting
    // A client that speaks TLS here would otherwise wait until the timeout for an answer.
    if (first < FIRST[0] || first > FIRST[1]) this.#refuse(400)
    else if ((end ?? this.#waiting.length) > MAX_HEAD) this.#refuse(431)
    else if (end !== undefined) {
      const request = readRequest(this.#waiting.subarray(0, end))
      const next = end + (request?.bodyLength ?? 0)
      if (request === undefined) this.#refuse(400)
      else if (this.#waiting.length >= next) {
        const body = this.#waiting.subarray(end, next)
        this.#waiting = this.#waiting.subarray(next)
        void this.#answer(request, body)
      }
    }
  }

  #refuse(status: 400 | 431): void {
    const text = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`
    this.#wire.write(Buffer.from(text), () => undefined)
    this.#finish()
  }

  async #answer(received: ReceivedRequest, body: Uint8Array): Promise<void> {
    const { method, target, keepAlive } = received
    clearTimeout(this.#idle)
    const { handler, options, connections } = this.#server
    const exchange = connections.begin(this.#connection)
    const client = new Client(this.#wire, method, keepAlive && !this.#server.closing, options.writeTimeout)
    this.#client = client
    const ended = client.ended.then(() => exchange.over(client.sent))
    await respond(
      () => {
        const request = requestOf(received, client.signal, body)
        return request === undefined ? serverAnswer(400, NOT_NORMAL) : handler(request, exchange.admission)
      },
      client,
      (error) => options.onError(error, { method, url: target }),
    )
    await ended
    this.#client = undefined
    if (this.#isOver) return
    if (!client.keepAlive) return this.#finish()
    this.#rest()
    this.#next()
  }

  #finish(): void {
    this.#isOver = true
    this.#waiting = Buffer.alloc(0)
    // Not `close`: the system would answer bytes that the client still sends with RST.
    this.#wire.end()
    clearTimeout(this.#idle)
    this.#idle = setTimeout(() => this.#wire.close(), LINGER)
  }
}

type ReceivedRequest = NonNullable<ReturnType<typeof readRequest>>

/**
 * Reads a request's head; `undefined` if it is malformed. `target` is the path and query as the client sent them, and
 * `bodyLength` is 0 if the request has no body or one that nobody reads.
 */
export function readRequest(head: Uint8Array) {
  try {
    const { firstLine, headers } = readHead(head)
    const [, method, target, version] = REQUEST_LINE.exec(firstLine) ?? []
    if (method === undefined || target === undefined || !HOST.test(headers.get('host') ?? '')) return undefined
    // Servers that believe different ones of the two lengths would see different requests (RFC 9112, section 6.1).
    if (headers.has('transfer-encoding') && headers.has('content-length')) return undefined
    const declared = headers.get('content-length') ?? '0'
    if (!/^\d+$/.test(declared)) return undefined
    const length = headers.has('transfer-encoding') ? Number.POSITIVE_INFINITY : Number(declared)
    const bodyLength = method === 'POST' && length <= MAX_BODY ? length : 0
    const keepAlive = version === '1' && length === bodyLength && !closes(headers)
    return { method, target, headers, bodyLength, keepAlive }
  } catch (error) {
    if (error instanceof ProtocolError) return undefined
    throw error
  }
}

/**
 * `undefined` if no Request can be made of it (some methods, an invalid host), if the URL parser would change its path (dot
 * segments, backslashes, characters that must be encoded), if the method is not in capitals, or if Bun does not know the method,
 * because Bun would turn it into a GET.
 */
function requestOf(
  { method, target, headers }: ReceivedRequest,
  signal: AbortSignal,
  body: Uint8Array,
): Request | undefined {
  const url = URL.parse(`http://${headers.get('host')}${target}`)
  if (url === null || url.pathname !== target.split('?', 1)[0] || /^(?:connect|trace|track)$/i.test(method))
    return undefined
  const request = new Request(url, { method, headers, signal, body: body.length === 0 ? null : Buffer.from(body) })
  return request.method === method ? request : undefined
}
