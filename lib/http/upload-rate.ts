import { OVER, until } from '../platform/abort.ts'
import { type ByteSource, byteSourceOf, sourceResponse } from '../platform/byte-source.ts'
import { type Clock, systemClock } from '../platform/clock.ts'

/** Bounds the bytes per second of all bodies together. */
export type UploadRate = ReturnType<typeof createUploadRate>

/**
 * How much may go out at once after a pause, in milliseconds of the rate. It makes up for late timers, which are late by less.
 */
const BURST = 50
/**
 * The size of a piece, in milliseconds of the rate: each of 64 transfers gets a piece every 0.64 s, so none looks dead to its
 * peer.
 */
const SLICE = 10
const SMALLEST_SLICE = 1_024
const LARGEST_SLICE = 64 * 1_024

/**
 * A token bucket that all bodies draw from. A draw takes its bytes at once, and the body waits afterwards until the bucket is
 * no longer overdrawn. So draws are served in the order in which they came, whatever their size.
 *
 * @param rate bytes per second
 */
export function createUploadRate(rate: number, clock: Clock = systemClock) {
  const slice = Math.min(Math.max(Math.floor((rate * SLICE) / 1_000), SMALLEST_SLICE), LARGEST_SLICE)
  const burst = Math.max((rate * BURST) / 1_000, slice)
  let available = burst
  let last = clock.now()

  /** Takes bytes out of the bucket, and returns the milliseconds until it is no longer overdrawn. */
  const draw = (bytes: number): number => {
    const time = clock.now()
    available = Math.min(available + ((time - last) * rate) / 1_000, burst) - bytes
    last = time
    return available >= 0 ? 0 : (-available * 1_000) / rate
  }

  const limited = (source: ByteSource): ByteSource => {
    const left = new AbortController()
    let rest: Uint8Array | undefined = new Uint8Array()
    return {
      async next() {
        while (rest?.byteLength === 0) rest = await source.next()
        if (rest === undefined) return undefined
        const piece = rest.subarray(0, slice)
        rest = rest.subarray(slice)
        const time = draw(piece.byteLength)
        if (time > 0) await until(clock, clock.now() + time, left.signal)
        return piece
      },
      async cancel() {
        left.abort(OVER)
        await source.cancel()
      },
    }
  }
  return {
    /** A response with the same head, and a body that is sent no faster than the rate allows. */
    limit(response: Response): Response {
      const { status, headers } = response
      const source = byteSourceOf(response)
      return source === undefined ? response : sourceResponse(limited(source), { status, headers })
    },
  }
}
