import { onAbort } from './abort.ts'
import { type ByteSource, byteSourceOf, NO_BODY } from './byte-source.ts'
import type { Client } from './client.ts'
import { serverAnswer } from './listener.ts'

/** A body whose length is not the declared one, or that could not be read or sent to its end. */
export class BodyError extends Error {
  override readonly name = 'BodyError'
}

/** Sends the response that `answer` returns. If that fails, it calls `onError`, and then sends a 500 or ends the connection. */
export async function respond(
  answer: () => Response | Promise<Response>,
  client: Client,
  onError: (error: unknown) => void,
): Promise<void> {
  try {
    await send(await answer(), client)
  } catch (error) {
    onError(error)
    if (client.headSent) return await client.cut()
    // If this fails too, the client has lost its connection, and nothing more can be sent.
    await send(serverAnswer(500, 'internal error; the log of this mirror has the cause\n'), client).catch(onError)
  }
}

/**
 * Writes a response, with exactly as many bytes as it declares.
 *
 * If a body breaks off, or is shorter or longer than its Content-Length, the connection ends with FIN after the good bytes:
 * containerd fails the pull on RST, resumes at the offset after FIN, and hangs on a short body if the connection stays open
 * (measured with containerd 1.7.24 and 2.2.0).
 *
 * A body that is not read to its end is cancelled, at once when the client leaves, even while the source is silent.
 *
 * @throws {BodyError} if the body broke off or the client does not take the response; the connection is already ending then. A
 *   client that leaves is no error.
 */
async function send(response: Response, client: Client): Promise<void> {
  const source = byteSourceOf(response)
  if (client.method === 'HEAD' || source === undefined) {
    await source?.cancel()
    client.writeHead(response.status, response.headers)
    await client.end()
  } else if (source === NO_BODY) {
    client.writeHead(response.status, response.headers)
    await client.cut()
  } else {
    // Nobody is left who could be told that cancelling the source failed.
    const abandon = () => source.cancel().catch(() => undefined)
    using _ = onAbort(client.signal, abandon)
    try {
      await sendBody(response, source, client)
    } catch (error) {
      if (!client.gone) throw error
    } finally {
      await abandon()
    }
  }
  if (client.stalled !== undefined) throw new BodyError(client.stalled)
}

async function sendBody(response: Response, source: ByteSource, client: Client): Promise<void> {
  const declared = response.headers.get('content-length')
  const length = declared === null ? Number.POSITIVE_INFINITY : Number(declared)
  // The head waits for the first chunk, so that content that cannot be read is still a 5xx.
  let chunk = await source.next()
  if (client.gone) return
  client.writeHead(response.status, response.headers)
  try {
    while (chunk !== undefined) {
      const good = chunk.subarray(0, Math.min(chunk.byteLength, length - client.sent))
      await client.write(good)
      if (good.byteLength < chunk.byteLength) throw new Error(`more than the ${length} bytes declared`)
      chunk = client.gone ? undefined : await source.next()
    }
    if (declared !== null && client.sent < length && !client.gone) throw new Error('the source ended')
  } catch (cause) {
    if (client.gone) return
    await client.cut()
    throw new BodyError(`the body broke off after ${client.sent} of ${declared ?? 'unknown'} bytes`, { cause })
  }
  await client.end()
}
