import type { IncomingMessage } from 'node:http'
import type { ByteSource } from '../runtime/byte-source.ts'
import { PeerError } from './peer-error.ts'

/**
 * Bytes that wait here before the connection is held up: about one read of Node's and Deno's. More of them made nothing
 * faster; Bun gives up to 512 KiB at once whatever is asked for.
 */
const READ_AHEAD = 64 * 1024

/**
 * The body of an answer, read with back-pressure. It flows from the first `next` on. Through `data` events and not through
 * the stream's iterator, which joins the pieces that wait into one new buffer.
 *
 * @param cancelled what is to happen to the message when the body is given up; whether reading has begun is told
 */
export function messageSource(message: IncomingMessage, cancelled: (begun: boolean) => void): ByteSource {
  const queue: Uint8Array[] = []
  let queued = 0
  let state: 'new' | 'flowing' | 'held' | 'ended' | 'cancelled' = 'new'
  let failure: PeerError | undefined
  let wake: (() => void) | undefined

  const tell = () => {
    wake?.()
    wake = undefined
  }
  const fail = (error?: Error) => {
    if (state === 'ended') return
    failure ??= new PeerError(error?.message || 'the connection broke', { cause: error })
    tell()
  }
  message.on('error', fail)
  message.on('close', () => fail())
  const begin = () => {
    state = 'flowing'
    message.on('data', (chunk: Uint8Array) => {
      if (chunk.length === 0) return
      queue.push(chunk)
      queued += chunk.length
      if (queued >= READ_AHEAD && state === 'flowing') {
        state = 'held'
        message.pause()
      }
      tell()
    })
    message.on('end', () => {
      if (state !== 'cancelled') state = 'ended'
      tell()
    })
  }
  const shift = () => {
    const chunk = queue.shift()
    if (chunk === undefined) return undefined
    queued -= chunk.length
    if (state === 'held' && queued < READ_AHEAD / 2) {
      state = 'flowing'
      message.resume()
    }
    return chunk
  }
  return {
    async next() {
      if (state === 'new') begin()
      for (;;) {
        if (state === 'cancelled') throw new PeerError('cancelled')
        const chunk = shift()
        if (chunk !== undefined) return chunk
        if (state === 'ended') return undefined
        if (failure !== undefined) throw failure
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    },
    async cancel() {
      if (state === 'cancelled') return
      const begun = state !== 'new'
      state = 'cancelled'
      queue.length = 0
      cancelled(begun)
      tell()
    },
  }
}
