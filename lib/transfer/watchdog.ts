import type { ByteSource } from '../runtime/byte-source.ts'
import { type Clock, systemClock } from './clock.ts'
import { PeerError } from './peer-error.ts'

export interface WatchdogOptions {
  /** Milliseconds within which a byte must come while bytes are wanted. */
  readonly stallTimeout: number
  /** Milliseconds of waiting for bytes over which a rate is judged. */
  readonly window?: number
}

/** Long enough that a short jam of the network passes, in milliseconds. */
const WINDOW = 3_000
/** A peer is too slow below this part of the usual rate: another one will make up for the change soon. */
const SLOW_PART = 1 / 8
/** A rate says something about the peer only if most of the time went by waiting for it, not for the client. */
const MEASURABLE_PART = 0.5

/**
 * Watches one peer's body. Only the time in which somebody waits for a byte counts, so that a client that reads slowly is
 * never taken for a slow peer.
 *
 * A peer is too slow when, over a window of waiting, it gave less than an eighth of what peers usually give.
 */
export class Watchdog {
  readonly #body: ByteSource
  readonly #stallTimeout: number
  readonly #window: number
  readonly #usualRate: () => number | undefined
  readonly #clock: Clock
  readonly #startedAt: number
  #bytes = 0
  #waited = 0
  #windowBytes = 0
  #windowWaited = 0
  #tooSlow = false

  /** @param usualRate bytes per millisecond that peers usually give, if that is known */
  constructor(
    body: ByteSource,
    { stallTimeout, window = WINDOW }: WatchdogOptions,
    usualRate: () => number | undefined,
    clock: Clock = systemClock,
  ) {
    this.#body = body
    this.#stallTimeout = stallTimeout
    this.#window = window
    this.#usualRate = usualRate
    this.#clock = clock
    this.#startedAt = clock.now()
  }

  /** Whether the peer was too slow in the last full window. */
  get tooSlow(): boolean {
    return this.#tooSlow
  }

  /** What the peer gave in the milliseconds in which it was waited for; `undefined` if it was hardly ever waited for. */
  get measured(): { readonly bytes: number; readonly ms: number } | undefined {
    const all = this.#clock.now() - this.#startedAt
    return this.#waited < all * MEASURABLE_PART ? undefined : { bytes: this.#bytes, ms: this.#waited }
  }

  /**
   * The body's next chunk.
   *
   * @throws {PeerError} also when none comes in time; the body is cancelled then
   */
  async next(): Promise<Uint8Array | undefined> {
    const since = this.#clock.now()
    let stalled = false
    const cancelTimer = this.#clock.after(this.#stallTimeout, () => {
      stalled = true
      void this.#body.cancel()
    })
    try {
      const chunk = await this.#body.next()
      this.#count(chunk?.length ?? 0, this.#clock.now() - since)
      return chunk
    } catch (error) {
      if (stalled) throw new PeerError(`no byte within ${this.#stallTimeout} ms`, { failure: 'silent', cause: error })
      throw error
    } finally {
      cancelTimer()
    }
  }

  #count(bytes: number, ms: number): void {
    this.#bytes += bytes
    this.#waited += ms
    this.#windowBytes += bytes
    this.#windowWaited += ms
    if (this.#windowWaited < this.#window) return
    const usual = this.#usualRate()
    this.#tooSlow = usual !== undefined && this.#windowBytes / this.#windowWaited < usual * SLOW_PART
    this.#windowBytes = 0
    this.#windowWaited = 0
  }
}
