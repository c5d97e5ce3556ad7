import type { ByteSource } from '../../platform/byte-source.ts'
import { ProtocolError } from '../../platform/http-head.ts'
import { PeerError } from '../error.ts'

/**
 * The body of an answer, in the memory of its connection. A chunk is good until the next one is asked for or the body is
 * cancelled, and only then is the connection free, even after the last chunk. Fails with a PeerError if the body breaks off or
 * was cancelled.
 *
 * @param length of the body in bytes
 * @param rest bytes that came with the head
 * @param over called once, when the connection is not needed any more; says whether it stands at the end of this message
 */
export function messageBody(
  connection: ByteSource,
  length: number,
  rest: Uint8Array,
  over: (isUsable: boolean) => void,
): ByteSource {
  /** How many bytes the reader has not got yet. */
  let left = length
  let waiting = rest
  let isOver = false
  // If the rest of the body has come already, the connection can be used again without reading it. A short body comes with its
  // head.
  const end = (): undefined => {
    if (isOver) return
    isOver = true
    over(waiting.length === left)
  }
  if (length === 0) end()
  return {
    async next() {
      try {
        if (left === 0) return end()
        if (isOver) throw new Error('the body was cancelled')
        if (waiting.length === 0) waiting = (await connection.next()) ?? waiting
        if (waiting.length === 0) throw new Error(`the connection ended ${left} bytes before the body`)
        const data = waiting.subarray(0, left)
        waiting = waiting.subarray(data.length)
        left -= data.length
        return data
      } catch (error) {
        end()
        throw peerErrorOf(error)
      }
    },
    async cancel() {
      end()
    },
  }
}

/** Turns a failure of a connection, or of the bytes on it, into a failure of the peer. */
export function peerErrorOf(error: unknown, where = ''): PeerError {
  if (error instanceof PeerError) return error
  const message = (error instanceof Error && error.message) || 'the connection broke'
  const failure = error instanceof ProtocolError ? 'invalid' : 'unreachable'
  return new PeerError(`${where}${message}`, { failure, cause: error })
}
