import { until } from '../platform/abort.ts'
import { type Clock, systemClock } from '../platform/clock.ts'

/** Bounds the bytes per second of all bodies together. */
export type UploadRate = ReturnType<typeof createUploadRate>

/** How much may go out at once after a pause, in milliseconds of the rate: timers are late by less. */
const BURST = 50
/**
 * The size of a piece, in milliseconds of the rate: each of 64 transfers that share it gets one every 0.64 s, and none looks
 * dead to its peer.
 */
const SLICE = 10
const SMALLEST_SLICE = 1_024
const LARGEST_SLICE = 64 * 1_024

/**
 * A token bucket that all bodies draw from. Each draw is granted at once and waited for afterwards, so that draws get
 * their turn in the order in which they came, whatever their size.
 *
 * @param rate bytes per second
 */
export function createUploadRate(rate: number, clock: Clock = systemClock) {
  const slice = Math.min(Math.max(Math.floor((rate * SLICE) / 1_000), SMALLEST_SLICE), LARGEST_SLICE)
  const burst = Math.max((rate * BURST) / 1_000, slice)
  let available = burst
  let last = clock.now()

  /** Takes bytes out of the bucket, and gives the milliseconds until they have flowed in. */
  const draw = (bytes: number): number => {
    const time = clock.now()
    available = Math.min(available + ((time - last) * rate) / 1_000, burst) - bytes
    last = time
    return available >= 0 ? 0 : (-available * 1_000) / rate
  }

  const limited = (body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> => {
    const reader = body.getReader()
    const left = new AbortController()
    let chunk: Uint8Array = new Uint8Array()
    return new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          while (chunk.byteLength === 0) {
            const { done, value } = await reader.read()
            if (done) return controller.close()
            chunk = value
          }
          const piece = chunk.subarray(0, slice)
          chunk = chunk.subarray(slice)
          const time = draw(piece.byteLength)
          if (time > 0) await until(clock, clock.now() + time, left.signal)
          controller.enqueue(piece)
        },
        async cancel(reason) {
          left.abort(reason)
          await reader.cancel(reason)
        },
      },
      { highWaterMark: 0 },
    )
  }
  return {
    /** A response with the same head, and a body that comes no faster than its share. */
    limit(response: Response): Response {
      const { body, status, headers } = response
      return body === null ? response : new Response(limited(body), { status, headers })
    },
  }
}
