import { once } from 'node:events'
import { type ClientHttp2Stream, constants, type IncomingHttpHeaders } from 'node:http2'
import { bounded, onAbort, unlessAborted } from '../../platform/abort.ts'
import { ContainerdError, containerdError, GrpcError } from './error.ts'
import type { Method } from './messages.ts'
import type { BytesKind } from './protobuf.ts'
import { gone, type Session } from './session.ts'

/** Largest message accepted, in bytes: containerd's own `max_send_message_size`. */
const MESSAGE_LIMIT = 16 * 1024 * 1024
/** Of a message: one byte that is 1 if it is compressed, which is never asked for, and four for its length. */
const PREFIX = 5
/** The header that names the containerd namespace of a call. */
const NAMESPACE_HEADER = 'containerd-namespace'

/** What comes back is not gRPC. */
const NOT_GRPC = 13

/** Calls to containerd in one of its namespaces. */
export type Calls = ReturnType<typeof createCalls>

/**
 * Calls by gRPC over HTTP/2 (gRPC's `PROTOCOL-HTTP2.md`), without compression.
 *
 * @param callTimeout longest wait for the answer of a call that has one, in milliseconds
 */
export function createCalls(session: Session, namespace: string, callTimeout: number) {
  /**
   * Calls at once, and gives what is answered, as it comes. Leaving the loop ends the call. It has no bound: see openStream.
   *
   * @throws {GrpcError} what the server says; what the connection throws; the signal's reason
   */
  async function* stream<Request, Answer>(
    { path, request, answer }: Method<Request, Answer>,
    sent: Request,
    signal: AbortSignal,
  ): AsyncGenerator<Answer, void, undefined> {
    signal.throwIfAborted()
    const begun = session.request({
      ':method': 'POST',
      ':path': `/${path}`,
      'content-type': 'application/grpc',
      te: 'trailers',
      [NAMESPACE_HEADER]: namespace,
    })
    const call = await unlessAborted(begun, signal).catch((error: unknown) => {
      // The connection may be there only later: then it carries nothing of this call.
      void begun.then(cancel, () => undefined)
      throw error
    })
    // Told by the loop below, or of no interest any more.
    call.on('error', () => undefined)
    using _ = onAbort(signal, () => cancel(call))
    try {
      const head = headOf(call)
      call.end(framed(request.write(sent)))
      const { status, trailers } = await head
      if (status !== undefined) return throwUnlessOk(status)
      for await (const bytes of messagesIn(call)) yield read(answer, bytes)
      signal.throwIfAborted()
      throwUnlessOk(trailers())
    } catch (error) {
      signal.throwIfAborted()
      throw error
    } finally {
      cancel(call)
    }
  }

  async function answerOf<Request, Answer>(method: Method<Request, Answer>, sent: Request, signal: AbortSignal) {
    let found: Answer | undefined
    for await (const answer of stream(method, sent, signal)) found = answer
    if (found === undefined) throw new GrpcError(NOT_GRPC, 'no message in the answer')
    return found
  }

  return {
    stream,

    /**
     * The one answer of a call.
     *
     * @throws {ContainerdError} and the signal's reason
     */
    async unary<Request, Answer>(
      method: Method<Request, Answer>,
      sent: Request,
      signal: AbortSignal,
      timeout = callTimeout,
    ): Promise<Answer> {
      signal.throwIfAborted()
      const name = nameOf(method)
      try {
        return await bounded(timeout, signal, (bound) => unlessAborted(answerOf(method, sent, bound), bound))
      } catch (error) {
        signal.throwIfAborted()
        if (!(error instanceof DOMException && error.name === 'TimeoutError')) throw containerdError(name, error)
        throw new ContainerdError('timeout', `containerd ${name}: no answer for ${timeout} ms`, { cause: error })
      }
    },
  }
}

/** What people call it: `Images.Get`, `CRI PullImage`. */
function nameOf({ path }: Pick<Method<never, never>, 'path'>): string {
  const [service = '', name = ''] = path.split('/')
  const short = service.split('.').at(-1)
  if (service.startsWith('runtime.')) return `CRI ${name}`
  return name === short ? name : `${short}.${name}`
}

type Trailers = Pick<IncomingHttpHeaders, string>

/** Ends a call, unless it is over. */
function cancel(call: ClientHttp2Stream): void {
  call.close(constants.NGHTTP2_CANCEL)
}

/**
 * Waits for the head of an answer.
 *
 * @returns its status if it has one already, and has no messages then; and what tells the trailers, once all messages are read
 */
async function headOf(call: ClientHttp2Stream) {
  let found: Trailers | undefined
  call.once('trailers', (trailers: Trailers) => {
    found = trailers
  })
  const ended = new AbortController()
  const end = () => ended.abort()
  call.once('close', end)
  try {
    const [head] = (await once(call, 'response', { signal: ended.signal })) as [IncomingHttpHeaders]
    if (String(head[':status']) !== '200') throw new GrpcError(NOT_GRPC, `HTTP status ${head[':status']}`)
    if (!String(head['content-type']).startsWith('application/grpc'))
      throw new GrpcError(NOT_GRPC, `content of the type ${head['content-type']}`)
    return { status: 'grpc-status' in head ? (head as Trailers) : undefined, trailers: () => found }
  } catch (error) {
    throw error instanceof Error && error.name === 'AbortError' ? gone() : error
  } finally {
    call.off('close', end)
  }
}

/** @throws {GrpcError} for another status than 0; an error of a connection that ended where there is none */
function throwUnlessOk(trailers: Trailers | undefined): void {
  const status = trailers?.['grpc-status']
  if (status === undefined) throw gone()
  if (status === '0') return
  const text = String(trailers?.['grpc-message'] ?? '')
  throw new GrpcError(Number(status), decoded(text))
}

/** The message of a status is percent-encoded; what is not is shown as it is. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

function framed(message: Uint8Array): Uint8Array {
  const prefix = Buffer.alloc(PREFIX)
  prefix.writeUInt32BE(message.length, 1)
  return Buffer.concat([prefix, message])
}

/** The messages in what a call answers. */
async function* messagesIn(call: AsyncIterable<Buffer>): AsyncGenerator<Uint8Array, void, undefined> {
  let chunks: Buffer[] = []
  let length = 0
  let wanted = PREFIX
  for await (const chunk of call) {
    chunks.push(chunk)
    length += chunk.length
    while (length >= wanted) {
      const all = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)
      wanted = PREFIX + all.readUInt32BE(1)
      if (all[0] !== 0) throw new GrpcError(NOT_GRPC, 'a compressed message, which was not asked for')
      if (wanted > PREFIX + MESSAGE_LIMIT) throw new GrpcError(NOT_GRPC, `a message of ${wanted - PREFIX} bytes`)
      const isComplete = length >= wanted
      if (isComplete) yield all.subarray(PREFIX, wanted)
      const rest = isComplete ? all.subarray(wanted) : all
      chunks = [rest]
      length = rest.length
      if (isComplete) wanted = PREFIX
      else break
    }
  }
  if (length > 0) throw gone()
}

function read<Answer>(kind: BytesKind<Answer>, bytes: Uint8Array): Answer {
  try {
    return kind.read(bytes)
  } catch (error) {
    throw new GrpcError(NOT_GRPC, `a message that cannot be read: ${(error as Error).message}`)
  }
}
