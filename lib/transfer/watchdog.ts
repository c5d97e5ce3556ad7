import { PeerError } from '../peers/error.ts'
import { patientClock } from '../peers/patient-clock.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Clock } from '../platform/clock.ts'

/** No byte for the time in which one should have come; the body is still open. */
export class StallError extends PeerError {
  /** Milliseconds for which bytes have been waited for in vain, in all. */
  readonly silentMs: number
  /** Since when that was so without anybody being told, as the clock says. */
  readonly since: number

  constructor(silentMs: number, since: number) {
    super(`no byte within ${silentMs} ms`, { failure: 'silent' })
    this.silentMs = silentMs
    this.since = since
  }
}

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
/**
 * The same before anybody knows what is usual, in bytes per millisecond: at 16 kB/s a layer of 30 MB takes half an hour, so
 * whoever gives less is worth a question to others.
 */
const LEAST_RATE = 16
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
  /** A read that was not answered in time. */
  #overdue: Promise<Uint8Array | undefined> | undefined
  #silentMs = 0
  #bytes = 0
  #waited = 0
  #windowBytes = 0
  #windowWaited = 0
  #slowWindows = 0

  /** @param usualRate bytes per millisecond that peers usually give, if that is known */
  constructor(
    body: ByteSource,
    { stallTimeout, window = WINDOW }: WatchdogOptions,
    usualRate: () => number | undefined,
    clock: Clock = patientClock,
  ) {
    this.#body = body
    this.#stallTimeout = stallTimeout
    this.#window = window
    this.#usualRate = usualRate
    this.#clock = clock
    this.#startedAt = clock.now()
  }

  /** In how many full windows in a row, up to now, the peer was too slow. */
  get slowWindows(): number {
    return this.#slowWindows
  }

  /** Whether there was any byte. */
  get hasGiven(): boolean {
    return this.#bytes > 0
  }

  /** What the peer gave in the milliseconds in which it was waited for; `undefined` if it was hardly ever waited for. */
  get measured(): { readonly bytes: number; readonly ms: number } | undefined {
    const all = this.#clock.now() - this.#startedAt
    return this.#waited < all * MEASURABLE_PART ? undefined : { bytes: this.#bytes, ms: this.#waited }
  }

  /**
   * The body's next chunk.
   *
   * @throws {StallError} when none comes in time. Nothing is lost by that: who asks again waits for the same chunk.
   * @throws {PeerError} what the body throws
   */
  async next(): Promise<Uint8Array | undefined> {
    const since = this.#clock.now()
    const reading = this.#overdue ?? this.#body.next()
    const stalled = Promise.withResolvers<never>()
    const cancelTimer = this.#clock.after(this.#stallTimeout, () => {
      this.#silentMs += this.#stallTimeout
      this.#overdue = reading
      // The body may be given up, and then nobody waits for this any more.
      reading.catch(() => undefined)
      stalled.reject(new StallError(this.#silentMs, since))
    })
    try {
      const chunk = await Promise.race([reading, stalled.promise])
      this.#overdue = undefined
      this.#silentMs = 0
      this.#count(chunk?.length ?? 0, this.#clock.now() - since)
      return chunk
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
    const least = usual === undefined ? LEAST_RATE : usual * SLOW_PART
    this.#slowWindows = this.#windowBytes / this.#windowWaited < least ? this.#slowWindows + 1 : 0
    this.#windowBytes = 0
    this.#windowWaited = 0
  }
}
