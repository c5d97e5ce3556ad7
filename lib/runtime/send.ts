import type { IncomingMessage, ServerResponse } from 'node:http'
import { filePartOf, readPart } from './file-response.ts'

/** A body that did not have the length that its response declared, or that could not be read to its end. */
export class BodyError extends Error {
  override readonly name = 'BodyError'
}

/**
 * Writes a response to a `node:http` exchange, byte for byte what it declares.
 *
 * A body that breaks off, or is shorter or longer than its Content-Length, ends the connection with FIN after the bytes
 * that were good: containerd fails a pull on RST but resumes at the offset after FIN, and a short body on an open
 * connection hangs it (measured with containerd 1.7.24 and 2.2.0). What @hono/node-server does with such bodies differs
 * between runtimes and ends in a hang on some, which is why this is not left to it.
 *
 * @throws {BodyError} for a body that broke off; the connection is already being ended then. A client that went away is
 *   not an error.
 */
export async function send(response: Response, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const declared = response.headers.get('content-length')
  const length = declared === null ? undefined : Number(declared)
  const body = incoming.method === 'HEAD' ? undefined : bodyOf(response)
  if (incoming.method === 'HEAD') await response.body?.cancel()
  // The first chunk is read before the head is written, so that content that is not there (any more) can still be a 5xx.
  const first = await body?.next()
  outgoing.writeHead(response.status, headersOf(response))
  if (body === undefined || first === undefined || first.done) {
    if (body !== undefined && length !== undefined && length > 0) throw await breakOff(outgoing, `0 of ${length} bytes`)
    outgoing.end()
    return
  }
  let sent = 0
  try {
    // One chunk is on its way while the next one is read; the chunk after that waits for the first to have left.
    let leaving = Promise.resolve(true)
    for (let next: IteratorResult<Uint8Array> = first; !next.done; next = await body.next()) {
      const rest = length === undefined ? Number.POSITIVE_INFINITY : length - sent
      const chunk = next.value.byteLength <= rest ? next.value : next.value.subarray(0, rest)
      sent += chunk.byteLength
      const left = leaving
      leaving = write(outgoing, chunk)
      if (!(await left)) return
      if (chunk !== next.value) throw new BodyError(`the body is longer than the ${length} bytes declared`)
    }
    if (!(await leaving)) return
  } catch (cause) {
    if (outgoing.destroyed) return
    throw await breakOff(outgoing, `${sent} of ${length ?? 'unknown'} bytes`, cause)
  } finally {
    await body.return?.()
  }
  if (length !== undefined && sent < length) throw await breakOff(outgoing, `${sent} of ${length} bytes`)
  outgoing.end()
}

function bodyOf(response: Response): AsyncIterator<Uint8Array> | undefined {
  const part = filePartOf(response)
  if (part !== undefined) return readPart(part)
  return response.body?.[Symbol.asyncIterator]()
}

function headersOf(response: Response): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = Object.fromEntries(response.headers)
  const cookies = response.headers.getSetCookie()
  if (cookies.length > 0) headers['set-cookie'] = cookies
  return headers
}

/** Resolves when the system has taken the chunk, so that its memory can be used again: false if the client went away. */
function write(outgoing: ServerResponse, chunk: Uint8Array): Promise<boolean> {
  if (outgoing.destroyed) return Promise.resolve(false)
  return new Promise((resolve) => {
    const closed = () => resolve(false)
    outgoing.once('close', closed)
    outgoing.write(chunk, (error) => {
      outgoing.off('close', closed)
      resolve(error === undefined || error === null)
    })
  })
}

/** Ends the connection with FIN once the bytes written so far have left, and gives the error that says why. */
async function breakOff(outgoing: ServerResponse, progress: string, cause?: unknown): Promise<BodyError> {
  outgoing.socket?.destroySoon()
  return new BodyError(`the body broke off after ${progress}`, { cause })
}
